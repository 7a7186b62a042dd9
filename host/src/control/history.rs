//! What is remembered of a pipeline's deployments.

use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};

use super::command::By;
use super::deployment::{Deployment, Release, Releases};
use super::rollout::Rollout;
use crate::record::Revision;
use crate::stream::pause::Pause;

/// Deployments that are remembered of each pipeline, and as many calls that were none.
const REMEMBERED: usize = 200;

/// What somebody asked for that is no deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub call: CallKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    Pause,
    Resume,
    Replay,
    HoldRollout,
    ContinueRollout,
    /// A rollout has passed its last step.
    PassedRollout,
    /// Something was asked for that could not be done: the reason says why.
    Refused,
}

impl CallKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Replay => "replay",
            Self::HoldRollout => "rollout pause",
            Self::ContinueRollout => "rollout resume",
            Self::PassedRollout => "rollout passed",
            Self::Refused => "refused",
        }
    }
}

/// One line of what a pipeline ran and what was done to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Deployment(Box<Deployment>),
    Call(Call),
}

/// What a journal keeps of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Digest of the releases that the pipeline's file asked for when it was last applied: when the file asks for
    /// something else, it is applied again; otherwise the last deployment stands.
    pub applied: Option<Digest>,
    /// The same of its scorer. None where a version applied it that deployed no scorers, or the file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_score: Option<Digest>,
    /// By revision, the last is the current one.
    pub deployments: Vec<Deployment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// What is rolled out beside the current deployment's releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
}

impl History {
    pub fn current(&self) -> Option<&Deployment> {
        self.deployments.last()
    }

    /// None before the first deployment.
    pub fn revision(&self) -> Option<Revision> {
        self.current().map(|current| current.revision)
    }

    /// What there is to go back to: the last deployment that ran something else and did not fail.
    pub fn previous(&self) -> Option<&Deployment> {
        let runs = &self.current()?.releases;
        self.last_sound(|releases| !releases.is_all_of(runs))
    }

    /// What there would be to go back to from those, whatever scores: the last deployment of others that did not fail.
    pub(super) fn other_than(&self, releases: &Releases) -> Option<&Deployment> {
        let runs = releases.digest();
        self.last_sound(|releases| releases.digest() != runs)
    }

    /// The last deployment of another scorer than theirs that did not fail.
    pub(super) fn other_scorer_than(&self, releases: &Releases) -> Option<&Deployment> {
        let runs = releases.score_digest();
        self.last_sound(|releases| releases.score.is_some() && releases.score_digest() != runs)
    }

    fn last_sound(&self, is_sought: impl Fn(&Releases) -> bool) -> Option<&Deployment> {
        self.deployments.iter().rev().find(|each| each.failed.is_none() && is_sought(&each.releases))
    }

    /// Whether the file asked for these when it was last applied.
    pub(super) fn has_applied(&self, wanted: &Releases) -> bool {
        self.applied == Some(wanted.digest()) && self.has_applied_scorer(wanted)
    }

    /// The same of their scorer alone. A file without one asks for none in particular.
    pub(super) fn has_applied_scorer(&self, wanted: &Releases) -> bool {
        wanted.score_digest().is_none_or(|wanted| self.applied_score == Some(wanted))
    }

    /// The current deployment failed, and those take its place: with it fail those before it that what failed was on probation in.
    pub(super) fn fail(&mut self, why: &str, successor: &Releases) {
        let Some(releases) = self.current().map(|current| current.releases.clone()) else { return };
        let (path, score) = (releases.digest(), releases.score_digest());
        let (path_failed, scorer_failed) = (path != successor.digest(), score != successor.score_digest());
        let failed_too = |each: &Deployment| {
            (path_failed && each.on_probation && each.releases.digest() == path)
                || (scorer_failed && each.scorer_on_probation && each.releases.score_digest() == score)
        };
        let mut newest_first = self.deployments.iter_mut().rev();
        newest_first.next().into_iter().for_each(|current| current.failed = Some(why.to_owned()));
        for deployment in newest_first.take_while(|each| failed_too(each)) {
            deployment.failed.get_or_insert_with(|| why.to_owned());
        }
    }

    /// The file's scorer was that of all deployments so far, where a version made them that deployed none.
    pub(super) fn was_scored_by(&mut self, scorer: &Release) {
        self.applied_score.get_or_insert(scorer.digest());
        for deployment in &mut self.deployments {
            deployment.releases.score.get_or_insert_with(|| scorer.clone());
        }
    }

    pub fn deployment(&self, revision: Revision) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.revision == revision)
    }

    /// Plugins and models that some deployment needs. What is rolled out is no deployment's own until it is promoted, and is opened
    /// again at each start.
    pub fn artifacts(&self) -> impl Iterator<Item = Digest> {
        let candidate = self.rollout.iter().flat_map(|rollout| rollout.candidate.artifacts());
        self.deployments.iter().flat_map(Deployment::artifacts).chain(candidate)
    }

    /// As `artifacts`, of what runs and what is rolled out.
    pub fn current_artifacts(&self) -> Vec<Digest> {
        let candidate = self.rollout.iter().flat_map(|rollout| rollout.candidate.artifacts());
        self.current().into_iter().flat_map(Deployment::artifacts).chain(candidate).collect()
    }

    /// Adds what is current from now on; the oldest goes beyond 200.
    pub(super) fn push(&mut self, deployment: Deployment) {
        self.deployments.push(deployment);
        let surplus = self.deployments.len().saturating_sub(REMEMBERED);
        self.deployments.drain(..surplus);
    }

    /// Adds what somebody asked for; the oldest goes beyond 200.
    pub(super) fn note(&mut self, call: Call) {
        self.calls.push(call);
        let surplus = self.calls.len().saturating_sub(REMEMBERED);
        self.calls.drain(..surplus);
    }

    /// Deployments by revision, and the calls between them.
    pub fn lines(&self) -> Vec<Line> {
        let mut calls = self.calls.iter().cloned().peekable();
        let mut lines = Vec::new();
        for deployment in &self.deployments {
            lines.extend(std::iter::from_fn(|| calls.next_if(|call| call.at < deployment.at)).map(Line::Call));
            lines.push(Line::Deployment(Box::new(deployment.clone())));
        }
        lines.extend(calls.map(Line::Call));
        lines
    }
}
