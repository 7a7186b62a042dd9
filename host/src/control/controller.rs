//! A pipeline's control as people and the rest of the daemon reach it: requests become commands, and nobody waits for
//! anything but the answer to their own.

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};

use super::command::{Action, By, NamedPlugin, Outcome, Refused, StageChange, Steps};
use super::deployment::{Deployment, Releases};
use super::directory::StateDirectory;
use super::fleet::Fleet;
use super::fold::{Control, SCORE, no_feedback};
use super::history::History;
use super::journal::Link;
use super::journal::kafka::follower::Subscriber;
use super::opened::{Holds, Slots};
use super::runner::{Answer, Inbox, Observed, Runner};
use super::staging::Stager;
use crate::config::plan::{self, Plan, PluginRef};
use crate::config::secret;
use crate::pipeline::Pipeline;
use crate::record::Revision;

/// Between two looks whether there is something to run at a start.
const LOOK: Duration = Duration::from_secs(1);

/// A change of what a pipeline runs, as it is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// By stage: `transform[0]`, `parse`, `classify`, `score`.
    pub stages: BTreeMap<String, StageRequest>,
    pub reason: String,
    /// The revision that the change was made against; it is refused when another one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_revision: Option<Revision>,
    /// At once, although the pipeline's file has steps for a rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
    /// A challenger may have other classes than the champion.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_new_classes: bool,
}

/// What is to become of a stage; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginRequest>,
    /// An artifact that the daemon keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// Keys to set; null removes one.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PluginRequest {
    /// One of those that are built in.
    Stock(String),
    /// An artifact that the daemon keeps, and its name for people.
    Artifact(NamedPlugin),
}

/// What is to become of a rollout that is under way.
#[derive(Clone, Debug, PartialEq)]
pub enum RolloutRequest {
    Promote { reason: String },
    Abort { reason: String },
    Pause { reason: String },
    Resume { reason: String },
}

/// One pipeline's control.
pub struct Controller {
    pub plan: Arc<Plan>,
    pub holds: Holds,
    stager: Arc<Stager>,
    directory: Arc<StateDirectory>,
    /// Where one decides for several daemons.
    fleet: Option<Arc<Fleet>>,
    inbox: Inbox<Pipeline>,
    /// What the pipeline's file asks for, once it is read.
    asked: OnceLock<Releases>,
}

impl Controller {
    /// Goes on from what is remembered of the pipeline; nothing is staged yet. `develops` as in `Control`. The thread ends after `end`.
    ///
    /// # Errors
    /// When what is remembered cannot be read, or there is no thread.
    pub fn start(
        plan: Arc<Plan>,
        stager: Arc<Stager>,
        directory: Arc<StateDirectory>,
        fleet: Option<Arc<Fleet>>,
        slots: Slots<Pipeline>,
        observed: Box<dyn Observed>,
        develops: bool,
    ) -> Result<(Self, JoinHandle<()>)> {
        let (staging_plan, opener, workers) = (plan.clone(), stager.clone(), slots.workers.len());
        let (taking, kept) = (fleet.clone(), directory.clone());
        let stage = Arc::new(move |deployment: &Deployment, trust| {
            if let Some(fleet) = &taking {
                fleet.take(&staging_plan.name, deployment.artifacts(), &kept)?;
            }
            Ok(opener.stage(&staging_plan, deployment, trust, workers)?)
        });
        let link = fleet.as_ref().map(|fleet| fleet.link.clone() as Arc<dyn Link>);
        let (runner, inbox, holds) =
            Runner::new(&plan.name, develops, directory.clone(), link, stage, observed, slots)?;
        let thread = runner.start()?;
        Ok((Self { plan, holds, stager, directory, fleet, inbox, asked: OnceLock::new() }, thread))
    }

    /// Settles what the pipeline runs — the file's wish when it changed since it was last applied, else the last
    /// deployment — and leaves it opened in every slot.
    ///
    /// # Errors
    /// When the deployment cannot be staged or remembered, with every stage's problem, or `end` came first.
    pub fn settle(&self) -> Result<(), Refused> {
        let releases = self.stager.releases(&self.plan).map_err(|unfit| Refused::Unfit { why: unfit.to_string() })?;
        // Read once, at the start.
        let _ = self.asked.set(releases.clone());
        let reason = format!("applied from {}", self.plan.file.display());
        let Some(fleet) = &self.fleet else {
            self.inbox.ask(None, Action::Wish { releases: Box::new(releases), reason })?;
            return Ok(());
        };
        self.inbox.until_heard()?;
        let ready = self.inbox.ready()?;
        loop {
            let wish = Action::Wish { releases: Box::new(releases.clone()), reason: reason.clone() };
            let asked = || {
                // What the others have already applied is theirs, too.
                if !self.history().has_applied(&releases) {
                    fleet.share(&self.plan.name, releases.artifacts(), &self.inbox)?;
                }
                self.inbox.ask(None, wish)
            };
            match asked() {
                Err(Refused::Stopping) => return Err(Refused::Stopping),
                // The others run on, and so does this one with them, if there is something to run.
                Err(refused) if self.history().current().is_some() => {
                    tracing::error!(pipeline = self.plan.name, %refused, "what the file asks for is not applied");
                }
                outcome => drop(outcome?),
            }
            // Another daemon may have asked for the same, and come to nothing: then it is this one's turn.
            loop {
                match ready.recv_timeout(LOOK) {
                    Ok(()) => return Ok(()),
                    Err(RecvTimeoutError::Disconnected) => return Err(Refused::Stopping),
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let control = self.snapshot();
                if control.history.current().is_none() && control.staging.is_empty() {
                    break;
                }
            }
        }
    }

    /// The releases that the pipeline's file asks for and that do not run, where there are some.
    pub fn file_asks_for(&self) -> Option<String> {
        let (asked, history) = (self.asked.get()?, self.history());
        let differs = asked.differing_from(&history.current()?.releases);
        (!differs.is_empty()).then_some(differs)
    }

    /// Where what is decided for all daemons is heard.
    pub fn news(&self) -> Subscriber {
        self.inbox.news()
    }

    /// What is known at the moment.
    pub fn snapshot(&self) -> Arc<Control> {
        self.inbox.snapshot()
    }

    pub fn history(&self) -> Arc<History> {
        self.snapshot().history.clone()
    }

    /// Stages a change beside what runs and hands it to every worker.
    ///
    /// # Errors
    /// When it is unfit: then nothing changed, and what runs never stopped.
    pub fn deploy(&self, change: &Change, by: Option<By>) -> Answer {
        if change.stages.contains_key(SCORE) && self.plan.feedback.is_none() {
            return Err(no_feedback(&self.plan.name));
        }
        let (mut stages, mut unfit) = (BTreeMap::new(), Vec::new());
        for (name, request) in &change.stages {
            match self.resolve(request) {
                Ok(resolved) => drop(stages.insert(name.clone(), resolved)),
                Err(error) => unfit.push(format!("pipeline {}, stage {name}: {error:#}", self.plan.name)),
            }
        }
        if !unfit.is_empty() {
            return Err(Refused::Unfit { why: unfit.join("\n") });
        }
        if let Some(fleet) = &self.fleet {
            let named =
                stages.values().flat_map(|change| change.plugin.iter().map(|plugin| plugin.digest).chain(change.model));
            fleet.share(&self.plan.name, named, &self.inbox)?;
        }
        let steps = self.plan.rollout.clone().filter(|_| !change.now);
        let rollout = steps.map(|plan| Box::new(Steps { plan, allow_new_classes: change.allow_new_classes }));
        self.inbox.ask_by(
            by,
            change.expected_revision,
            Action::Deploy { stages, reason: change.reason.clone(), rollout },
        )
    }

    /// Goes back, as a new revision: to what that one ran; else from a rollout to what ran before it, else to what the previous
    /// revision ran.
    ///
    /// # Errors
    /// When there is no such revision, or it cannot be staged any more.
    pub fn undo(&self, reason: &str, to: Option<Revision>, by: Option<By>) -> Answer {
        self.inbox.ask_by(by, None, Action::Undo { reason: reason.to_owned(), to })
    }

    /// Has a rollout's candidate take over, end, wait or go on, unless another revision runs than the one that is expected.
    ///
    /// # Errors
    /// When none is under way, or it cannot be done in its state.
    pub fn rollout(&self, what: RolloutRequest, expected: Option<Revision>, by: Option<By>) -> Answer {
        let action = match what {
            RolloutRequest::Promote { reason } => Action::Promote { reason },
            RolloutRequest::Abort { reason } => Action::Abort { reason },
            RolloutRequest::Pause { reason } => Action::HoldRollout { reason },
            RolloutRequest::Resume { reason } => Action::ContinueRollout { reason },
        };
        self.inbox.ask_by(by, expected, action)
    }

    /// Holds the pipeline between two transactions, also after a restart.
    ///
    /// # Errors
    /// When it is paused already, or that cannot be remembered.
    pub fn pause(&self, reason: &str, by: Option<By>) -> Answer {
        self.inbox.ask_by(by, None, Action::Pause { reason: reason.to_owned() })
    }

    /// Goes on where the pipeline was paused.
    ///
    /// # Errors
    /// When it is not paused, or that cannot be remembered.
    pub fn resume(&self, by: Option<By>) -> Answer {
        self.inbox.ask_by(by, None, Action::Resume)
    }

    /// Has the history say that dead letters are replayed.
    ///
    /// # Errors
    /// When that cannot be remembered.
    pub fn note_replay(&self, by: Option<By>) -> Answer {
        self.inbox.ask_by(by, None, Action::Replay)
    }

    /// What runs now, opened once more.
    ///
    /// # Errors
    /// When it cannot be opened any more.
    pub fn open(&self) -> Result<Pipeline> {
        let history = self.history();
        let deployment = history.current().context("the pipeline has no deployment yet")?;
        Ok(self.stager.open(&self.plan, deployment)?)
    }

    /// Ends the control thread: what still waits for an answer is refused.
    pub fn end(&self) {
        self.inbox.end();
    }

    /// A command names plugins and models by content: it means the same whenever and wherever it is applied.
    fn resolve(&self, request: &StageRequest) -> Result<StageChange> {
        secret::refuse_references(&request.config).map_err(anyhow::Error::msg)?;
        let plugin = match &request.plugin {
            None => None,
            Some(PluginRequest::Artifact(plugin)) => {
                self.directory.check_artifact(plugin.digest)?;
                Some(plugin.clone())
            }
            Some(PluginRequest::Stock(name)) => {
                let plugin = PluginRef::Stock(name.clone());
                let stock = self.stager.release(&plan::Stage { plugin, model: None, config: serde_json::json!({}) })?;
                Some(NamedPlugin { name: stock.name, digest: stock.plugin })
            }
        };
        if let Some(model) = request.model {
            self.directory.check_artifact(model)?;
        }
        Ok(StageChange { plugin, model: request.model, config: request.config.clone() })
    }
}

/// An outcome and the pipeline that it is of, as people are told it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answered {
    pub pipeline: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}
