//! The control of one pipeline as a fold: a state, a command, and what follows from the two.
//!
//! `apply` is pure and total. It reads no clock, no file and no worker: whatever it must know stands in the state or in
//! the command. Whatever is to be done follows from the next state: `reconcile` has a daemon's workers follow it. The state may
//! be of one daemon or of many; what differs by daemon stands under its name. What concerns a rollout that is under way stands in
//! `rollout`, what concerns several daemons in `members`, and a scorer, which processes no records, in `scorer`.

mod members;
mod rollout;
mod scorer;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Action, By, Command, CommandId, MAX_NAME, MAX_REASON, Outcome, Refused, StageChange, Steps};
use super::deployment::{Deployment, Release, Releases};
use super::history::{Call, CallKind, History};
use super::rollout::{Rollout, RolloutState, StepFigures};
use crate::record::Revision;
use crate::stream::failpoint::planted_mistake;
use crate::stream::pause::{Cause, Pause};
use crate::stream::process::Probation;
pub use scorer::{SCORE, no_feedback};

/// Deployments that are staged at the same time, at most: each compiles and opens on a thread of its own.
const STAGED_AT_ONCE: usize = 8;

/// Everything that is known of one pipeline's control.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    pub pipeline: String,
    /// What a journal keeps.
    pub history: Arc<History>,
    /// What is being staged, by the command that wants it.
    pub staging: BTreeMap<CommandId, Staging>,
    /// The last deployment, while its command waits for the running workers to take it.
    pub handover: Option<Handover>,
    /// The revision that failed, while it is being decided what runs next: the workers are held.
    pub failed: Option<Revision>,
    /// The revision whose scorer failed, while it is being decided what scores next: the feedback's worker is held.
    pub failed_scorer: Option<Revision>,
    /// Its plugins are being developed: no deployment is on probation, for what fails is what is to be looked at.
    pub develops: bool,
    /// It is decided for several daemons, each of which follows.
    pub is_shared: bool,
    /// The daemons that run the pipeline, by their names; one without a name where there is no other.
    pub members: BTreeMap<String, Member>,
    /// Where the plugins and models stand that daemons give each other, by digest.
    pub artifacts: BTreeMap<sandpiper_sandbox::Digest, Artifact>,
}

/// A plugin or a model in the artifacts' topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// What its chunks' keys begin with.
    pub upload: String,
    /// The offset of the first.
    pub offset: i64,
    pub chunks: u32,
    pub bytes: u64,
    /// When it was given, milliseconds since the Unix epoch.
    pub at: i64,
}

/// What one daemon has told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What each of its workers runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workers: BTreeMap<usize, Option<Revision>>,
    /// Digest of the releases that its file asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<sandpiper_sandbox::Digest>,
    /// The same of its scorer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish_score: Option<sandpiper_sandbox::Digest>,
    /// What a step of a rollout, which is that revision, has come to at its workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<(Revision, StepFigures)>,
}

/// A deployment that is compiled, opened and checked beside what runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Staging {
    pub deployment: Deployment,
    /// It becomes current only while this one is.
    against: Option<Revision>,
    /// What the pipeline's file asks for, when it is the file's wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applies: Option<sandpiper_sandbox::Digest>,
    /// The same of its scorer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applies_score: Option<sandpiper_sandbox::Digest>,
    /// When it takes over from a revision that failed: why that one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// What becomes of the rollout that is under way.
    rollout: RolloutThen,
    /// What came of it at each daemon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    came: BTreeMap<String, Came>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RolloutThen {
    Stays,
    Is(Box<Rollout>),
    Ends,
}

/// What came of staging at one daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Came {
    /// It is opened for every worker; whether some of them own partitions.
    Staged {
        owns: bool,
    },
    Unfit {
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    pub of: CommandId,
    pub revision: Revision,
}

impl Control {
    /// Whether nothing is to be processed.
    pub fn is_held(&self) -> bool {
        self.history.paused.is_some() || self.failed.is_some()
    }

    /// How much a deployment is trusted that is to be opened.
    pub fn probation(&self, deployment: &Deployment) -> Probation {
        match (deployment.on_probation, self.history.other_than(&deployment.releases)) {
            _ if self.develops => Probation::Developing,
            (false, _) => Probation::Passed,
            (true, None) => Probation::First,
            (true, Some(_)) => Probation::Replaceable,
        }
    }

    /// What the running step of a rollout, which is that revision, has come to at all daemons.
    pub fn measured(&self, revision: Revision) -> StepFigures {
        let mut sum = StepFigures::default();
        for (_, figures) in
            self.members.values().filter_map(|member| member.measured.as_ref()).filter(|(of, _)| *of == revision)
        {
            sum.add(figures);
        }
        sum
    }
}

/// What came of a command, and of those that waited for what it brought.
#[derive(Debug)]
pub struct Applied {
    pub next: Control,
    pub answers: Vec<(CommandId, Result<Outcome, Refused>)>,
}

/// What follows from a command. Every command has one answer: the error here, or one in `Applied`, now or later.
///
/// # Errors
/// When it is refused: then nothing has changed.
pub fn apply(control: &Control, command: &Command, now: i64) -> Result<Applied, Refused> {
    let (id, from, by) = (command.id, command.from.clone(), command.by.clone());
    let mut fold = Fold { next: control.clone(), id, from, by, now, answers: Vec::new() };
    let mut against = command.against;
    planted_mistake!(ACCEPTS_STALE, against = None);
    if let (Some(against), Some(current)) = (against, control.history.revision())
        && against != current
    {
        return Err(Refused::Stale { pipeline: control.pipeline.clone(), against, current });
    }
    match &command.action {
        Action::Wish { releases, reason } => fold.wish(releases, reason),
        Action::Deploy { stages, reason, rollout } => fold.deploy(stages, reason, rollout.as_deref())?,
        Action::Undo { reason, to } => fold.undo(reason, *to)?,
        Action::Promote { reason } => fold.promote(reason)?,
        Action::Abort { reason } => fold.abort(reason)?,
        Action::HoldRollout { reason } => fold.hold_rollout(reason)?,
        Action::ContinueRollout { reason } => fold.continue_rollout(reason)?,
        Action::Pause { reason } => fold.pause(reason)?,
        Action::Resume => fold.resume()?,
        Action::Replay => fold.replay(),
        Action::Failed { revision, why } => fold.failed(*revision, why),
        Action::Passed { revision } => fold.passed(*revision),
        Action::ScorerFailed { revision, why } => fold.scorer_failed(*revision, why),
        Action::ScorerPassed { revision } => fold.scorer_passed(*revision),
        Action::Paused { pause } => fold.paused(pause),
        Action::Adopt { revision, releases } => fold.adopt(*revision, *releases),
        Action::Outrun { revision, releases } => fold.outrun(*revision, *releases),
        Action::Runs { worker, revision } => fold.runs(*worker, *revision),
        Action::Staged { of, owns } => fold.came(*of, Came::Staged { owns: *owns }),
        Action::Unfit { of, why } => fold.came(*of, Came::Unfit { why: why.clone() }),
        Action::Overdue { of } => fold.overdue(*of),
        Action::Measured { revision, figures } => fold.measured(*revision, figures),
        Action::Restore { history } => fold.restore(history),
        Action::Shared { digest, artifact } => fold.shared(*digest, artifact),
        Action::Lacks { digest } => fold.lacks(*digest),
        Action::Leaves => fold.leaves(),
        Action::Incomplete => fold.done(Outcome::Noted),
    }
    Ok(Applied { next: fold.next, answers: fold.answers })
}

/// The state in which the history says what somebody asked for in vain; none for what a daemon reports.
pub fn note_refusal(control: &Control, command: &Command, refused: &Refused, now: i64) -> Option<Control> {
    let by = Some(command.by.clone()?);
    let mut next = control.clone();
    Arc::make_mut(&mut next.history).note(Call { call: CallKind::Refused, by, reason: shortened(refused), at: now });
    Some(next)
}

/// As much of it as is remembered of a reason.
fn shortened(refused: &Refused) -> String {
    let mut text = refused.to_string();
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

/// One command on its way to the next state.
struct Fold {
    next: Control,
    id: CommandId,
    from: String,
    by: Option<By>,
    now: i64,
    answers: Vec<(CommandId, Result<Outcome, Refused>)>,
}

impl Fold {
    fn pipeline(&self) -> String {
        self.next.pipeline.clone()
    }

    fn history(&mut self) -> &mut History {
        Arc::make_mut(&mut self.next.history)
    }

    fn current(&self) -> Result<&Deployment, Refused> {
        self.next.history.current().ok_or_else(|| Refused::NoDeployment { pipeline: self.pipeline() })
    }

    fn answer(&mut self, to: CommandId, outcome: Result<Outcome, Refused>) {
        self.answers.push((to, outcome));
    }

    /// Answers the command that is applied.
    fn done(&mut self, outcome: Outcome) {
        self.answer(self.id, Ok(outcome));
    }

    /// Has the command's deployment staged. Its answer comes when that has come to something.
    fn stage(&mut self, staging: Staging) {
        self.stage_of(self.id, staging);
    }

    fn stage_of(&mut self, of: CommandId, staging: Staging) {
        self.next.staging.insert(of, staging);
    }

    /// What runs of it already is trusted as far as it is.
    fn successor(&self, releases: Releases, reason: String, is_new: bool) -> Deployment {
        let history = &self.next.history;
        let revision = history.revision().map_or(Revision::FIRST, Revision::next);
        let on_probation = match history.current() {
            Some(current) if current.releases.digest() == releases.digest() => current.on_probation,
            _ => is_new && !self.next.develops,
        };
        let scorer_on_probation = self.puts_scorer_on_probation(&releases, is_new);
        let (by, at) = (self.by.clone(), self.now);
        Deployment { reason, by, at, on_probation, scorer_on_probation, ..Deployment::of(revision, releases) }
    }

    fn wish(&mut self, releases: &Releases, reason: &str) {
        self.name_scorer(releases);
        let (wanted, scorer) = (releases.digest(), releases.score_digest());
        // Daemons that start at once ask for the same.
        let is_asked = |staging: &Staging| staging.applies == Some(wanted) && staging.applies_score == scorer;
        if self.next.is_shared && (!self.is_new_wish(releases) || self.next.staging.values().any(is_asked)) {
            return self.done(Outcome::Noted);
        }
        let history = &self.next.history;
        let against = history.revision();
        let is_other_path = history.applied != Some(wanted);
        let deployment = match history.current() {
            None => self.successor(releases.clone(), reason.to_owned(), true),
            Some(current) if history.has_applied(releases) => Deployment {
                on_probation: current.on_probation && !self.next.develops,
                scorer_on_probation: current.scorer_on_probation && !self.next.develops,
                ..current.clone()
            },
            // What the file asks for as before stands as it is, whatever was deployed since.
            Some(current) => {
                let path = if is_other_path { releases } else { &current.releases };
                let score = if history.has_applied_scorer(releases) { &current.releases } else { releases };
                let releases = path.clone().scored_as(score);
                let challenger = current.challenger.clone().filter(|_| !is_other_path);
                Deployment { challenger, ..self.successor(releases, reason.to_owned(), true) }
            }
        };
        let ends_rollout = is_other_path && Some(deployment.revision) != against;
        if ends_rollout {
            self.next_step_gives_way();
        }
        let rollout = if ends_rollout { RolloutThen::Ends } else { RolloutThen::Stays };
        let staging = Staging::of(deployment, against, rollout);
        self.stage(Staging { applies: Some(wanted), applies_score: scorer, ..staging });
    }

    fn deploy(
        &mut self,
        stages: &BTreeMap<String, StageChange>,
        reason: &str,
        steps: Option<&Steps>,
    ) -> Result<(), Refused> {
        if reason.trim().is_empty() {
            return Err(Refused::NoReason);
        }
        is_short(reason)?;
        if stages.is_empty() {
            return Err(Refused::NoChange);
        }
        let current = self.current()?;
        let mut releases = current.releases.clone();
        for (stage, change) in stages {
            change_stage(&self.next.pipeline, &mut releases, stage, change)?;
        }
        if releases.is_all_of(&current.releases) {
            return Err(Refused::SameAsCurrent { pipeline: self.pipeline(), current: current.revision });
        }
        self.no_rollout()?;
        let against = Some(current.revision);
        self.has_room()?;
        if let Some(steps) = steps
            && self.goes_by_steps(stages.keys(), &releases)?
        {
            return self.begin_rollout(releases, reason, steps);
        }
        let deployment = self.successor(releases, reason.to_owned(), true);
        self.stage(Staging::of(deployment, against, RolloutThen::Stays));
        Ok(())
    }

    fn undo(&mut self, reason: &str, to: Option<Revision>) -> Result<(), Refused> {
        is_short(reason)?;
        let current = self.current()?.clone();
        let words = if reason.trim().is_empty() { "undo" } else { reason };
        let goal =
            match to {
                None if self.next.history.rollout.is_some() => return self.abort(words),
                None => self.next.history.previous().cloned().ok_or_else(|| Refused::NothingToGoBackTo {
                    pipeline: self.pipeline(),
                    current: current.revision,
                })?,
                Some(revision) => self.earlier(revision)?,
            };
        if goal.releases.is_all_of(&current.releases) && current.challenger.is_none() {
            return Err(Refused::SameAsCurrent { pipeline: self.pipeline(), current: current.revision });
        }
        self.next_step_gives_way();
        self.has_room()?;
        let reason = format!("{words} (back to what revision {} ran)", goal.revision);
        let deployment = self.successor(goal.releases, reason, false);
        self.stage(Staging::of(deployment, Some(current.revision), RolloutThen::Ends));
        Ok(())
    }

    /// A deployment of the history that can be gone back to.
    fn earlier(&self, revision: Revision) -> Result<Deployment, Refused> {
        let pipeline = self.pipeline();
        match self.next.history.deployment(revision) {
            None => Err(Refused::NoSuchRevision { pipeline, revision }),
            Some(Deployment { failed: Some(why), .. }) => {
                Err(Refused::FailedRevision { pipeline, revision, why: why.clone() })
            }
            Some(deployment) => Ok(deployment.clone()),
        }
    }

    fn has_room(&self) -> Result<(), Refused> {
        let count = self.next.staging.len();
        if count < STAGED_AT_ONCE { Ok(()) } else { Err(Refused::Busy { pipeline: self.pipeline(), count }) }
    }

    fn pause(&mut self, reason: &str) -> Result<(), Refused> {
        is_short(reason)?;
        if let Some(pause) = &self.next.history.paused {
            return Err(Refused::PausedAlready { pipeline: self.pipeline(), why: pause.why.clone() });
        }
        let why = if reason.trim().is_empty() { "somebody asked for it" } else { reason };
        self.note_call(CallKind::Pause, reason);
        self.hold(
            Pause { at: self.now, cause: Cause::Operator, why: why.to_owned(), reasons: BTreeMap::new() },
            self.id,
        );
        Ok(())
    }

    /// Pauses, and answers with the pause that is in force: the first one keeps its reason.
    fn hold(&mut self, pause: Pause, to: CommandId) {
        let pause = self.history().paused.get_or_insert(pause).clone();
        self.answer(to, Ok(Outcome::Paused { pause }));
    }

    fn resume(&mut self) -> Result<(), Refused> {
        let Some(pause) = self.next.history.paused.clone() else {
            return Err(Refused::NotPaused { pipeline: self.pipeline() });
        };
        self.history().paused = None;
        self.note_call(CallKind::Resume, "");
        self.done(Outcome::Resumed { pause });
        Ok(())
    }

    /// Has the history say that somebody asked for something that is no deployment.
    fn note_call(&mut self, call: CallKind, reason: &str) {
        let call = Call { call, by: self.by.clone(), reason: reason.to_owned(), at: self.now };
        self.history().note(call);
    }

    fn replay(&mut self) {
        self.note_call(CallKind::Replay, "");
        self.done(Outcome::Noted);
    }

    fn failed(&mut self, revision: Revision, why: &str) {
        let Some(current) = self.next.history.current().cloned() else { return self.done(Outcome::Noted) };
        if current.revision != revision {
            // It was replaced in the meantime: what runs next waits in the slots.
            return self.done(Outcome::Superseded { by: current.revision });
        }
        if self.next.failed == Some(revision) {
            // Another worker was faster, and it is being decided.
            return self.done(Outcome::Noted);
        }
        if current.challenger.is_some() {
            return self.abort_failing(&current, why);
        }
        let labels = current.releases.path().map(|(_, release)| release.label()).collect::<Vec<_>>().join(", ");
        let failed = format!("revision {revision} ({labels}) failed: {why}");
        match self.next.history.other_than(&current.releases).filter(|_| current.on_probation).cloned() {
            None => {
                self.hold(Pause { at: self.now, cause: Cause::Release, why: failed, reasons: BTreeMap::new() }, self.id)
            }
            Some(previous) => {
                self.next.failed = Some(revision);
                let reason = format!("{failed}; back to what revision {} ran", previous.revision);
                let releases = previous.releases.scored_as(&current.releases);
                let deployment = self.successor(releases, reason, false);
                let staging = Staging::of(deployment, Some(revision), RolloutThen::Ends);
                self.stage(Staging { replaces: Some(why.to_owned()), ..staging });
            }
        }
    }

    /// A worker has paused the pipeline. While a challenger's answers count that is the challenger's doing until it is known better.
    fn paused(&mut self, pause: &Pause) {
        let current = self.next.history.current().cloned();
        let in_canary = current.filter(|current| current.challenger.as_ref().is_some_and(|arm| arm.canary > 0.0));
        match in_canary {
            Some(current) if pause.cause == Cause::Breaker && self.next.history.paused.is_none() => {
                if self.next.failed == Some(current.revision) {
                    return self.done(Outcome::Noted);
                }
                self.abort_failing(&current, &pause.why);
            }
            _ => self.hold(pause.clone(), self.id),
        }
    }

    /// A revision that has passed its probation is not taken back any more.
    fn passed(&mut self, revision: Revision) {
        if self.next.history.current().is_some_and(|current| current.revision == revision && current.on_probation)
            && let Some(current) = self.history().deployments.last_mut()
        {
            current.on_probation = false;
        }
        self.done(Outcome::Noted);
    }

    /// The daemon came to the group late, or lost its state: what it runs has another number there.
    fn adopt(&mut self, revision: Revision, releases: sandpiper_sandbox::Digest) {
        match self.next.history.current().cloned() {
            Some(current) if current.digest() == releases && current.revision < revision => {
                self.renumber(current, revision, format!("the group runs this as revision {revision}"));
            }
            _ => self.done(Outcome::Noted),
        }
    }

    /// Nobody could take a partition from this daemon without waiting: it goes above what was committed.
    fn outrun(&mut self, outrun: Revision, releases: Option<sandpiper_sandbox::Digest>) {
        match self.next.history.current().cloned() {
            // A daemon that has not heard of it yet.
            Some(current) if current.revision == outrun && releases == Some(current.digest()) => {
                self.done(Outcome::Noted)
            }
            Some(current) if current.revision <= outrun => {
                let reason = format!("the group ran something else as revision {outrun}, and none of its members does");
                self.renumber(current, outrun.next(), reason);
            }
            _ => self.done(Outcome::Noted),
        }
    }

    /// Has what is current staged once more under a higher number, unless something of that number is on its way: every worker
    /// reports the same.
    fn renumber(&mut self, current: Deployment, revision: Revision, reason: String) {
        if self.next.staging.values().any(|staging| staging.deployment.revision >= revision) {
            return self.done(Outcome::Noted);
        }
        let against = Some(current.revision);
        let deployment = Deployment { revision, reason, at: self.now, ..current };
        self.stage(Staging::of(deployment, against, RolloutThen::Stays));
    }

    fn end_handover(&mut self, not_yet_taken_by: Vec<String>) {
        if let Some(handover) = self.next.handover.take()
            && let Some(deployment) = self.next.history.current().cloned()
        {
            self.answer(handover.of, Ok(Outcome::Activated { deployment, not_yet_taken_by }));
        }
    }

    /// Whoever waits until every worker has what was handed over waits no longer: something else is current.
    fn supersede_handover(&mut self, by: &Deployment) {
        let Some(handover) = self.next.handover else { return };
        let rollout = |deployment: &Deployment| deployment.challenger.as_ref().map(|challenger| challenger.rollout);
        let before = self.next.history.deployment(handover.revision).cloned();
        let answer = match before.filter(|before| rollout(before).is_some() && rollout(before) == rollout(by)) {
            // The rollout goes on, which is what was asked for.
            Some(deployment) => Outcome::Activated { deployment, not_yet_taken_by: self.not_yet_taken() },
            None => Outcome::Superseded { by: by.revision },
        };
        self.next.handover = None;
        self.answer(handover.of, Ok(answer));
    }

    /// What was staged is current from now on.
    fn activate(&mut self, of: CommandId, staging: Staging) {
        let Staging { deployment, against, applies, applies_score, replaces, rollout, .. } = staging;
        let revision = deployment.revision;
        let is_new = against != Some(revision);
        self.supersede_handover(&deployment);
        let now = self.now;
        let history = self.history();
        if let Some(why) = &replaces {
            history.fail(why, &deployment.releases);
        }
        history.applied = applies.or(history.applied);
        history.applied_score = applies_score.or(history.applied_score);
        if is_new {
            history.push(deployment.clone());
        }
        match rollout {
            RolloutThen::Stays => {}
            // Its time counts from here, however long it took to be staged.
            RolloutThen::Is(rollout) => history.rollout = Some(Rollout { since: now, ..*rollout }),
            RolloutThen::Ends => history.rollout = None,
        }
        (self.next.failed, self.next.failed_scorer) = (None, None);
        self.drop_artifacts();
        match (replaces, against) {
            (Some(_), Some(failed)) => self.answer(of, Ok(Outcome::RolledBack { deployment, failed_revision: failed })),
            _ => {
                self.next.handover = Some(Handover { of, revision });
                // Nobody processes anything while the pipeline is paused: it is taken at `resume`.
                if self.next.history.paused.is_some() || self.not_yet_taken().is_empty() {
                    self.end_handover(Vec::new());
                }
            }
        }
    }

    /// No daemon can run it.
    fn unfit(&mut self, of: CommandId, staging: Staging, why: &str) {
        let runs_on = self.next.history.current().filter(|current| current.challenger.is_some()).cloned();
        let is_same = staging.against == Some(staging.deployment.revision);
        if let (Some(applies), true, Some(current)) = (staging.applies, is_same, runs_on) {
            // At a start: what runs must not stay down for what only ran beside it.
            let id = current.challenger.as_ref().map_or(current.revision, |challenger| challenger.rollout);
            let reason = format!("rollout {id} aborted: at the start it could not be staged: {why}");
            let deployment = self.successor(current.releases, reason, current.on_probation);
            let staging = Staging::of(deployment, Some(current.revision), RolloutThen::Ends);
            return self.stage_of(of, Staging { applies: Some(applies), ..staging });
        }
        if staging.applies.is_some() {
            // It may be asked for again: what was in the way may be mended.
            for member in self.next.members.values_mut().filter(|member| member.wish == staging.applies) {
                member.wish = None;
            }
        }
        let staged = match &staging.rollout {
            RolloutThen::Is(rollout) => Some(rollout.id),
            _ => None,
        };
        let under_way = self.next.history.rollout.clone();
        if let Some(rollout) = under_way.filter(|rollout| staged == Some(rollout.id)) {
            // Not tried again and again by itself.
            let why = format!("its next step cannot be staged: {why}");
            self.history().rollout = Some(Rollout { state: RolloutState::Held { why }, ..rollout });
        }
        let replaces_scorer = self.replaces_scorer(&staging);
        match (staging.replaces, self.next.history.revision()) {
            (None, _) => {
                let refused = Refused::Unfit { why: why.to_owned() };
                if let Some(by) = staging.deployment.by {
                    let (by, reason, at) = (Some(by), shortened(&refused), self.now);
                    self.history().note(Call { call: CallKind::Refused, by, reason, at });
                }
                self.answer(of, Err(refused));
            }
            (Some(_), Some(by)) if staging.against != Some(by) => self.answer(of, Ok(Outcome::Superseded { by })),
            (Some(_), _) if replaces_scorer => {
                let refused = self.scorer_stays(&staging.deployment.reason, why);
                self.answer(of, Err(refused));
            }
            (Some(_), _) => {
                self.next.failed = None;
                let why = format!("{}, which cannot take over: {why}", staging.deployment.reason);
                self.hold(Pause { at: self.now, cause: Cause::Release, why, reasons: BTreeMap::new() }, of);
            }
        }
    }
}

impl Staging {
    /// Nobody has said yet what came of it.
    fn of(deployment: Deployment, against: Option<Revision>, rollout: RolloutThen) -> Self {
        let came = BTreeMap::new();
        Self { deployment, against, applies: None, applies_score: None, replaces: None, rollout, came }
    }
}

fn is_short(reason: &str) -> Result<(), Refused> {
    if reason.len() > MAX_REASON { Err(Refused::LongReason { bytes: reason.len() }) } else { Ok(()) }
}

/// Changes one stage's release.
///
/// # Errors
/// When the pipeline has no such stage, or the change does not fit it.
pub fn change_stage(pipeline: &str, releases: &mut Releases, stage: &str, change: &StageChange) -> Result<(), Refused> {
    let known = releases.iter().map(|(stage, _)| stage).collect::<Vec<_>>().join(", ");
    let (pipeline, name) = (pipeline.to_owned(), stage.to_owned());
    let Some(release) = releases.get_mut(stage) else {
        if stage == SCORE {
            return Err(no_feedback(&pipeline));
        }
        return Err(Refused::NoSuchStage { pipeline, stage: name, known });
    };
    if let Some(plugin) = &change.plugin {
        if plugin.name.len() > MAX_NAME {
            return Err(Refused::LongName { bytes: plugin.name.len() });
        }
        rename(release, &plugin.name, plugin.digest);
    }
    if let Some(model) = change.model {
        release.model = Some(model);
    }
    let serde_json::Value::Object(config) = &mut release.config else {
        return Err(Refused::NoObject { pipeline, stage: name });
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

/// A plugin of another name starts with an empty configuration: the old one was written for something else.
fn rename(release: &mut Release, name: &str, plugin: sandpiper_sandbox::Digest) {
    if release.name != name {
        release.config = serde_json::json!({});
    }
    release.name = name.to_owned();
    release.plugin = plugin;
}

#[cfg(test)]
mod tests;
