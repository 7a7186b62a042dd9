//! When a transaction closes: at its bound, and not before.

use std::time::Duration;

use super::above::pipeline::fakes;
use super::fakes::{BOUNDS, HandClock, Journal, World};
use crate::record::Batch;
use crate::record::output::Outputs;
use crate::stream::clock::Clock as _;
use crate::stream::process::{Forced, Process};
use crate::stream::transaction::Bounds;

fn bounded(bounds: Bounds) -> World<super::above::pipeline::Pipeline> {
    let mut world = World::of(fakes::passing(7), Journal::default(), bounds);
    world.assign(0);
    world
}

#[test]
fn a_transaction_closes_at_its_records_and_not_one_before() {
    let mut world = bounded(Bounds { records: 5, ..BOUNDS });
    world.records(0, 0..4);
    world.step();
    assert!(world.is_in_transaction());
    world.records(0, 4..5);
    world.step();
    assert!(!world.is_in_transaction());
    assert_eq!(world.processed(0), [0, 1, 2, 3, 4]);
}

#[test]
fn a_transaction_closes_at_its_bytes_and_not_one_before() {
    // The values "0" to "4" go out as they came, without keys, each with the header that stamps it: about 140 bytes in memory.
    let mut world = bounded(Bounds { bytes: 600, ..BOUNDS });
    world.records(0, 0..4);
    world.step();
    assert!(world.is_in_transaction());
    world.records(0, 4..5);
    world.step();
    assert!(!world.is_in_transaction());
}

#[test]
fn a_transaction_closes_when_its_interval_is_over_and_not_a_millisecond_before() {
    let mut world = bounded(BOUNDS);
    world.records(0, 0..1);
    world.step();
    world.clock.advance(BOUNDS.interval - Duration::from_millis(1));
    world.step();
    assert!(world.is_in_transaction());
    world.clock.advance(Duration::from_millis(1));
    world.step();
    assert!(!world.is_in_transaction());
    assert_eq!(world.processed(0), [0]);
}

#[test]
fn the_interval_counts_from_the_first_record_not_from_the_last() {
    let mut world = bounded(BOUNDS);
    world.records(0, 0..1);
    world.step();
    world.clock.advance(BOUNDS.interval / 2);
    world.records(0, 1..2);
    world.step();
    assert!(world.is_in_transaction());
    world.clock.advance(BOUNDS.interval / 2);
    world.step();
    assert_eq!(world.processed(0), [0, 1]);
}

#[test]
fn a_record_that_comes_long_after_the_last_commit_waits_for_nothing() {
    let mut world = bounded(BOUNDS);
    world.records(0, 0..1);
    world.step();
    world.interval();
    world.clock.advance(BOUNDS.interval);
    world.records(0, 1..2);
    world.step();
    assert_eq!(world.processed(0), [0, 1]);
}

#[test]
fn an_interval_after_the_last_commit_started_the_next_one_does_and_not_a_millisecond_before() {
    let mut world = bounded(BOUNDS);
    world.records(0, 0..1);
    world.step();
    world.interval();
    world.clock.advance(BOUNDS.interval - Duration::from_millis(1));
    world.records(0, 1..2);
    world.step();
    assert!(world.is_in_transaction());
    world.clock.advance(Duration::from_millis(1));
    world.step();
    assert_eq!(world.processed(0), [0, 1]);
}

#[test]
fn a_transaction_is_not_due_before_its_sink_has_rested() {
    let mut world = bounded(BOUNDS);
    let rested = world.clock.now() + BOUNDS.interval * 2;
    world.sink_rests_until(rested);
    world.records(0, 0..1);
    world.step();
    world.interval();
    assert!(world.is_in_transaction());
    world.interval();
    assert_eq!(world.processed(0), [0]);
}

#[test]
fn without_a_record_there_is_no_transaction() {
    let mut world = bounded(BOUNDS);
    world.calls();
    world.interval();
    world.interval();
    assert!(world.calls().is_empty());
    assert_eq!(world.report().transactions, 0);
}

#[test]
fn many_batches_make_one_transaction() {
    let mut world = bounded(BOUNDS).in_batches_of(2);
    world.records(0, 0..6);
    world.calls();
    for _ in 0..3 {
        world.step();
    }
    world.interval();
    assert_eq!(world.calls(), ["begin", "send 2", "send 2", "send 2", "commit 0@6 r7"]);
    assert_eq!(world.report().transactions, 1);
    assert_eq!(world.report().counts.records, 6);
}

#[test]
fn a_batch_that_comes_to_too_much_is_processed_in_halves_and_nothing_of_it_is_lost() {
    use super::above::pipeline::Pipeline;
    use super::above::pipeline::fakes::{Fate, MAX_OUTPUT, revision, settings, to, transform};
    use crate::record::Route;
    // 100 records fit at once; one of them alone comes to too much.
    let fate = |text: &str| match text {
        "250" => Fate::Emit((0..20).map(|_| to(0, "x".repeat(MAX_OUTPUT / 10))).collect()),
        _ => Fate::Emit(vec![to(0, "x".repeat(MAX_OUTPUT / 150))]),
    };
    let transforms = vec![transform("transform[0]", &[None], fate)];
    let pipeline = Pipeline::new(revision(7), std::sync::Arc::new(settings()), transforms, None);
    let mut world = World::of(pipeline, Journal::default(), BOUNDS);
    world.assign(0);
    world.records(0, 0..1_000);
    world.settle();
    let others: Vec<i64> = (0..1_000).filter(|offset| *offset != 250).collect();
    assert_eq!(world.processed(0), others);
    let letters = world.letters();
    assert_eq!(letters.iter().map(|letter| letter.origin.offset).collect::<Vec<_>>(), [250]);
    assert_eq!(world.visible(Route::Output).len(), 999);
    assert_eq!(world.group_offset(0).as_deref(), Some("1000 r7"));
}

#[test]
fn a_transaction_that_is_due_closes_between_halves() {
    use super::above::pipeline::Pipeline;
    use super::above::pipeline::fakes::{Fate, MAX_OUTPUT, revision, settings, to, transform};
    let fate = |_: &str| Fate::Emit(vec![to(0, "x".repeat(MAX_OUTPUT / 3))]);
    let transforms = vec![transform("transform[0]", &[None], fate)];
    let pipeline = Pipeline::new(revision(7), std::sync::Arc::new(settings()), transforms, None);
    let mut world = World::of(pipeline, Journal::default(), Bounds { records: 2, ..BOUNDS });
    world.assign(0);
    world.records(0, 0..8);
    world.calls();
    world.step();
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("commit")).count(), 4);
    assert_eq!(world.processed(0), (0..8).collect::<Vec<_>>());
}

/// Comes to too much above two records, and takes as long as a transaction may for whatever it is given.
struct Slow {
    clock: std::sync::Arc<std::sync::Mutex<Option<HandClock>>>,
    inner: super::above::pipeline::Pipeline,
}

impl Process for Slow {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        if let Some(clock) = self.clock.lock().unwrap().as_ref() {
            clock.advance(BOUNDS.budget);
        }
        self.inner.process(batch, forced, now, outputs);
        if batch.len() > 2 {
            outputs.clear();
            outputs.overflowed = true;
        }
    }
}

#[test]
fn parts_of_a_batch_that_take_long_leave_time_for_the_group_and_nothing_of_it_is_lost() {
    let clock = std::sync::Arc::default();
    let process = Slow { clock: std::sync::Arc::clone(&clock), inner: fakes::passing(7) };
    let mut world = World::of(process, Journal::default(), BOUNDS);
    *clock.lock().unwrap() = Some(world.clock.clone());
    world.assign(0);
    world.assign(1);
    world.records(0, 0..11);
    world.records(1, 0..6);
    for _ in 0..40 {
        let before = world.clock.now();
        world.step();
        assert!(world.clock.now() - before <= BOUNDS.budget, "one call, then the group is served");
    }
    world.interval();
    assert_eq!((world.processed(0), world.processed(1)), ((0..11).collect(), (0..6).collect()));
}
