//! All pipelines of one process: threads, their clients, and what becomes of a worker that cannot go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::config::plan::{Guarantee, Plan, Properties, Start};
use crate::control::controller::Controller;
use crate::control::staging::{Stager, limits, sink_topics};
use crate::control::state::State;
use crate::feedback::{self, Feedback};
use crate::kafka::properties::{self, Assignor};
use crate::kafka::sink::{Placement, SinkSettings, SinkTopic};
use crate::kafka::source::BatchLimits;
use crate::kafka::{KafkaSink, KafkaSource, members, topics};
use crate::record::{Routes, Topics};
use crate::replay::process::{self as replay, Progress, Replay, Request};
use crate::stream::backoff::Backoff;
use crate::stream::brake::{Brake, Word};
use crate::stream::clock::SystemClock;
use crate::stream::fault::Fault;
use crate::stream::process::Process;
use crate::stream::report::{Publisher, WorkerState};
use crate::stream::slot::Slot;
use crate::stream::state::Empty;
use crate::stream::worker::{Control, Worker};
use sandpiper_sandbox::Engine;
use sandpiper_sandbox::stage::WasmScorer;

/// Between two attempts to start a worker.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// What is the same for all pipelines.
#[derive(Clone, Debug)]
pub struct Options {
    pub state: PathBuf,
    /// Overrides the name that the state directory keeps.
    pub instance: Option<String>,
}

/// Running pipelines.
pub struct Daemon {
    pub state: Arc<State>,
    pub stager: Arc<Stager>,
    pub pipelines: Vec<Arc<Controller>>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Daemon {
    /// Stages every pipeline, then starts its workers. Brokers need not be there yet.
    ///
    /// # Errors
    /// When the state directory, the sandbox or a deployment is unusable.
    pub fn start(plans: Vec<Plan>, options: &Options) -> Result<Self> {
        let state = Arc::new(State::open(&options.state, options.instance.as_deref())?);
        let engine = Engine::new(Some(&state.path().join("code")))?;
        let stager = Arc::new(Stager::new(engine, state.clone()));
        let mut daemon = Self { state, stager, pipelines: Vec::new(), stop: Arc::default(), threads: Mutex::default() };
        // All are staged before one starts: a mistake in the last must not stop the first in its tracks.
        let mut staged = Vec::new();
        for plan in plans {
            staged.push(Controller::start(plan, daemon.stager.clone(), daemon.state.clone())?);
        }
        for (controller, pipelines, words) in staged {
            let controller = Arc::new(controller);
            for (at, pipeline) in pipelines.into_iter().enumerate() {
                daemon.start_worker(&controller, at, pipeline)?;
            }
            daemon.start_feedback(&controller)?;
            let control = controller.clone();
            let thread = std::thread::Builder::new().name(format!("{}/control", controller.plan.name));
            daemon.keep(thread.spawn(move || control.listen(&words))?);
            daemon.pipelines.push(controller);
        }
        Ok(daemon)
    }

    pub fn pipeline(&self, name: &str) -> Option<&Arc<Controller>> {
        self.pipelines.iter().find(|controller| controller.plan.name == name)
    }

    fn start_worker(&mut self, controller: &Controller, at: usize, pipeline: crate::pipeline::Pipeline) -> Result<()> {
        let plan = &controller.plan;
        let (Some(slot), Some(report)) = (controller.slots.get(at), controller.reports.get(at)) else { return Ok(()) };
        let topics = Topics::new(&plan.input.topics);
        let spec = Spec {
            name: format!("{}/{at}", plan.name),
            source: self.named(plan, properties::consumer(plan, &plan.input.group, Assignor::CooperativeSticky)),
            start: plan.input.start,
            topics: topics.clone(),
            sink: SinkSettings {
                properties: self.named(plan, properties::producer(plan)),
                transactional_id: self.transactional_id(plan, "main", at),
                topics: sink_topics(plan),
                inputs: topics,
                group: plan.input.group.clone(),
            },
            plan: plan.clone(),
        };
        let (stop, brake) = (self.stop.clone(), controller.brake.clone());
        self.spawn(spec, pipeline, Control { slot: slot.clone(), stop, brake, report: report.clone() })
    }

    fn start_feedback(&mut self, controller: &Controller) -> Result<()> {
        let plan = &controller.plan;
        let (Some(feedback), Some(report)) = (&plan.feedback, &controller.feedback) else { return Ok(()) };
        let release = self.stager.release(&feedback.score)?;
        let scorer = WasmScorer::open(self.stager.plugin(&release)?, limits(plan), self.stager.opening(&release)?)
            .with_context(|| format!("pipeline {}, stage score", plan.name))?;
        let (topics, [predictions, _]) = Topics::of([&plan.output.topic, &feedback.labels]);
        let settings = feedback::Settings::new(feedback, plan, predictions, self.state.instance(), release.label());
        let spec = Spec {
            name: format!("{}/feedback", plan.name),
            source: self.named(plan, properties::consumer(plan, &feedback.group, Assignor::Range)),
            start: Start::Earliest,
            topics: topics.clone(),
            sink: SinkSettings {
                properties: self.named(plan, properties::producer(plan)),
                transactional_id: self.transactional_id(plan, "feedback", 0),
                topics: Routes {
                    output: SinkTopic { name: feedback.scores.clone(), placement: Placement::Input },
                    dead_letters: SinkTopic { name: plan.errors.dead_letters.clone(), placement: Placement::Folded },
                    named: Vec::new(),
                },
                inputs: topics,
                group: feedback.group.clone(),
            },
            plan: plan.clone(),
        };
        // Judging goes on while the pipeline pauses.
        let brake = Arc::new(Brake::new(None).0);
        let control = Control { slot: Arc::new(Slot::new()?), stop: self.stop.clone(), brake, report: report.clone() };
        self.spawn(
            spec,
            Feedback::new(settings, Box::new(scorer), Box::new(Empty), controller.figures.clone()),
            control,
        )
    }

    /// Replays dead letters in the background; `controller.replay` says how far it is. A dry run answers what would be.
    ///
    /// # Errors
    /// When one runs already, the dead letters cannot be read, or one of them cannot go through this pipeline.
    pub fn replay(&self, controller: &Controller, request: &Request) -> Result<Progress> {
        let plan = &controller.plan;
        let mut busy = false;
        controller.replay.change(|progress| {
            busy = progress.running;
            if !busy {
                *progress = Progress { running: true, ..Progress::default() };
            }
        });
        if busy {
            bail!("a replay of pipeline {}'s dead letters runs already", plan.name);
        }
        let started = self.start_replay(controller, request);
        match &started {
            Ok(progress) if progress.running => {}
            Ok(progress) => controller.replay.change(|shared| *shared = progress.clone()),
            Err(_) => controller.replay.change(|shared| *shared = Progress::default()),
        }
        started
    }

    fn start_replay(&self, controller: &Controller, request: &Request) -> Result<Progress> {
        let mut plan = Plan::clone(&controller.plan);
        let mut pipeline = controller.open()?;
        let mut kept = Vec::new();
        let selected = replay::select(&plan, request, |letter| {
            if request.dry_run {
                kept.push(letter);
            }
        })?;
        let mut progress = selected.progress;
        if request.dry_run {
            replay::rehearse(&mut pipeline, &kept, &mut progress);
            return Ok(progress);
        }
        if progress.selected == 0 {
            return Ok(progress);
        }
        progress.running = true;
        controller.replay.change(|shared| *shared = progress.clone());
        // What fails again is expected to: it pauses nothing, and a rate is kept within a transaction's time.
        plan.errors.pause_above = 1.0;
        if let Some(rate) = request.rate {
            plan.limits.batch_records = plan.limits.batch_records.min(rate.div_ceil(2).max(1) as usize);
        }
        let group = format!("sandpiper.{}.replay.{}", plan.name, uuid::Uuid::new_v4());
        let mut topics = sink_topics(&plan);
        for topic in topics.iter_mut() {
            if topic.placement == Placement::Input {
                // The record's own partition; the dead letters' topic may have fewer.
                topic.placement = Placement::Folded;
            }
        }
        let inputs = Topics::new([&plan.errors.dead_letters]);
        let spec = Spec {
            name: format!("{}/replay", plan.name),
            source: self.named(&plan, properties::consumer(&plan, &group, Assignor::Range)),
            start: Start::Earliest,
            topics: inputs.clone(),
            sink: SinkSettings {
                properties: self.named(&plan, properties::producer(&plan)),
                transactional_id: self.transactional_id(&plan, "replay", 0),
                topics,
                inputs,
                group,
            },
            plan: plan.into(),
        };
        let (brake, words) = Brake::new(None);
        let (brake, stop, report) = (Arc::new(brake), Arc::<AtomicBool>::default(), Publisher::default());
        let control = Control { slot: Arc::new(Slot::new()?), stop: stop.clone(), brake, report };
        let process = Replay::new(pipeline, selected.letters, controller.replay.clone(), stop, request.rate);
        let (all_stop, shared) = (self.stop.clone(), controller.replay.clone());
        let thread = std::thread::Builder::new().name(spec.name.clone());
        self.keep(thread.spawn(move || watch_replay(spec, process, &control, &words, &all_stop, &shared))?);
        Ok(progress)
    }

    /// What a pipeline's clients are given, with a name that tells this daemon from others unless the user chose one.
    fn named(&self, plan: &Plan, mut properties: Properties) -> Properties {
        if !plan.kafka.0.contains_key("client.id") {
            properties.0.insert("client.id".into(), members::client_id(self.state.instance()));
        }
        properties
    }

    fn transactional_id(&self, plan: &Plan, the_loop: &str, slot: usize) -> Option<String> {
        let exactly_once = plan.delivery.guarantee == Guarantee::ExactlyOnce;
        exactly_once.then(|| format!("{}.{the_loop}.{}.{slot}", plan.name, self.state.instance()))
    }

    fn spawn<P: Process>(&mut self, spec: Spec, process: P, control: Control<P>) -> Result<()> {
        let thread = std::thread::Builder::new().name(spec.name.clone());
        let handle = thread.spawn(move || supervise(&spec, process, &control))?;
        self.keep(handle);
        Ok(())
    }

    fn keep(&self, thread: JoinHandle<()>) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    /// Tells every worker to finish its transaction and to leave its group, and waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.pipelines.iter().for_each(|controller| controller.brake.say(Word::End));
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker's thread panicked");
            }
        }
    }
}

/// Runs a replay's worker until it is done, its release fails, or the daemon ends.
fn watch_replay(
    spec: Spec,
    process: Replay,
    control: &Control<Replay>,
    words: &mpsc::Receiver<Word>,
    all_stop: &AtomicBool,
    shared: &replay::Shared,
) {
    let error = std::thread::scope(|scope| {
        let worker = scope.spawn(|| supervise(&spec, process, control));
        let mut error = None;
        while !worker.is_finished() {
            match words.recv_timeout(Duration::from_millis(100)) {
                Ok(Word::Failed { why, .. }) => error = Some(why),
                Ok(Word::Paused) => error = control.brake.paused().map(|pause| pause.why),
                _ if all_stop.load(Ordering::Relaxed) => error = Some("the daemon stopped".into()),
                _ => continue,
            }
            control.stop.store(true, Ordering::Relaxed);
        }
        let report = control.report.latest();
        error.or_else(|| report.last_error.clone().filter(|_| report.state == WorkerState::Failed))
    });
    shared.change(|progress| {
        progress.running = false;
        progress.error = error;
    });
}

/// What one worker is made of, as often as it has to be made.
struct Spec {
    name: String,
    plan: Arc<Plan>,
    source: Properties,
    start: Start,
    topics: Topics,
    sink: SinkSettings,
}

/// Keeps one worker running: connects, runs, and after a fault that the worker cannot mend tries again, unless only
/// a person can help.
fn supervise<P: Process>(spec: &Spec, process: P, control: &Control<P>) {
    let mut process = process;
    let mut backoff = BACKOFF;
    while !control.stop.load(Ordering::Relaxed) {
        let fault = match connect(spec) {
            Ok((source, sink)) => {
                let bounds = (&*spec.plan).into();
                let mut worker =
                    Worker::new(source, sink, SystemClock, process, control.clone(), bounds, spec.topics.clone());
                let result = worker.run();
                process = worker.into_process();
                backoff.reset();
                match result {
                    Ok(()) => return,
                    Err(fault) => fault,
                }
            }
            Err(fault) => fault,
        };
        let is_final = matches!(fault, Fault::Configuration(_));
        control.report.amend(|report| {
            report.state = if is_final { WorkerState::Failed } else { WorkerState::Starting };
            report.revision = process.revision();
            report.partitions.clear();
            report.last_error = Some(fault.to_string());
        });
        if is_final {
            tracing::error!(worker = spec.name, %fault, "the worker stops; mend the cause and start the daemon anew");
            return;
        }
        tracing::warn!(worker = spec.name, %fault, "the worker cannot start; trying again");
        wait(backoff.failed(), &control.stop);
    }
}

/// Producer first: when it is there, no transaction of an earlier holder of its id is open any more.
fn connect(spec: &Spec) -> Result<(KafkaSource, KafkaSink), Fault> {
    let problems = topics::problems(&spec.plan)?;
    if !problems.is_empty() {
        // Topics may still be made: this is waited for, and said.
        return Err(Fault::Unknown(problems.join("; ")));
    }
    let sink = KafkaSink::new(spec.sink.clone())?;
    let limits = &spec.plan.limits;
    let batch = BatchLimits { records: limits.batch_records, bytes: limits.batch_bytes };
    let source = KafkaSource::new(&spec.source, spec.topics.clone(), spec.start, batch)?;
    Ok((source, sink))
}

/// Sleeps, but not through a stop.
fn wait(time: Duration, stop: &AtomicBool) {
    let slice = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(slice.min(left));
        left = left.saturating_sub(slice);
    }
}
