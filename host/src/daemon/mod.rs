//! All pipelines of one process: their control, their loops, and how both are started and stopped.
//!
//! # Layout
//! - `loop_spec`: one description of a loop; `supervisor`: runs any of them
//! - `main_loop`, `feedback_loop`, `replay_loop`: a plan turned into that description
//! - `controller_loop`: the one that decides for several daemons
//! - `running`: a pipeline as the rest of the daemon sees it
//!
//! A further loop is a file like these three, and a line that starts it.

mod controller_loop;
pub mod feedback_loop;
mod loop_spec;
mod main_loop;
mod replay_loop;
pub mod running;
mod supervisor;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, bail};
use sandpiper_sandbox::{Compiler, Engine};

use crate::config::daemon::Control;
use crate::config::plan::Plan;
use crate::control::command::{By, Refused};
use crate::control::fleet::Fleet;
use crate::control::opened::Slots;
use crate::control::staging::Stager;
use crate::control::{Controller, StateDirectory};
use crate::feedback::Figures;
use crate::replay::process::{self as replay, Progress, Replay, Request, Shared};
use crate::stream::hold::Hold;
use crate::stream::report::Publisher;
use crate::stream::slot::Slot;
use crate::stream::stop::Stop;
use crate::stream::worker::Handles;
use loop_spec::ClientNames;
use running::{RunningFeedback, RunningPipeline};
use supervisor::Supervisor;

/// What is the same for all pipelines.
#[derive(Clone)]
pub struct Options {
    pub state: PathBuf,
    /// Overrides the name that the state directory keeps.
    pub instance: Option<String>,
    /// Plugins are being developed: what fails stays.
    pub dev: bool,
    /// How plugins are compiled.
    pub compiler: Compiler,
    /// Where one daemon decides for several, through Kafka; only a daemon's own file can ask for it.
    pub control: Option<Control>,
}

/// Running pipelines.
pub struct Daemon {
    pub directory: Arc<StateDirectory>,
    pub stager: Arc<Stager>,
    pub pipelines: Vec<Arc<RunningPipeline>>,
    develops: bool,
    names: ClientNames,
    supervisor: Supervisor,
    is_started: AtomicBool,
    /// Where one decides for several.
    pub fleet: Option<Arc<Fleet>>,
    /// Of the loop that may decide for them.
    pub controller: Publisher,
}

impl Daemon {
    /// Reads what is remembered of every pipeline. Nothing is staged and nothing runs yet, and the daemon can be asked
    /// how it is, and stopped.
    ///
    /// # Errors
    /// When the state directory or the sandbox is unusable.
    pub fn open(plans: Vec<Plan>, options: &Options) -> Result<Self> {
        let directory = Arc::new(StateDirectory::open(&options.state, options.instance.as_deref())?);
        let engine = Engine::new(Some(&directory.path().join("code")), options.compiler.clone())?;
        let fleet = options.control.clone().map(|control| Fleet::new(control, &directory)).transpose()?.map(Arc::new);
        let mut daemon = Self {
            fleet,
            controller: Publisher::default(),
            stager: Arc::new(Stager::new(engine, directory.clone())),
            names: ClientNames::new(directory.instance()),
            directory,
            pipelines: Vec::new(),
            develops: options.dev,
            supervisor: Supervisor::default(),
            is_started: AtomicBool::new(false),
        };
        for plan in plans {
            if let Err(error) = daemon.add(plan) {
                daemon.stop();
                return Err(error);
            }
        }
        Ok(daemon)
    }

    /// Stages every pipeline, then starts its loops. Brokers need not be there yet. A stop meanwhile ends it.
    ///
    /// # Errors
    /// Every stage that is unusable, of every pipeline: then nothing runs.
    pub fn start(&self) -> Result<()> {
        if let Some(fleet) = &self.fleet {
            self.join(fleet)?;
        }
        // All are staged before one starts: a mistake in the last must not stop the first in its tracks.
        let mut unfit = Vec::new();
        for pipeline in &self.pipelines {
            match pipeline.controller.settle() {
                Err(Refused::Stopping) => bail!(Refused::Stopping),
                Err(refused) => unfit.push(refused.to_string()),
                Ok(()) => {}
            }
        }
        if !unfit.is_empty() {
            bail!("{}", unfit.join("\n"));
        }
        for pipeline in &self.pipelines {
            let plan = &pipeline.controller.plan;
            for handles in &pipeline.workers {
                self.supervisor.start(main_loop::spec(plan, &self.names, handles.clone())?)?;
            }
            if let (Some(feedback), Some(running)) = (&plan.feedback, &pipeline.feedback) {
                let instance = self.directory.instance();
                self.supervisor.start(feedback_loop::spec(plan, feedback, &self.names, instance, running)?)?;
            }
        }
        self.is_started.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Hears from now on what is decided for all daemons, and may come to be the one that decides.
    fn join(&self, fleet: &Arc<Fleet>) -> Result<()> {
        let subscribers =
            self.pipelines.iter().map(|pipeline| (pipeline.name().to_owned(), pipeline.controller.news())).collect();
        self.supervisor.keep(fleet.follow(subscribers, self.supervisor.stop_of_one())?);
        let handles = Handles {
            worker: 0,
            slot: Arc::new(Slot::new()?),
            stop: self.supervisor.stop_of_one(),
            hold: Arc::new(Hold::new(false, |_| {})),
            report: self.controller.clone(),
        };
        let instance = self.directory.instance();
        self.supervisor.start_beside(controller_loop::spec(&fleet.control, instance, fleet.standing.clone(), handles))
    }

    /// Whether every pipeline was staged and its loops were started.
    pub fn is_started(&self) -> bool {
        self.is_started.load(Ordering::Relaxed)
    }

    /// A pipeline's control, and what its workers will share with it.
    fn add(&mut self, plan: Plan) -> Result<()> {
        let plan = Arc::new(plan);
        let slots = (0..plan.limits.workers).map(|_| Slot::new().map(Arc::new)).collect::<std::io::Result<Vec<_>>>()?;
        let reports: Vec<Publisher> = slots.iter().map(|_| Publisher::default()).collect();
        let feedback = plan.feedback.as_ref().map(|_| Slot::new().map(Arc::new)).transpose()?;
        let figures = Figures::default();
        let observed = Box::new(running::Observer { reports: reports.clone(), figures: figures.clone() });
        let (controller, thread) = Controller::start(
            plan.clone(),
            self.stager.clone(),
            self.directory.clone(),
            self.fleet.clone(),
            Slots { workers: slots.clone(), feedback: feedback.clone() },
            observed,
            self.develops,
        )?;
        self.supervisor.keep(thread);
        let workers = slots
            .into_iter()
            .zip(reports)
            .enumerate()
            .map(|(worker, (slot, report))| Handles {
                worker,
                slot,
                stop: self.supervisor.stop_of_one(),
                hold: controller.holds.main.clone(),
                report,
            })
            .collect();
        self.pipelines.push(Arc::new(RunningPipeline {
            workers,
            feedback: feedback.map(|slot| RunningFeedback {
                handles: Handles {
                    worker: 0,
                    slot,
                    stop: self.supervisor.stop_of_one(),
                    hold: controller.holds.feedback.clone(),
                    report: Publisher::default(),
                },
                figures,
            }),
            controller,
            replay: Shared::default(),
        }));
        Ok(())
    }

    pub fn pipeline(&self, name: &str) -> Option<&Arc<RunningPipeline>> {
        self.pipelines.iter().find(|pipeline| pipeline.name() == name)
    }

    /// Replays dead letters in the background; `pipeline.replay` says how far it is. A dry run answers what would be. It ends,
    /// and so does the reading before a replay, when its caller has gone.
    ///
    /// # Errors
    /// When one runs already, the dead letters cannot be read, or one of them cannot go through this pipeline.
    pub fn replay(
        &self,
        pipeline: &RunningPipeline,
        request: &Request,
        by: Option<By>,
        caller_has_gone: &Stop,
    ) -> Result<Progress> {
        if !pipeline.replay.begin() {
            bail!("a replay of pipeline {}'s dead letters runs already", pipeline.name());
        }
        let noted = if request.dry_run { Ok(()) } else { pipeline.controller.note_replay(by).map(drop) };
        let start = || noted.map_err(Into::into).and_then(|()| self.start_replay(pipeline, request, caller_has_gone));
        // One that runs for ever in the eyes of those after it would keep them all out.
        let started = catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|_| {
            Err(anyhow!("the replay panicked, which is a mistake of Sandpiper's own; the log says where"))
        });
        match &started {
            Ok(progress) if progress.running => {}
            Ok(progress) => pipeline.replay.change(|shared| *shared = progress.clone()),
            Err(_) => pipeline.replay.change(|shared| *shared = Progress::default()),
        }
        started
    }

    fn start_replay(&self, running: &RunningPipeline, request: &Request, caller_has_gone: &Stop) -> Result<Progress> {
        let mut plan = Plan::clone(&running.controller.plan);
        let mut pipeline = running.controller.open()?;
        let stop = self.supervisor.stop_of_one();
        let told = |progress: &Progress| {
            running.replay.change(|shared| *shared = Progress { running: true, ..progress.clone() });
            !stop.is_set() && !caller_has_gone.is_set()
        };
        if request.dry_run {
            return replay::rehearse(&mut pipeline, &plan, request, told);
        }
        let selected = replay::select(&plan, request, told, |_, _| {})?;
        let mut progress = selected.progress;
        if progress.selected == 0 {
            return Ok(progress);
        }
        progress.running = true;
        running.replay.change(|shared| *shared = progress.clone());
        // A rate is kept within a transaction's time.
        if let Some(rate) = request.rate {
            plan.limits.batch_records = plan.limits.batch_records.min(rate.div_ceil(2).max(1) as usize);
        }
        let shared = running.replay.clone();
        let process =
            Replay::new(pipeline, Arc::new(plan.clone()), selected.letters, shared, stop.clone(), request.rate);
        let handles = Handles {
            worker: 0,
            slot: Arc::new(Slot::new()?),
            hold: Arc::new(replay_loop::hold(running.replay.clone(), stop.clone())),
            report: Publisher::default(),
            stop,
        };
        self.supervisor.start(replay_loop::spec(plan, &self.names, process, handles, running.replay.clone()))?;
        Ok(progress)
    }

    /// Whether a loop has failed for good and none runs any more: then this process is of no use until a person has helped.
    pub fn has_failed(&self) -> bool {
        self.is_started() && self.supervisor.has_failed()
    }

    /// Tells every loop to finish its transaction and to leave its group, and waits for it.
    pub fn stop(&self) {
        self.supervisor.stop();
        self.pipelines.iter().for_each(|pipeline| pipeline.controller.end());
        self.supervisor.join();
    }
}
