//! What changes what runs: commands, whoever they come from, and what comes of them.

use std::collections::BTreeMap;
use std::fmt;

use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};

use super::deployment::{Deployment, Releases};
use super::fold::Artifact;
use super::history::History;
use super::rollout::{Rollout, StepFigures};
use crate::config::plan;
use crate::record::Revision;
use crate::stream::pause::Pause;

/// Names a command of one pipeline; grows with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);

/// A reason's bytes, at most: it stands in the history, in `status` and in the log.
pub const MAX_REASON: usize = 1_024;

/// The bytes of a name that people give something, at most.
pub const MAX_NAME: usize = 128;

/// Who asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The token that the call was made with.
    pub who: String,
    /// The address that it came from.
    pub from: String,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.who, self.from)
    }
}

/// One thing that is asked of a pipeline's control, or reported to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    #[serde(default)]
    pub id: CommandId,
    /// The daemon that it comes through; empty where there is no other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Who asked for it; nobody where the daemon itself did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The revision that it was made against; it is refused when another one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Revision>,
    #[serde(flatten)]
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// The pipeline's file asks for these releases. They are deployed when the file has changed since it was last
    /// applied; otherwise the last deployment stands.
    Wish { releases: Box<Releases>, reason: String },
    /// Somebody changes what stages run, by stage: `transform[0]`, `parse`, `classify`, `score`. At once, or by a rollout's steps.
    Deploy {
        stages: BTreeMap<String, StageChange>,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<Box<Steps>>,
    },
    /// Somebody goes back, as a new revision: to what that one ran; else from a rollout to what ran before it, else to what the
    /// previous revision ran.
    Undo {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Revision>,
    },
    /// Somebody has the candidate take over.
    Promote { reason: String },
    /// Somebody ends the rollout.
    Abort { reason: String },
    /// Somebody has the rollout wait where it is.
    HoldRollout { reason: String },
    /// Somebody has it go on.
    ContinueRollout { reason: String },
    /// Somebody holds the pipeline between two transactions.
    Pause { reason: String },
    /// Somebody lets it go on.
    Resume,
    /// Somebody has dead letters replayed.
    Replay,
    /// A worker: the revision failed on probation. The workers are held until it is decided what runs next.
    Failed { revision: Revision, why: String },
    /// A worker: the revision has passed its probation.
    Passed { revision: Revision },
    /// The feedback's worker: the revision's scorer failed on probation. The worker is held until it is decided what scores next.
    ScorerFailed { revision: Revision, why: String },
    /// The feedback's worker: the revision's scorer has passed its probation.
    ScorerPassed { revision: Revision },
    /// A worker has paused the pipeline.
    Paused { pause: Pause },
    /// A worker: the group runs the same releases under that number, which is higher than ours.
    Adopt { revision: Revision, releases: Digest },
    /// A worker: the group has committed by that revision, which ran something else, and none of its members runs it.
    Outrun {
        revision: Revision,
        /// What that ran, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        releases: Option<Digest>,
    },
    /// A worker runs that revision now; none while it is connecting, recovering or held.
    Runs { worker: usize, revision: Option<Revision> },
    /// A daemon: what that command wants deployed is opened for every worker; whether some of them own partitions.
    Staged { of: CommandId, owns: bool },
    /// A daemon: it cannot be.
    Unfit { of: CommandId, why: String },
    /// What that command wants has had its time: to be taken by the workers, or to be staged by the daemons.
    Overdue { of: CommandId },
    /// A daemon: what the running step of a rollout, which is that revision, has come to there.
    Measured { revision: Revision, figures: Box<StepFigures> },
    /// A daemon: the journal has less than it remembers.
    Restore { history: Box<History> },
    /// A daemon: that plugin or model can be had there.
    Shared { digest: Digest, artifact: Artifact },
    /// A daemon: it cannot be had there.
    Lacks { digest: Digest },
    /// A daemon: parts of what was decided are gone, and it cannot give them.
    Incomplete,
    /// A daemon stops.
    Leaves,
}

/// How a deployment is rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    pub plan: plan::Rollout,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_new_classes: bool,
}

/// A change of what a stage runs; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<NamedPlugin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// Keys to set; null removes one.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// A component that the daemon keeps, and its name for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedPlugin {
    pub name: String,
    pub digest: Digest,
}

/// What came of a command. One that is refused has changed nothing: see `Refused`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The deployment is current.
    Activated {
        #[serde(flatten)]
        deployment: Deployment,
        /// Running workers that had not taken it within 10 s; empty as a rule.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        not_yet_taken_by: Vec<String>,
    },
    /// The deployment failed, and this one, which runs what ran before, is current.
    RolledBack {
        #[serde(flatten)]
        deployment: Deployment,
        failed_revision: Revision,
    },
    /// Another deployment has become current in the meantime.
    Superseded { by: Revision },
    /// Nothing is processed.
    Paused {
        #[serde(flatten)]
        pause: Pause,
    },
    /// What was paused goes on.
    Resumed {
        #[serde(flatten)]
        pause: Pause,
    },
    /// The rollout is in another state, and what runs is the same.
    Rollout { rollout: Box<Rollout> },
    /// Heard, and nothing had to be done about it.
    Noted,
}

/// Why a command was refused. What runs was not touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    #[error("a deployment needs a reason: --reason TEXT")]
    NoReason,
    #[error("the reason has {bytes} bytes, and {MAX_REASON} are kept: say it shorter")]
    LongReason { bytes: usize },
    #[error("the plugin's name has {bytes} bytes, and {MAX_NAME} are kept: give its file a shorter one")]
    LongName { bytes: usize },
    #[error("the deployment changes nothing: name a plugin, a model or a configuration")]
    NoChange,
    #[error("pipeline {pipeline} runs revision {current}, and the change was made against {against}: look again")]
    Stale { pipeline: String, against: Revision, current: Revision },
    #[error("pipeline {pipeline} has no stage {stage:?}; it has {known}")]
    NoSuchStage { pipeline: String, stage: String, known: String },
    #[error("pipeline {pipeline}, stage {stage}: the stage's configuration is no object")]
    NoObject { pipeline: String, stage: String },
    #[error("pipeline {pipeline} runs exactly this already, as revision {current}")]
    SameAsCurrent { pipeline: String, current: Revision },
    #[error(
        "pipeline {pipeline} has no revision before {current} that ran something else and did not fail: there is nothing \
         to go back to"
    )]
    NothingToGoBackTo { pipeline: String, current: Revision },
    #[error(
        "pipeline {pipeline} has no revision {revision} in its history: `sandpiper history {pipeline}` has those that there are"
    )]
    NoSuchRevision { pipeline: String, revision: Revision },
    #[error("revision {revision} of pipeline {pipeline} failed, and is not gone back to: {why}")]
    FailedRevision { pipeline: String, revision: Revision, why: String },
    #[error(
        "pipeline {pipeline} is rolling out {candidate} since revision {id}: `sandpiper rollout promote {pipeline}` or \
         `sandpiper rollout abort {pipeline}` it first"
    )]
    RolloutUnderWay { pipeline: String, id: Revision, candidate: String },
    #[error("pipeline {pipeline} has no rollout under way")]
    NoRollout { pipeline: String },
    #[error("the rollout of pipeline {pipeline} waits already: {why}")]
    RolloutHeldAlready { pipeline: String, why: String },
    #[error(
        "the rollout of pipeline {pipeline} has passed its steps: `sandpiper rollout promote {pipeline}` or \
         `sandpiper rollout abort {pipeline}` ends it"
    )]
    RolloutPassed { pipeline: String },
    #[error("the rollout of pipeline {pipeline} goes on already")]
    RolloutGoesOn { pipeline: String },
    #[error(
        "a challenger is a classifier, a parser, both, or one transform, and this changes {stages}: deploy one of them after the \
         other, or all at once with --now"
    )]
    ManyStages { stages: String },
    #[error(
        "a step of [rollout] waits for labels, which judge answers of two classifiers, and this changes a transform: deploy it with \
         --now, or have the steps wait for records or a time"
    )]
    LabelsOfTransform,
    #[error("pipeline {pipeline} is paused already: {why}")]
    PausedAlready { pipeline: String, why: String },
    #[error("pipeline {pipeline} is not paused")]
    NotPaused { pipeline: String },
    #[error("pipeline {pipeline} has no deployment yet")]
    NoDeployment { pipeline: String },
    #[error("pipeline {pipeline} is staging {count} deployments already: wait for one of them")]
    Busy { pipeline: String, count: usize },
    /// It cannot be staged or remembered.
    #[error("{why}")]
    Unfit { why: String },
    #[error(
        "the change has {bytes} bytes, and a record of the control topics {most} at most: give a large configuration to the plugin \
         as its model"
    )]
    LargeCommand { bytes: usize, most: usize },
    #[error(
        "a command of version {version} stands in the control topic, and this program knows {known}: start a newer one of every \
         daemon"
    )]
    LaterCommand { version: u64, known: u64 },
    #[error("no daemon has written that command, and it is not carried out: {why}")]
    ForeignCommand { why: String },
    #[error(
        "nobody has decided about it within {seconds} s: `sandpiper status` says whether a daemon does; once one does it may still be \
         carried out, so look at the history first"
    )]
    Undecided { seconds: u64 },
    #[error("the daemon stops")]
    Stopping,
}
