//! A scorer is exchanged between two transactions, and one that fails goes as any release does.

use std::time::Duration;

use super::above::feedback::Kind;
use super::effects::{ZeroOne, feedback, scorer};
use super::fakes::{Ending, World};
use crate::record::{Revision, Route};
use crate::stream::hold::WorkerEvent;
use crate::stream::process::{Probation, Process};
use sandpiper_sandbox::stage::Score;
use sandpiper_sandbox::wit::latest::{Judgement, Outcome};
use sandpiper_sandbox::{Failure, FailureKind};

/// Fails on whatever it is asked.
struct Trap;

impl Score for Trap {
    fn score(&mut self, _: &[String], _: &[Outcome], _: Duration) -> Result<Vec<Judgement>, Failure> {
        Err(Failure { kind: FailureKind::Trap, message: "unreachable".into(), log: String::new() })
    }
}

/// Which scorer has judged each id, in the order of the scores.
fn judged<P: Process>(world: &World<P>) -> Vec<(String, String)> {
    let scores = world.visible(Route::Output);
    let json = scores.iter().map(|score| serde_json::from_slice(score.value.as_deref().unwrap()).unwrap());
    let text = |json: &serde_json::Value, name: &str| json[name].as_str().unwrap().to_owned();
    json.map(|json: serde_json::Value| (text(&json, "id"), text(&json, "scorer"))).collect()
}

fn by(id: &str, scorer: u64) -> (String, String) {
    (id.to_owned(), format!("scorer-{scorer}"))
}

#[test]
fn each_transaction_has_one_scorer_and_what_is_joined_stays() {
    let (mut world, figures) = feedback();
    for id in ["a", "b", "c"] {
        world.predicted(id, "cat");
    }
    world.settle();
    world.labelled("a", "cat");
    world.step();
    world.offer(scorer(Box::new(ZeroOne), 2, Probation::Passed));
    world.labelled("b", "cat");
    world.step();
    assert_eq!(judged(&world), [by("a", 1), by("b", 1)], "what the open transaction reads is its scorer's");
    assert_eq!(world.report().revision, Revision::new(2));
    world.labelled("c", "cat");
    world.labelled("a", "cat");
    world.settle();
    assert_eq!(judged(&world), [by("a", 1), by("b", 1), by("c", 2)]);
    assert_eq!((figures.labels(Kind::Matched), figures.labels(Kind::Duplicate)), (3, 1));
    assert_eq!(world.group_offset(0).as_deref(), Some("3"), "no offset of the group names a deployment");
}

#[test]
fn a_label_of_a_transaction_that_fails_while_a_scorer_waits_has_one_score() {
    for ending in [Ending::Abortable, Ending::Unknown { took_effect: false }, Ending::Unknown { took_effect: true }] {
        let (mut world, _) = feedback();
        world.predicted("a", "cat");
        world.settle();
        world.labelled("a", "cat");
        world.step();
        world.offer(scorer(Box::new(ZeroOne), 2, Probation::Passed));
        world.next_commit_ends(ending);
        world.step();
        world.settle();
        assert_eq!(judged(&world).len(), 1, "{ending:?}");
        assert_eq!(world.report().revision, Revision::new(2), "{ending:?}");
    }
}

#[test]
fn a_scorer_on_probation_that_fails_writes_nothing_and_the_one_before_takes_its_labels() {
    let (mut world, figures) = feedback();
    world.predicted("a", "cat");
    world.settle();
    world.offer(scorer(Box::new(Trap), 2, Probation::Replaceable));
    world.step();
    world.labelled("a", "cat");
    world.step();
    world.interval();
    let events = world.events();
    let Some(WorkerEvent::Failed { revision, why }) = events.last() else { panic!("nobody hears of it: {events:?}") };
    assert_eq!(*revision, Revision::new(2));
    assert!(why.contains("1 of 1 records") && why.contains("plugin-trap"), "{why}");
    world.interval();
    assert!(world.letters().is_empty() && judged(&world).is_empty(), "held until it is decided what scores next");
    world.offer(scorer(Box::new(ZeroOne), 3, Probation::Passed));
    world.release();
    world.settle();
    assert_eq!((judged(&world), figures.labels(Kind::Matched)), (vec![by("a", 3)], 1));
}

#[test]
fn what_a_trusted_scorer_fails_on_is_a_dead_letter() {
    let (mut world, _) = feedback();
    world.predicted("a", "cat");
    world.offer(scorer(Box::new(Trap), 2, Probation::Passed));
    world.settle();
    world.labelled("a", "cat");
    world.settle();
    assert_eq!((world.letters().len(), world.events()), (1, Vec::new()));
}
