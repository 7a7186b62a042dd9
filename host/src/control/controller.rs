//! One pipeline's deployments: what runs, what is to run next, and how it got there.
//!
//! A change is staged completely — compiled, opened, checked for every worker — before anything that runs is touched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::config::plan::{self, Plan, PluginRef};
use crate::control::deployment::{Deployment, Release, Releases};
use crate::control::staging::Stager;
use crate::control::state::{History, State};
use crate::feedback::Figures;
use crate::pipeline::Pipeline;
use crate::record::Revision;
use crate::replay::process as replay_process;
use crate::stream::brake::{Brake, Cause, Pause, Word};
use crate::stream::clock::{Clock as _, SystemClock};
use crate::stream::process::Trial;
use crate::stream::report::{Publisher, WorkerState};
use crate::stream::slot::Slot;
use sandpiper_sandbox::Digest;

/// How long a deployment waits to be taken by every running worker before it answers.
const TAKEN: Duration = Duration::from_secs(10);

/// A change of what a pipeline runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// By stage: `transform[0]`, `parse`, `classify`.
    pub stages: BTreeMap<String, StageChange>,
    pub reason: String,
    /// The revision that the change was made against; it is refused when another one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_revision: Option<u64>,
}

/// A change of what a stage runs; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginChange>,
    /// An artifact that the daemon keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// Keys to set; null removes one.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PluginChange {
    /// One of those that are built in.
    Stock(String),
    /// An artifact that the daemon keeps, and its name for people.
    Artifact { name: String, digest: Digest },
}

/// What came of a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployed {
    pub pipeline: String,
    #[serde(flatten)]
    pub deployment: Deployment,
    /// Whether every running worker had taken it when this was answered.
    pub taken: bool,
}

/// A pipeline's control plane.
pub struct Controller {
    pub plan: Arc<Plan>,
    stager: Arc<Stager>,
    state: Arc<State>,
    history: Mutex<History>,
    /// Of the main loop, by worker.
    pub slots: Vec<Arc<Slot<Pipeline>>>,
    pub reports: Vec<Publisher>,
    /// Of the feedback loop.
    pub feedback: Option<Publisher>,
    pub figures: Figures,
    pub brake: Arc<Brake>,
    /// The last replay of dead letters, running or done.
    pub replay: replay_process::Shared,
}

impl Controller {
    /// Settles what the pipeline runs — the file's wish when it changed since it was last applied, else the last
    /// deployment — and opens it for every worker.
    ///
    /// # Errors
    /// When the deployment cannot be staged or remembered.
    pub fn start(
        plan: Plan,
        stager: Arc<Stager>,
        state: Arc<State>,
    ) -> Result<(Self, Vec<Pipeline>, mpsc::Receiver<Word>)> {
        let mut history = state.history(&plan.name)?;
        let wanted = stager.releases(&plan).with_context(|| format!("pipeline {}", plan.name))?;
        let is_applied = history.applied == Some(wanted.digest());
        let deployment = match history.current() {
            Some(current) if is_applied => current.clone(),
            current => Deployment {
                revision: current.map_or(Revision::FIRST, |current| current.revision.next()),
                releases: wanted.clone(),
                reason: format!("applied from {}", plan.file.display()),
                at: SystemClock.unix_ms(),
                on_probation: true,
                failed: None,
            },
        };
        let mut next = history.clone();
        if !is_applied {
            next.applied = Some(wanted.digest());
            next.deployments.push(deployment);
        }
        let pipelines = stage(&stager, &plan, &next)?;
        if next != history {
            state.set_history(&plan.name, &mut next)?;
            history = next;
        }
        let (brake, words) = Brake::new(history.paused.clone());
        let slots = (0..plan.limits.workers).map(|_| Slot::new().map(Arc::new)).collect::<std::io::Result<_>>()?;
        let reports = (0..plan.limits.workers).map(|_| Publisher::default()).collect();
        let controller = Self {
            feedback: plan.feedback.as_ref().map(|_| Publisher::default()),
            figures: Figures::default(),
            brake: Arc::new(brake),
            replay: replay_process::Shared::default(),
            plan: Arc::new(plan),
            stager,
            state,
            history: Mutex::new(history),
            slots,
            reports,
        };
        Ok((controller, pipelines, words))
    }

    pub fn history(&self) -> History {
        self.locked().clone()
    }

    pub fn revision(&self) -> Option<Revision> {
        self.locked().current().map(|current| current.revision)
    }

    fn locked(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages a change beside what runs and hands it to every worker.
    ///
    /// # Errors
    /// When it is unfit: then nothing changed, and what runs never stopped.
    pub fn deploy(&self, change: &Change) -> Result<Deployed> {
        ensure!(!change.reason.trim().is_empty(), "a deployment needs a reason: --reason TEXT");
        ensure!(!change.stages.is_empty(), "the deployment changes nothing: name a plugin, a model or a configuration");
        let mut history = self.locked();
        let current = current(&history)?;
        if let Some(expected) = change.expected_revision
            && expected != current.revision.get()
        {
            bail!(
                "pipeline {} runs revision {}, and the change was made against {expected}: look again",
                self.plan.name,
                current.revision
            );
        }
        let mut releases = current.releases.clone();
        for (stage, change) in &change.stages {
            let release = self.release_of(&mut releases, stage)?;
            self.apply(release, change).with_context(|| format!("pipeline {}, stage {stage}", self.plan.name))?;
        }
        ensure!(
            releases.digest() != current.releases.digest(),
            "pipeline {} runs exactly this already, as revision {}",
            self.plan.name,
            current.revision
        );
        self.advance(&mut history, releases, change.reason.clone(), true)
    }

    /// Goes back to what the previous revision ran, as a new revision.
    ///
    /// # Errors
    /// When there is no previous revision, or it cannot be staged any more.
    pub fn undo(&self, reason: &str) -> Result<Deployed> {
        let mut history = self.locked();
        let current = current(&history)?;
        let Some(previous) = history.previous() else {
            bail!(
                "pipeline {} has no revision before {} that ran something else and did not fail: there is nothing to go back to",
                self.plan.name,
                current.revision
            );
        };
        let reason = if reason.trim().is_empty() { "undo" } else { reason };
        let reason = format!("{reason} (back to what revision {} ran)", previous.revision);
        let releases = previous.releases.clone();
        self.advance(&mut history, releases, reason, false)
    }

    /// What runs now, opened once more.
    ///
    /// # Errors
    /// When it cannot be opened any more.
    pub fn open(&self) -> Result<Pipeline> {
        let history = self.locked();
        let deployment = current(&history)?;
        self.stager.open(&self.plan, &deployment.releases, deployment.revision)
    }

    /// Holds the pipeline between two transactions, also after a restart.
    ///
    /// # Errors
    /// When it is paused already, or that cannot be remembered.
    pub fn pause(&self, reason: &str) -> Result<Pause> {
        if let Some(pause) = self.brake.paused() {
            bail!("pipeline {} is paused already: {}", self.plan.name, pause.why);
        }
        let why = if reason.trim().is_empty() { "somebody asked for it" } else { reason };
        let pause =
            Pause { at: SystemClock.unix_ms(), cause: Cause::Operator, why: why.to_owned(), reasons: BTreeMap::new() };
        self.brake.pause(pause.clone());
        self.remember_pause(Some(pause.clone()))?;
        Ok(pause)
    }

    /// Goes on where the pipeline was paused.
    ///
    /// # Errors
    /// When it is not paused, or that cannot be remembered.
    pub fn resume(&self) -> Result<Pause> {
        let Some(pause) = self.brake.paused() else { bail!("pipeline {} is not paused", self.plan.name) };
        self.remember_pause(None)?;
        self.brake.release();
        Ok(pause)
    }

    fn remember_pause(&self, pause: Option<Pause>) -> Result<()> {
        let mut history = self.locked();
        let mut next = history.clone();
        next.paused = pause;
        self.state.set_history(&self.plan.name, &mut next)?;
        *history = next;
        Ok(())
    }

    /// Heeds what the workers say until the daemon ends.
    pub fn listen(&self, words: &mpsc::Receiver<Word>) {
        for word in words {
            let heeded = match word {
                Word::End => return,
                Word::Paused => self.remember_pause(self.brake.paused()),
                Word::Proven { revision } => self.trust(revision),
                Word::Failed { revision, why } => self.replace(revision, why),
            };
            if let Err(error) = heeded {
                tracing::error!(pipeline = self.plan.name, "{error:#}");
            }
        }
    }

    /// A revision that has passed its probation is not taken back any more.
    fn trust(&self, revision: u64) -> Result<()> {
        let mut history = self.locked();
        let mut next = history.clone();
        match next.deployments.last_mut() {
            Some(current) if current.revision.get() == revision && current.on_probation => current.on_probation = false,
            _ => return Ok(()),
        }
        self.state.set_history(&self.plan.name, &mut next)?;
        *history = next;
        Ok(())
    }

    /// Takes a failed revision back, or pauses when there is nothing to go back to.
    fn replace(&self, revision: u64, why: String) -> Result<()> {
        let label = |history: &History| {
            let stages = history.current().map(|current| current.releases.iter().map(|(_, release)| release.label()));
            stages.into_iter().flatten().collect::<Vec<_>>().join(", ")
        };
        let gone = {
            let mut history = self.locked();
            let current = current(&history)?;
            if current.revision.get() != revision {
                // It was replaced in the meantime: what runs next waits in the slots.
                self.brake.decided();
                return Ok(());
            }
            let failed = format!("revision {revision} ({}) failed: {why}", label(&history));
            match history.previous().filter(|_| current.on_probation).cloned() {
                None => failed,
                Some(previous) => {
                    let mut marked = history.clone();
                    if let Some(current) = marked.deployments.last_mut() {
                        current.failed = Some(why);
                    }
                    let reason = format!("{failed}; back to what revision {} ran", previous.revision);
                    match self.advance(&mut marked, previous.releases, reason, false) {
                        Ok(_) => {
                            *history = marked;
                            self.brake.decided();
                            return Ok(());
                        }
                        Err(error) => {
                            format!("{failed}; and revision {} cannot take over: {error:#}", previous.revision)
                        }
                    }
                }
            }
        };
        tracing::error!(pipeline = self.plan.name, "{gone}; the pipeline pauses");
        let at = SystemClock.unix_ms();
        self.brake.pause(Pause { at, cause: Cause::Release, why: gone, reasons: BTreeMap::new() });
        Ok(())
    }

    fn release_of<'a>(&self, releases: &'a mut Releases, stage: &str) -> Result<&'a mut Release> {
        let known = releases.iter().map(|(stage, _)| stage).collect::<Vec<_>>().join(", ");
        let at = stage
            .strip_prefix("transform[")
            .and_then(|rest| rest.strip_suffix(']'))
            .and_then(|at| at.parse::<usize>().ok());
        let release = match (stage, at) {
            ("parse", _) => releases.parse.as_mut(),
            ("classify", _) => releases.classify.as_mut(),
            (_, Some(at)) => releases.transforms.get_mut(at),
            _ => None,
        };
        release.with_context(|| format!("pipeline {} has no stage {stage:?}; it has {known}", self.plan.name))
    }

    fn apply(&self, release: &mut Release, change: &StageChange) -> Result<()> {
        match &change.plugin {
            None => {}
            Some(PluginChange::Stock(name)) => {
                let stage =
                    plan::Stage { plugin: PluginRef::Stock(name.clone()), model: None, config: serde_json::json!({}) };
                let stock = self.stager.release(&stage)?;
                rename(release, &stock.name, stock.plugin);
            }
            Some(PluginChange::Artifact { name, digest }) => {
                self.state.artifact(*digest)?;
                rename(release, name, *digest);
            }
        }
        if let Some(model) = change.model {
            self.state.artifact(model)?;
            release.model = Some(model);
        }
        let serde_json::Value::Object(config) = &mut release.config else {
            bail!("the stage's configuration is no object")
        };
        for (key, value) in &change.config {
            if value.is_null() {
                config.remove(key);
            } else {
                config.insert(key.clone(), value.clone());
            }
        }
        Ok(())
    }

    fn advance(&self, history: &mut History, releases: Releases, reason: String, trial: bool) -> Result<Deployed> {
        let revision = current(history)?.revision.next();
        let at = SystemClock.unix_ms();
        let deployment = Deployment { revision, releases, reason, at, on_probation: trial, failed: None };
        let mut next = history.clone();
        next.deployments.push(deployment.clone());
        let pipelines = stage(&self.stager, &self.plan, &next)?;
        self.state.set_history(&self.plan.name, &mut next)?;
        *history = next;
        for (slot, pipeline) in self.slots.iter().zip(pipelines) {
            slot.put(pipeline);
        }
        tracing::info!(pipeline = self.plan.name, %revision, reason = deployment.reason, "deployed");
        Ok(Deployed { pipeline: self.plan.name.clone(), taken: self.wait_until_taken(revision), deployment })
    }

    /// Workers that do not run take it when they start.
    fn wait_until_taken(&self, revision: Revision) -> bool {
        let started = Instant::now();
        loop {
            let taken = self.reports.iter().all(|report| {
                let report = report.latest();
                report.state != WorkerState::Running || report.revision >= Some(revision)
            });
            if taken || started.elapsed() >= TAKEN {
                return taken;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A plugin of another name starts with an empty configuration: the old one was written for something else.
fn rename(release: &mut Release, name: &str, plugin: Digest) {
    if release.name != name {
        release.config = serde_json::json!({});
    }
    release.name = name.to_owned();
    release.plugin = plugin;
}

fn current(history: &History) -> Result<&Deployment> {
    history.current().context("the pipeline has no deployment yet")
}

/// The current deployment opened for each worker.
fn stage(stager: &Stager, plan: &Plan, history: &History) -> Result<Vec<Pipeline>> {
    let deployment = current(history)?;
    let trial = match (deployment.on_probation, history.previous()) {
        (false, _) => Trial::Proven,
        (true, None) => Trial::First,
        (true, Some(_)) => Trial::Replaceable,
    };
    let open = |_| {
        let mut pipeline = stager.open(plan, &deployment.releases, deployment.revision)?;
        pipeline.trial = trial;
        Ok(pipeline)
    };
    (0..plan.limits.workers).map(open).collect()
}
