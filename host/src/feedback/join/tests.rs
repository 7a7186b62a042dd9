use proptest::prelude::*;

use super::*;
use crate::record::{Revision, Role};

#[path = "../../../../tests/fuzz/join_model.rs"]
mod model;

mod join_api {
    pub use super::super::*;
    pub use crate::record::{Revision, Role};
}

proptest! {
    #[test]
    fn the_join_does_what_a_reference_of_a_few_lines_does(data: Vec<u8>) {
        model::check(&data);
    }
}

/// Stream time begins here.
const START: i64 = 1_700_000_000_000;

/// That long after it, read an hour later.
fn at(time: i64) -> Moment {
    Moment { record: Some(START + time), now: START + 3_600_000 }
}

/// Read when what came before it does not count for the time any more.
fn later(time: i64) -> Moment {
    Moment { now: START + 7_200_000, ..at(time) }
}

fn join() -> Join {
    Join::new(Bounds { wait_ms: 1_000, entries: 3, bytes: 1 << 20 })
}

fn prediction(id: &str) -> Prediction {
    Prediction {
        id: id.into(),
        predicted: 1,
        scores: vec![0.25, 0.75],
        classes: ["cat".to_owned(), "dog".into()].into(),
        revision: Revision::new(7).unwrap(),
        origin: "pets/0@1".into(),
        role: Role::Champion,
        release: None,
        other: None,
    }
}

fn label(class: &str) -> Label {
    Label { class: class.into(), source: "vet".into() }
}

#[test]
fn a_label_meets_its_prediction_in_either_order() {
    let mut join = join();
    assert_eq!(join.prediction(prediction("a"), at(100)), Arrival::Held);
    let Arrival::Joined(joined) = join.label("a", label("cat"), at(350)) else { panic!("not joined") };
    assert_eq!((joined.truth, joined.delay_ms, joined.early), (0, Some(250), false));
    assert_eq!(join.label("b", label("dog"), at(10)), Arrival::Held);
    let Arrival::Joined(joined) = join.prediction(prediction("b"), at(20)) else { panic!("not joined") };
    assert_eq!((joined.truth, joined.delay_ms, joined.early), (1, Some(0), true));
}

#[test]
fn a_second_label_is_counted_and_never_scored() {
    let mut join = join();
    join.prediction(prediction("a"), at(0));
    join.label("a", label("cat"), at(1));
    assert_eq!(join.label("a", label("cat"), at(2)), Arrival::Counted(Kind::Duplicate));
    assert_eq!(join.label("a", label("dog"), at(3)), Arrival::Counted(Kind::Conflicting));
    join.label("b", label("cat"), at(4));
    assert_eq!(join.label("b", label("dog"), at(5)), Arrival::Counted(Kind::Conflicting));
}

#[test]
fn a_class_that_the_model_does_not_know_is_counted_and_the_prediction_waits_on() {
    let mut join = join();
    join.prediction(prediction("a"), at(0));
    assert_eq!(
        join.label("a", label("cow"), at(1)),
        Arrival::UnknownClass { class: "cow".into(), classes: prediction("a").classes }
    );
    assert!(matches!(join.label("a", label("cat"), at(2)), Arrival::Joined(_)));
}

#[test]
fn what_waited_too_long_is_forgotten_and_counted_at_a_commit() {
    let mut join = join();
    join.label("early", label("cat"), at(0));
    join.prediction(prediction("a"), at(5));
    assert_eq!(join.commit(), Forgotten::default());
    join.prediction(prediction("b"), later(1_001));
    assert_eq!(join.commit(), Forgotten { labels: 1, predictions: 0, evicted: 0 });
    join.label("c", label("cat"), later(1_006));
    assert_eq!(join.commit(), Forgotten { labels: 0, predictions: 1, evicted: 0 });
    assert_eq!(join.len(), 2);
}

#[test]
fn a_side_that_lags_behind_costs_the_other_nothing() {
    let mut join = join();
    join.label("a", label("cat"), at(10));
    join.label("b", label("dog"), at(60_000));
    assert_eq!(join.commit(), Forgotten::default());
    assert!(matches!(join.prediction(prediction("a"), at(5)), Arrival::Joined(_)));
}

#[test]
fn entries_beyond_the_bound_are_forgotten_oldest_first() {
    let mut join = join();
    for id in ["a", "b", "c", "d", "e"] {
        join.prediction(prediction(id), at(0));
    }
    assert_eq!(join.commit(), Forgotten { labels: 0, predictions: 0, evicted: 2 });
    assert_eq!(join.label("a", label("cat"), at(1)), Arrival::Held);
    assert!(matches!(join.label("c", label("cat"), at(1)), Arrival::Joined(_)));
}

#[test]
fn what_was_kept_is_met_as_if_it_had_just_come_and_forgotten_in_its_time() {
    let mut join = join();
    let kept = |id: &str, met, time, entry| Kept { id: id.into(), met, time: START + time, entry };
    join.restore(kept(
        "a",
        Met::Prediction,
        100,
        Some(Entry::Predicted { prediction: prediction("a"), time: Some(START + 100) }),
    ));
    join.restore(kept("b", Met::Label, 200, Some(Entry::Joined("dog".into()))));
    join.restore(kept(
        "c",
        Met::Prediction,
        300,
        Some(Entry::Predicted { prediction: prediction("c"), time: Some(START + 300) }),
    ));
    join.restore(kept("c", Met::Prediction, 300, None));
    join.abort();
    assert_eq!(join.label("b", label("dog"), at(900)), Arrival::Counted(Kind::Duplicate));
    assert_eq!(join.label("c", label("dog"), at(900)), Arrival::Held);
    let Arrival::Joined(joined) = join.label("a", label("cat"), at(900)) else { panic!("not joined") };
    assert_eq!(joined.delay_ms, Some(800));
    join.abort();
    join.label("late", label("cat"), at(1_101));
    assert_eq!(join.commit(), Forgotten { labels: 0, predictions: 1, evicted: 0 }, "a is too old for any label now");
}

#[test]
fn an_abort_leaves_no_trace() {
    let mut join = join();
    join.prediction(prediction("a"), at(0));
    join.commit();
    join.label("a", label("cat"), at(1));
    join.label("b", label("cat"), at(2));
    join.prediction(prediction("c"), at(3));
    join.abort();
    assert_eq!((join.len(), join.predicted.order.len(), join.labelled.order.len()), (1, 1, 0));
    assert!(matches!(join.label("a", label("dog"), at(1)), Arrival::Joined(_)));
}
