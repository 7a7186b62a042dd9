//! A rollout in the fold: how it begins, what its figures lead to, and what people say about it.

use super::super::command::{CommandId, Outcome, Refused, Steps};
use super::super::deployment::{Deployment, Releases};
use super::super::history::CallKind;
use super::super::rollout::{Next, Rollout, RolloutState, StepFigures};
use super::{Fold, RolloutThen, Staging, is_short};
use crate::config::plan::{RolloutStep, Until};
use crate::record::Revision;

impl Fold {
    /// The first step of a way to those releases.
    pub(super) fn begin_rollout(&mut self, releases: Releases, reason: &str, steps: &Steps) -> Result<(), Refused> {
        let current = self.current()?;
        let against = Some(current.revision);
        let (runs, on_probation) = (current.releases.clone(), current.on_probation);
        let is_model = is_one_challenger(&runs, &releases)?;
        let waits_for_labels = |step: &RolloutStep| {
            matches!(
                step,
                RolloutStep::Shadow { until: Until::Labels(_) } | RolloutStep::Canary { until: Until::Labels(_), .. }
            )
        };
        if !is_model && steps.plan.steps.iter().any(waits_for_labels) {
            return Err(Refused::LabelsOfTransform);
        }
        let mut deployment = self.successor(runs, String::new(), on_probation);
        let rollout = Rollout {
            id: deployment.revision,
            candidate: Releases { score: None, ..releases },
            allow_new_classes: steps.allow_new_classes,
            plan: steps.plan.clone(),
            step: 0,
            since: self.now,
            state: RolloutState::Running,
            reason: reason.to_owned(),
            by: self.by.clone(),
            at: self.now,
        };
        let rollout = match steps.plan.steps.first() {
            Some(RolloutStep::Pause) => {
                Rollout { state: RolloutState::Held { why: "its first step waits for a person".into() }, ..rollout }
            }
            _ => rollout,
        };
        deployment.reason = format!("{reason} ({})", rollout.describe());
        deployment.challenger = Some(rollout.challenger());
        self.stage(Staging::of(deployment, against, RolloutThen::Is(Box::new(rollout))));
        Ok(())
    }

    /// While one is under way nothing else is deployed by people: it would not be known what the figures are of.
    pub(super) fn no_rollout(&self) -> Result<(), Refused> {
        match &self.next.history.rollout {
            None => Ok(()),
            Some(Rollout { id, candidate, .. }) => {
                let candidate = candidate.differing_from(&self.current()?.releases);
                Err(Refused::RolloutUnderWay { pipeline: self.pipeline(), id: *id, candidate })
            }
        }
    }

    fn rollout(&self) -> Result<Rollout, Refused> {
        self.next.history.rollout.clone().ok_or_else(|| Refused::NoRollout { pipeline: self.pipeline() })
    }

    pub(super) fn promote(&mut self, reason: &str) -> Result<(), Refused> {
        is_short(reason)?;
        let rollout = self.rollout()?;
        self.next_step_gives_way();
        self.has_room()?;
        let against = self.next.history.revision();
        let colon = if reason.trim().is_empty() { "" } else { ": " };
        let reason = format!("rollout {} promoted{colon}{}", rollout.id, reason.trim());
        let candidate = rollout.candidate.scored_as(&self.current()?.releases);
        let deployment = self.successor(candidate, reason, true);
        self.stage(Staging::of(deployment, against, RolloutThen::Ends));
        Ok(())
    }

    pub(super) fn abort(&mut self, reason: &str) -> Result<(), Refused> {
        is_short(reason)?;
        let rollout = self.rollout()?;
        self.next_step_gives_way();
        self.has_room()?;
        let current = self.current()?;
        let (against, runs, on_probation) = (Some(current.revision), current.releases.clone(), current.on_probation);
        let colon = if reason.trim().is_empty() { "" } else { ": " };
        let reason = format!("rollout {} aborted{colon}{}", rollout.id, reason.trim());
        let deployment = self.successor(runs, reason, on_probation);
        self.stage(Staging::of(deployment, against, RolloutThen::Ends));
        Ok(())
    }

    pub(super) fn hold_rollout(&mut self, reason: &str) -> Result<(), Refused> {
        is_short(reason)?;
        let rollout = self.rollout()?;
        let why = if reason.trim().is_empty() { "somebody asked for it" } else { reason };
        let why = match rollout.state {
            RolloutState::Running => why.to_owned(),
            RolloutState::Held { why } => return Err(Refused::RolloutHeldAlready { pipeline: self.pipeline(), why }),
            RolloutState::Passed => return Err(Refused::RolloutPassed { pipeline: self.pipeline() }),
        };
        self.next_step_gives_way();
        self.note_call(CallKind::HoldRollout, reason);
        self.turn_to(Rollout { state: RolloutState::Held { why }, ..rollout });
        Ok(())
    }

    /// What a person or the file says comes before the step that would come next by itself: that is not staged any more.
    pub(super) fn next_step_gives_way(&mut self) {
        let is_step = |staging: &Staging| matches!(&staging.rollout, RolloutThen::Is(rollout) if rollout.step > 0);
        let steps: Vec<CommandId> =
            self.next.staging.iter().filter(|(_, staging)| is_step(staging)).map(|(of, _)| *of).collect();
        for of in steps {
            self.next.staging.remove(&of);
            if let Some(by) = self.next.history.revision() {
                self.answer(of, Ok(Outcome::Superseded { by }));
            }
        }
    }

    pub(super) fn continue_rollout(&mut self, reason: &str) -> Result<(), Refused> {
        is_short(reason)?;
        let rollout = self.rollout()?;
        match rollout.state {
            RolloutState::Running => return Err(Refused::RolloutGoesOn { pipeline: self.pipeline() }),
            RolloutState::Passed => return Err(Refused::RolloutPassed { pipeline: self.pipeline() }),
            RolloutState::Held { .. } => {}
        }
        if rollout.current_step() == Some(&RolloutStep::Pause) {
            self.has_room()?;
            self.note_call(CallKind::ContinueRollout, reason);
            self.advance(&rollout);
        } else {
            self.note_call(CallKind::ContinueRollout, reason);
            // What passed while it waited is no time in which the candidate proved itself.
            self.turn_to(Rollout { state: RolloutState::Running, since: self.now, ..rollout });
        }
        Ok(())
    }

    /// The rollout is in another state; nothing else runs. Answers the command that is applied.
    fn turn_to(&mut self, rollout: Rollout) {
        self.history().rollout = Some(rollout.clone());
        self.done(Outcome::Rollout { rollout: Box::new(rollout) });
    }

    /// Goes on to the next step: what it runs is staged, where that is something else.
    fn advance(&mut self, rollout: &Rollout) {
        let next = match rollout.next(self.now) {
            Next::Step(next) => next,
            Next::Waits(next) => {
                if next.state == RolloutState::Passed {
                    self.note_call(CallKind::PassedRollout, &format!("rollout {} waits to be promoted", next.id));
                }
                return self.turn_to(next);
            }
        };
        let Some(current) = self.next.history.current().cloned() else { return self.done(Outcome::Noted) };
        let reason = format!("{} ({})", next.reason, next.describe());
        let mut deployment = self.successor(current.releases, reason, current.on_probation);
        deployment.challenger = Some(next.challenger());
        self.stage(Staging::of(deployment, Some(current.revision), RolloutThen::Is(Box::new(next))));
    }

    /// Judges the running step: a guard that is broken ends the rollout, and one that has what it waits for goes on.
    pub(super) fn measured(&mut self, revision: Revision, figures: &StepFigures) {
        self.member().measured = Some((revision, figures.clone()));
        let figures = &self.next.measured(revision);
        // Before a worker runs it there is nothing to judge: a file that asks for something else comes first.
        let is_run = self.next.workers().any(|(_, _, runs)| runs == Some(revision));
        let is_current = self.next.history.revision() == Some(revision) && is_run;
        let under_way = self.next.history.rollout.clone().filter(|_| is_current && self.next.failed.is_none());
        // What is being staged against this revision decides what comes next; while nothing is processed nothing is to be judged.
        let is_changing = self.next.staging.values().any(|staging| staging.against == Some(revision));
        let Some(rollout) = under_way.filter(|_| !is_changing && self.next.history.paused.is_none()) else {
            return self.done(Outcome::Noted);
        };
        if let Some(why) = rollout.broken_guard(figures) {
            // Only a lack of room refuses it, and then it is tried again with the next figures.
            if self.abort(&why).is_err() {
                self.done(Outcome::Noted);
            }
        } else if rollout.is_step_over(figures, self.now) && self.has_room().is_ok() {
            self.advance(&rollout);
        } else {
            self.done(Outcome::Noted);
        }
    }

    /// What runs fails while a challenger's answers may count: the challenger goes first, and the champion takes the same records
    /// alone. If it fails, too, that is its own failure.
    pub(super) fn abort_failing(&mut self, current: &Deployment, why: &str) {
        let id = current.challenger.as_ref().map_or(current.revision, |challenger| challenger.rollout);
        self.next_step_gives_way();
        self.next.failed = Some(current.revision);
        let reason = format!("rollout {id} aborted: revision {} failed: {why}", current.revision);
        let deployment = self.successor(current.releases.clone(), reason, current.on_probation);
        let staging = Staging::of(deployment, Some(current.revision), RolloutThen::Ends);
        self.stage(Staging { replaces: Some(why.to_owned()), ..staging });
    }
}

/// A challenger stands in one place of a record's path: whether it is that of parser and classifier.
fn is_one_challenger(runs: &Releases, candidate: &Releases) -> Result<bool, Refused> {
    let changed: Vec<String> = (candidate.path())
        .filter(|(stage, release)| runs.get(stage).is_none_or(|runs| runs.digest() != release.digest()))
        .map(|(stage, _)| stage)
        .collect();
    let is_model = changed.iter().all(|stage| stage == "parse" || stage == "classify");
    match is_model || changed.len() == 1 {
        true => Ok(is_model),
        false => Err(Refused::ManyStages { stages: changed.join(", ") }),
    }
}
