//! When a transaction closes: at its bound, and not before.

use std::time::Duration;

use super::above::pipeline::fakes;
use super::fakes::{BOUNDS, Journal, World};
use crate::stream::clock::Clock as _;
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
