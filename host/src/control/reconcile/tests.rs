//! Workers that follow a state, whatever was missed of it.

use std::collections::BTreeMap;

use super::*;
use crate::control::command::{Action, Command, NamedPlugin, StageChange};
use crate::control::deployment::{Release, Releases};
use crate::control::fold::{SCORE, apply};
use crate::feedback::Scorer;
use crate::stream::process::Probation;
use crate::stream::slot::Slot;
use sandpiper_sandbox::Failure;
use sandpiper_sandbox::stage::Score;
use sandpiper_sandbox::wit::latest::{Judgement, Outcome};

/// One daemon's workers, and a state that changes by commands.
struct Stand {
    control: Control,
    slot: Arc<Slot<u64>>,
    scorers: Arc<Slot<Scorer>>,
    hold: Arc<Hold>,
    scoring: Arc<Hold>,
    reconciler: Reconciler<u64>,
    id: u64,
    now: Instant,
}

fn stand(follows: bool) -> Stand {
    let [hold, scoring] = [(); 2].map(|()| Arc::new(Hold::new(false, |_| {})));
    let (slot, scorers) = (Arc::new(Slot::new().unwrap()), Arc::new(Slot::new().unwrap()));
    let slots = Slots { workers: vec![slot.clone()], feedback: Some(scorers.clone()) };
    let holds = Holds { main: hold.clone(), feedback: scoring.clone() };
    let control = Control { pipeline: "iris".into(), is_shared: follows, ..Control::default() };
    let reconciler = Reconciler::new(slots, holds, follows);
    Stand { control, slot, scorers, hold, scoring, reconciler, id: 0, now: Instant::now() }
}

fn plugin(name: &str) -> NamedPlugin {
    NamedPlugin { name: name.into(), digest: Digest::of(name.as_bytes()) }
}

/// Scores nothing.
struct Nobody;

impl Score for Nobody {
    fn score(&mut self, _: &[String], _: &[Outcome], _: Duration) -> Result<Vec<Judgement>, Failure> {
        Ok(Vec::new())
    }
}

fn opened(revision: Revision) -> Opened<u64> {
    let (release, probation) = (format!("scorer-{revision}"), Probation::Passed);
    Opened {
        workers: vec![revision.get()],
        scorer: Some(Scorer { score: Box::new(Nobody), release, revision, probation }),
    }
}

impl Stand {
    /// The scorer's revision that waits for the feedback's worker.
    fn scorer(&self) -> Option<u64> {
        self.scorers.take().map(|scorer| scorer.revision.get())
    }

    fn tell(&mut self, action: Action) -> CommandId {
        self.id += 1;
        let command = Command { id: CommandId(self.id), from: "eu-1".into(), by: None, against: None, action };
        self.control = apply(&self.control, &command, 0).unwrap().next;
        command.id
    }

    fn wish(&mut self, name: &str) -> CommandId {
        let NamedPlugin { name, digest } = plugin(name);
        let release = Release { name, plugin: digest, model: None, config: serde_json::json!({}) };
        let score = Some(Release { name: "loss".into(), plugin: Digest::of(b"loss"), ..release.clone() });
        let releases = Releases { classify: Some(release), score, ..Releases::default() };
        self.tell(Action::Wish { releases: Box::new(releases), reason: "applied".into() })
    }

    fn deploy(&mut self, name: &str) -> CommandId {
        self.deploy_to("classify", name)
    }

    fn deploy_to(&mut self, stage: &str, name: &str) -> CommandId {
        let change = StageChange { plugin: Some(plugin(name)), ..StageChange::default() };
        let stages: BTreeMap<String, StageChange> = [(stage.to_owned(), change)].into();
        self.tell(Action::Deploy { stages, reason: "better".into(), rollout: None })
    }

    fn staged(&mut self, of: CommandId) {
        self.tell(Action::Staged { of, owns: true });
    }

    /// What is to be opened now.
    fn reconcile(&mut self) -> Vec<Opening> {
        self.reconciler.reconcile(&self.control, self.now)
    }

    fn open(&mut self, opening: &Opening) {
        let opened = opened(opening.deployment.revision);
        self.reconciler.opened(opening.key, Ok(opened), self.now);
    }

    fn fail(&mut self, opening: &Opening) {
        self.reconciler.opened(opening.key, Err("no memory".into()), self.now);
    }

    /// Runs revision 1.
    fn running(follows: bool) -> Self {
        let mut stand = stand(follows);
        let of = stand.wish("tree");
        let [opening] = &stand.reconcile()[..] else { panic!() };
        stand.open(opening);
        stand.staged(of);
        assert!(stand.reconcile().is_empty());
        assert_eq!(stand.slot.take(), Some(1));
        stand
    }
}

#[test]
fn what_is_proposed_is_opened_once_and_handed_over_when_it_is_current() {
    let mut stand = Stand::running(false);
    let of = stand.deploy("logistic");
    let [opening] = &stand.reconcile()[..] else { panic!() };
    assert!(stand.reconcile().is_empty(), "it is being opened");
    stand.open(opening);
    assert!(stand.reconciler.has_open(of));
    assert!(stand.reconcile().is_empty() && stand.slot.take().is_none(), "it is only proposed");
    stand.staged(of);
    stand.reconcile();
    assert_eq!(stand.slot.take(), Some(2));
    stand.reconcile();
    assert_eq!(stand.slot.take(), None, "it is handed over once");
}

#[test]
fn what_another_daemon_had_staged_first_is_handed_over_when_it_is_open_here() {
    let mut stand = Stand::running(true);
    let of = stand.deploy("logistic");
    let [opening] = &stand.reconcile()[..] else { panic!() };
    stand.staged(of);
    assert!(stand.reconcile().is_empty(), "it is being opened already");
    stand.open(opening);
    stand.reconcile();
    assert_eq!(stand.slot.take(), Some(2));
}

#[test]
fn a_daemon_that_was_away_runs_what_is_current_and_none_of_what_it_missed() {
    let mut stand = Stand::running(true);
    for name in ["logistic", "forest"] {
        let of = stand.deploy(name);
        stand.staged(of);
    }
    let [opening] = &stand.reconcile()[..] else { panic!() };
    assert_eq!((opening.key.of, opening.deployment.revision.get()), (None, 3));
    stand.open(opening);
    stand.reconcile();
    assert_eq!(stand.slot.take(), Some(3));
}

#[test]
fn what_cannot_be_opened_is_tried_again_and_the_workers_leave_after_a_minute_until_it_can() {
    let mut stand = Stand::running(true);
    let of = stand.deploy("logistic");
    let [proposed] = &stand.reconcile()[..] else { panic!() };
    stand.fail(proposed);
    assert!(stand.reconcile().is_empty(), "whoever proposed it is told, and that is all");
    stand.staged(of);
    let [current] = &stand.reconcile()[..] else { panic!() };
    stand.fail(current);
    assert!(stand.reconcile().is_empty() && stand.hold.stays_out().is_none() && !stand.hold.is_on());
    let trouble = stand.hold.trouble().unwrap();
    assert!(trouble.contains("revision 2") && trouble.contains("no memory"), "said at once: {trouble}");
    stand.now += RETRY;
    let [again] = &stand.reconcile()[..] else { panic!() };
    stand.fail(again);
    stand.now += STRAGGLES;
    let [last] = &stand.reconcile()[..] else { panic!() };
    assert_eq!(stand.reconciler.due(), None, "it is being opened, and stays out: nothing is to be looked at meanwhile");
    let why = stand.hold.stays_out().unwrap();
    assert!(why.contains("revision 2") && why.contains("no memory"), "{why}");
    stand.open(last);
    stand.reconcile();
    assert_eq!((stand.slot.take(), stand.hold.stays_out(), stand.hold.trouble()), (Some(2), None, None));
}

#[test]
fn workers_whose_revision_failed_are_held_until_they_have_what_takes_its_place() {
    let mut stand = Stand::running(true);
    let of = stand.deploy("logistic");
    let [opening] = &stand.reconcile()[..] else { panic!() };
    stand.open(opening);
    stand.staged(of);
    stand.reconcile();
    let failed = stand.tell(Action::Failed { revision: Revision::FIRST.next(), why: "it traps".into() });
    let [before] = &stand.reconcile()[..] else { panic!() };
    assert!(stand.hold.is_on());
    stand.staged(failed);
    stand.reconcile();
    assert!(stand.hold.is_on(), "another daemon has it, and this one not yet");
    stand.open(before);
    stand.reconcile();
    assert_eq!((stand.slot.take(), stand.hold.is_on()), (Some(3), false));
}

#[test]
fn workers_that_have_not_failed_go_on_while_the_next_one_is_opened() {
    let mut stand = Stand::running(true);
    let of = stand.deploy("logistic");
    stand.staged(of);
    stand.reconcile();
    assert!(!stand.hold.is_on());
}

#[test]
fn what_is_superseded_is_let_go() {
    let mut stand = Stand::running(false);
    let (first, second) = (stand.deploy("logistic"), stand.deploy("forest"));
    for opening in stand.reconcile() {
        stand.open(&opening);
    }
    stand.staged(second);
    stand.reconcile();
    assert!(!stand.reconciler.has_open(second), "it is in the slot");
    stand.staged(first);
    stand.reconcile();
    assert!(!stand.reconciler.has_open(first) && stand.reconciler.deployments.is_empty());
}

#[test]
fn a_worker_that_fails_with_what_is_replaced_already_goes_on_with_what_is_current_alone() {
    let mut stand = Stand::running(true);
    let of = stand.deploy("logistic");
    let [opening] = &stand.reconcile()[..] else { panic!() };
    stand.staged(of);
    stand.reconcile();
    stand.hold.fail(Some(Revision::FIRST), "it traps".into());
    stand.reconciler.await_successor(StandsStill::Main);
    stand.reconciler.decided(StandsStill::Main);
    assert!(stand.hold.is_on(), "the next one is not open yet");
    stand.open(opening);
    stand.reconcile();
    assert_eq!((stand.slot.take(), stand.hold.is_on()), (Some(2), false));
}

#[test]
fn a_scorer_waits_for_the_feedbacks_worker_beside_what_processes_records() {
    let mut stand = Stand::running(false);
    assert_eq!(stand.scorer(), Some(1));
    let of = stand.deploy_to(SCORE, "brier");
    let [opening] = &stand.reconcile()[..] else { panic!() };
    assert_eq!(opening.trust, Trust { path: Probation::First, scorer: Probation::Replaceable });
    stand.open(opening);
    assert_eq!(stand.scorer(), None, "it is only proposed");
    stand.staged(of);
    stand.reconcile();
    assert_eq!((stand.slot.take(), stand.scorer()), (Some(2), Some(2)));
}

#[test]
fn a_scorer_that_failed_holds_the_feedbacks_worker_alone_until_it_has_the_one_before() {
    let mut stand = Stand::running(true);
    let of = stand.deploy_to(SCORE, "brier");
    let [opening] = &stand.reconcile()[..] else { panic!() };
    stand.open(opening);
    stand.staged(of);
    stand.reconcile();
    assert_eq!(stand.scorer(), Some(2));
    stand.scoring.fail(Some(Revision::FIRST.next()), "it traps".into());
    let failed = stand.tell(Action::ScorerFailed { revision: Revision::FIRST.next(), why: "it traps".into() });
    let [before] = &stand.reconcile()[..] else { panic!() };
    stand.reconciler.await_successor(StandsStill::Feedback);
    stand.reconciler.decided(StandsStill::Feedback);
    assert!(stand.scoring.is_on() && !stand.hold.is_on(), "records are processed meanwhile");
    stand.staged(failed);
    stand.reconcile();
    assert!(stand.scoring.is_on(), "another daemon has it, and this one not yet");
    stand.open(before);
    stand.reconcile();
    assert_eq!((stand.scorer(), stand.scoring.is_on()), (Some(3), false));
}

#[test]
fn one_number_with_another_scorer_is_something_else_to_open() {
    let mut stand = Stand::running(true);
    let history = Arc::make_mut(&mut stand.control.history);
    history.deployments[0].releases.score.as_mut().unwrap().plugin = Digest::of(b"another");
    assert_eq!(stand.reconcile().len(), 1);
}
