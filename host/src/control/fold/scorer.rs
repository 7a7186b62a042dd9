//! A scorer in the fold: it has no rollout, is exchanged at once, and goes alone when it fails. What processes records runs on.

use super::super::command::{Outcome, Refused};
use super::super::deployment::{Deployment, Releases};
use super::super::history::{Call, CallKind};
use super::{Control, Fold, RolloutThen, Staging, shortened};
use crate::record::Revision;
use crate::stream::process::Probation;

impl Control {
    /// How much a deployment's scorer is trusted that is to be opened. With none to go back to, what it fails on is a dead letter
    /// and nothing more.
    pub fn scorer_probation(&self, deployment: &Deployment) -> Probation {
        match deployment.scorer_on_probation {
            _ if self.develops => Probation::Developing,
            true => Probation::Replaceable,
            false => Probation::Passed,
        }
    }
}

/// What a change of the scorer comes to where nothing is scored. Answers stand in the control topics, and every version reads
/// this one.
pub fn no_feedback(pipeline: &str) -> Refused {
    Refused::Unfit {
        why: format!(
            "pipeline {pipeline} has no [feedback], so nothing of it is scored: add the section to its file, start the daemon anew, \
             and deploy a scorer then"
        ),
    }
}

/// The stage as a command names it.
pub const SCORE: &str = "score";

impl Fold {
    /// Whether a change goes by the file's steps. That of a scorer alone does not: no figures tell two scorers apart. One that comes
    /// with a candidate would change the figures that the candidate is judged by.
    pub(super) fn goes_by_steps<'a>(
        &self,
        changed: impl Iterator<Item = &'a String>,
        releases: &Releases,
    ) -> Result<bool, Refused> {
        let current = &self.current()?.releases;
        if releases.digest() == current.digest() {
            return Ok(false);
        }
        if releases.score_digest() == current.score_digest() {
            return Ok(true);
        }
        let others: Vec<&str> = changed.map(String::as_str).filter(|stage| *stage != SCORE).collect();
        let stages = others.join(", ");
        Err(Refused::Unfit {
            why: format!(
                "a scorer has no rollout, and this changes {stages} as well, which has one: deploy the scorer by itself, or all at \
                 once with --now"
            ),
        })
    }

    /// Whether a deployment that comes now has a scorer on probation: the one that runs stays as it is.
    pub(super) fn puts_scorer_on_probation(&self, releases: &Releases, is_new: bool) -> bool {
        let history = &self.next.history;
        match history.current() {
            Some(current) if current.releases.score_digest() == releases.score_digest() => current.scorer_on_probation,
            _ => is_new && !self.next.develops && history.other_scorer_than(releases).is_some(),
        }
    }

    /// Goes back to the scorer before, whatever is rolled out meanwhile.
    pub(super) fn scorer_failed(&mut self, revision: Revision, why: &str) {
        let Some(current) = self.next.history.current().cloned() else { return self.done(Outcome::Noted) };
        if current.revision != revision {
            // It was replaced in the meantime: what scores next waits in the slot.
            return self.done(Outcome::Superseded { by: current.revision });
        }
        if self.next.failed_scorer == Some(revision) {
            // Another daemon's was faster, and it is being decided.
            return self.done(Outcome::Noted);
        }
        let before = self.next.history.other_scorer_than(&current.releases);
        let Some(before) = before.filter(|_| current.scorer_on_probation).cloned() else {
            return self.scorer_passed(revision);
        };
        self.next.failed_scorer = Some(revision);
        let label = current.releases.score.as_ref().map_or_else(|| "none".to_owned(), |score| score.label());
        let reason = format!(
            "the scorer of revision {revision} ({label}) failed: {why}; back to that of revision {}",
            before.revision
        );
        let releases = current.releases.scored_as(&before.releases);
        let deployment = Deployment { challenger: current.challenger, ..self.successor(releases, reason, false) };
        let staging = Staging::of(deployment, Some(revision), RolloutThen::Stays);
        self.stage(Staging { replaces: Some(why.to_owned()), ..staging });
    }

    /// A scorer that has passed its probation is not taken back any more, nor one that nothing is there to take the place of.
    pub(super) fn scorer_passed(&mut self, revision: Revision) {
        if self
            .next
            .history
            .current()
            .is_some_and(|current| current.revision == revision && current.scorer_on_probation)
        {
            self.trust_scorer();
        }
        self.done(Outcome::Noted);
    }

    fn trust_scorer(&mut self) {
        if let Some(current) = self.history().deployments.last_mut() {
            current.scorer_on_probation = false;
        }
    }

    /// Whether a deployment takes the place of one whose scorer failed, and not of one that processed records.
    pub(super) fn replaces_scorer(&self, staging: &Staging) -> bool {
        let scored_otherwise =
            |current: &Deployment| current.releases.score_digest() != staging.deployment.releases.score_digest();
        staging.replaces.is_some() && self.next.history.current().is_some_and(scored_otherwise)
    }

    /// The scorer before cannot take over any more: the one that failed goes on, and what it fails on becomes dead letters.
    pub(super) fn scorer_stays(&mut self, reason: &str, why: &str) -> Refused {
        self.next.failed_scorer = None;
        self.trust_scorer();
        let refused = Refused::Unfit { why: format!("{reason}, which cannot take over: {why}") };
        let call = Call { call: CallKind::Refused, by: None, reason: shortened(&refused), at: self.now };
        self.history().note(call);
        refused
    }

    /// No version before this one deployed scorers: what it left, or has decided since, was scored by the file's.
    pub(super) fn name_scorer(&mut self, wanted: &Releases) {
        let history = &self.next.history;
        let is_unnamed = history
            .current()
            .is_some_and(|current| history.applied_score.is_none() || current.releases.score.is_none());
        if let Some(scorer) = wanted.score.as_ref().filter(|_| is_unnamed) {
            self.history().was_scored_by(scorer);
        }
    }
}
