//! A runner on a journal in memory, whose staging waits until a test lets it go on.

mod elsewhere;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use sandpiper_sandbox::Digest;
use serde_json::json;

use super::*;
use crate::control::command::{NamedPlugin, StageChange};
use crate::control::deployment::{Release, Releases};
use crate::control::fold::SCORE;
use crate::control::history::History;
use crate::control::journal::Kept;
use crate::stream::slot::Slot;

/// Keeps everything, unless it is told to fail.
#[derive(Default)]
struct InMemory(Mutex<(Kept, Vec<Entry>, bool)>);

impl Journal for InMemory {
    fn read(&self, _: &str) -> Result<Kept> {
        Ok(self.0.lock().unwrap().0.clone())
    }

    fn keep(&self, _: &str, entry: &Entry, history: &History) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        anyhow::ensure!(!inner.2, "the disk is full");
        inner.0 = Kept { history: history.clone(), last: Some(entry.command.id) };
        inner.1.push(entry.clone());
        Ok(())
    }
}

/// What staging answers: each deployment waits for its turn.
#[derive(Default)]
struct Gate {
    turns: Mutex<VecDeque<Result<(), String>>>,
    changed: Condvar,
    /// Deployments that wait.
    waiting: Mutex<usize>,
}

impl Gate {
    fn pass(&self, turn: Result<(), String>) {
        self.turns.lock().unwrap().push_back(turn);
        self.changed.notify_all();
    }

    fn until_somebody_waits(&self) {
        let waiting = self.waiting.lock().unwrap();
        drop(self.changed.wait_while(waiting, |waiting| *waiting == 0).unwrap());
    }

    fn wait(&self) -> Result<()> {
        *self.waiting.lock().unwrap() += 1;
        self.changed.notify_all();
        let turns = self.turns.lock().unwrap();
        let mut turns = self.changed.wait_while(turns, |turns| turns.is_empty()).unwrap();
        *self.waiting.lock().unwrap() -= 1;
        turns.pop_front().unwrap().map_err(anyhow::Error::msg)
    }
}

/// Nothing is observed.
struct Nothing;

impl Observed for Nothing {
    fn measured(&self, _: Revision) -> StepFigures {
        StepFigures::default()
    }

    fn owns_partitions(&self) -> bool {
        true
    }
}

struct Stand {
    journal: Arc<InMemory>,
    gate: Arc<Gate>,
    slot: Arc<Slot<u64>>,
    inbox: Inbox<u64>,
    hold: Arc<Hold>,
    scoring: Arc<Hold>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.inbox.end();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn releases(classifier: &str) -> Releases {
    let release = |name: &str| {
        let (name, plugin) = (name.to_owned(), Digest::of(name.as_bytes()));
        Some(Release { name, plugin, model: None, config: json!({}) })
    };
    Releases { classify: release(classifier), score: release("loss"), ..Releases::default() }
}

fn stand(journal: Arc<InMemory>) -> Stand {
    let (gate, slot) = (Arc::new(Gate::default()), Arc::new(Slot::new().unwrap()));
    let turns = gate.clone();
    let stage = Arc::new(move |deployment: &Deployment, _: Trust| {
        if deployment.reason == "panic" {
            panic!("staging has a mistake");
        }
        turns.wait()?;
        Ok(Opened { workers: vec![deployment.revision.get()], scorer: None })
    });
    let slots = Slots { workers: vec![slot.clone()], feedback: None };
    let (runner, inbox, holds) =
        Runner::new("iris", false, journal.clone(), None, stage, Box::new(Nothing), slots).unwrap();
    let thread = runner.start().unwrap();
    Stand { journal, gate, slot, inbox, hold: holds.main, scoring: holds.feedback, thread: Some(thread) }
}

/// Runs revision 1.
fn running() -> Stand {
    let stand = stand(Arc::default());
    stand.gate.pass(Ok(()));
    let wish = Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() };
    assert!(matches!(stand.inbox.ask(None, wish), Ok(Outcome::Activated { .. })));
    assert_eq!(stand.slot.take(), Some(1));
    stand
}

fn deploy(classifier: &str, reason: &str) -> Action {
    deploy_to("classify", classifier, reason)
}

fn deploy_to(stage: &str, name: &str, reason: &str) -> Action {
    let plugin = NamedPlugin { name: name.into(), digest: Digest::of(name.as_bytes()) };
    let change = StageChange { plugin: Some(plugin), ..StageChange::default() };
    Action::Deploy { stages: [(stage.to_owned(), change)].into(), reason: reason.into(), rollout: None }
}

#[test]
fn a_deployment_is_in_the_slots_and_in_the_journal_when_it_is_answered() {
    let stand = running();
    stand.gate.pass(Ok(()));
    assert!(matches!(stand.inbox.ask(None, deploy("forest", "better")), Ok(Outcome::Activated { .. })));
    assert_eq!(stand.slot.take(), Some(2));
    let journal = stand.journal.0.lock().unwrap();
    assert_eq!((journal.0.history.revision(), journal.1.len()), (Revision::new(2), 2));
    assert_eq!(&journal.0.history, &*stand.inbox.snapshot().history);
}

#[test]
fn everything_else_goes_on_while_a_deployment_is_staged() {
    let stand = running();
    std::thread::scope(|scope| {
        let deploying = scope.spawn(|| stand.inbox.ask(None, deploy("forest", "better")));
        stand.gate.until_somebody_waits();
        assert!(matches!(stand.inbox.ask(None, Action::Pause { reason: "lunch".into() }), Ok(Outcome::Paused { .. })));
        assert!(stand.hold.is_on());
        assert!(matches!(stand.inbox.ask(None, Action::Resume), Ok(Outcome::Resumed { .. })));
        assert_eq!(stand.inbox.snapshot().staging.len(), 1);
        stand.gate.pass(Ok(()));
        assert!(matches!(deploying.join().unwrap(), Ok(Outcome::Activated { .. })));
    });
}

#[test]
fn what_cannot_be_remembered_is_refused_and_nothing_of_it_runs() {
    let stand = running();
    stand.journal.0.lock().unwrap().2 = true;
    stand.gate.pass(Ok(()));
    let refused = stand.inbox.ask(None, deploy("forest", "better")).unwrap_err();
    assert_eq!(refused, Refused::Unfit { why: "the disk is full".into() });
    assert_eq!(stand.slot.take(), None);
    let refused = stand.inbox.ask(None, Action::Pause { reason: String::new() }).unwrap_err();
    assert_eq!(refused, Refused::Unfit { why: "the disk is full".into() });
    assert!(!stand.hold.is_on());
    assert_eq!(stand.inbox.snapshot().history.revision(), Revision::new(1));
}

#[test]
fn a_worker_that_stops_stays_stopped_although_that_cannot_be_remembered() {
    let stand = running();
    stand.journal.0.lock().unwrap().2 = true;
    stand.hold.fail(Some(Revision::FIRST), "it traps".into());
    // Whoever asks next is answered behind it.
    assert!(stand.inbox.ask(None, Action::Undo { reason: String::new(), to: None }).is_err());
    assert!(stand.hold.is_on() && stand.inbox.snapshot().history.paused.is_some());
}

#[test]
fn a_failed_revision_is_replaced_and_the_workers_go_on() {
    let stand = running();
    stand.gate.pass(Ok(()));
    stand.inbox.ask(None, deploy("forest", "better")).unwrap();
    assert_eq!(stand.slot.take(), Some(2));
    stand.hold.fail(Some(Revision::FIRST.next()), "it traps".into());
    assert!(stand.hold.is_on());
    stand.gate.pass(Ok(()));
    let next = std::iter::repeat_with(|| stand.slot.take()).find_map(|next| {
        std::thread::yield_now();
        next
    });
    assert_eq!(next, Some(3), "what ran before, as a revision of its own");
    // Answered behind the decision.
    assert!(stand.inbox.ask(None, Action::Resume).is_err());
    assert!(!stand.hold.is_on());
}

#[test]
fn a_scorer_that_fails_is_replaced_and_records_are_processed_meanwhile() {
    let stand = running();
    stand.gate.pass(Ok(()));
    stand.inbox.ask(None, deploy_to(SCORE, "brier", "judge otherwise")).unwrap();
    assert_eq!(stand.slot.take(), Some(2));
    stand.scoring.fail(Some(Revision::FIRST.next()), "it traps".into());
    stand.gate.until_somebody_waits();
    assert!(stand.scoring.is_on() && !stand.hold.is_on());
    stand.gate.pass(Ok(()));
    while stand.scoring.is_on() {
        std::thread::yield_now();
    }
    let history = stand.inbox.snapshot().history.clone();
    let current = history.current().unwrap();
    assert_eq!((current.revision.get(), &*current.releases.score.as_ref().unwrap().name), (3, "loss"));
    assert!(history.deployment(Revision::FIRST.next()).unwrap().failed.is_some());
}

#[test]
fn staging_that_panics_is_an_answer() {
    let stand = running();
    let refused = stand.inbox.ask(None, deploy("forest", "panic")).unwrap_err();
    assert!(refused.to_string().contains("panicked"), "{refused}");
}

#[test]
fn a_pause_is_on_from_the_start_after_a_restart_and_ids_go_on() {
    let stand_before = running();
    stand_before.inbox.ask(None, Action::Pause { reason: "lunch".into() }).unwrap();
    let journal = stand_before.journal.clone();
    drop(stand_before);
    let last = journal.0.lock().unwrap().0.last.unwrap();
    let stand = stand(journal);
    assert!(stand.hold.is_on());
    stand.inbox.ask(None, Action::Resume).unwrap();
    assert!(stand.journal.0.lock().unwrap().0.last > Some(last));
}

#[test]
fn whoever_waits_when_the_daemon_stops_is_told_so() {
    let stand = running();
    std::thread::scope(|scope| {
        let deploying = scope.spawn(|| stand.inbox.ask(None, deploy("forest", "better")));
        stand.gate.until_somebody_waits();
        stand.inbox.end();
        assert_eq!(deploying.join().unwrap(), Err(Refused::Stopping));
        stand.gate.pass(Ok(()));
    });
}
