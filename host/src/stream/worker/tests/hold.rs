//! What holds a worker: a pause, a release that failed, too many dead letters; and that nothing is lost on the way.

use super::above::pipeline::fakes::revision;
use super::above::pipeline::{Pipeline, fakes};
use super::fakes::{BOUNDS, Journal, World, partition, world};
use crate::config::plan::Policy;
use crate::record::Route;
use crate::record::output::Halt;
use crate::stream::hold::WorkerEvent;
use crate::stream::pause::{Cause, Pause};
use crate::stream::process::Probation;
use crate::stream::report::WorkerState;
use crate::stream::transaction::Bounds;
use crate::stream::worker::PROBATION;

fn pause() -> Pause {
    Pause { at: 1, cause: Cause::Operator, why: "lunch".into(), reasons: Default::default() }
}

/// A pipeline that fails on the record `poison`, at that revision.
fn fragile(revision: u64, probation: Probation) -> Pipeline {
    let model = fakes::model(revision, 1, &["x"], None);
    let mut pipeline = Pipeline::new(fakes::revision(revision), fakes::settings().into(), Vec::new(), Some(model));
    pipeline.probation = probation;
    pipeline
}

fn trying(probation: Probation, bounds: Bounds) -> World<Pipeline> {
    let mut world = World::of(fragile(7, probation), Journal::default(), bounds);
    world.assign(0);
    world
}

fn write(world: &mut World<Pipeline>, good: usize, poison: usize) {
    for _ in 0..good {
        world.record(partition(0), None, "1");
    }
    for _ in 0..poison {
        world.record(partition(0), None, "poison");
    }
}

#[test]
fn a_pause_commits_what_is_open_and_keeps_partitions_and_positions() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..2);
    world.step();
    world.calls();
    world.hold.pause(pause());
    world.step();
    assert_eq!(world.processed(0), [0, 1]);
    assert_eq!(world.calls(), ["commit 0@2 r7", "pause 0", "seek 0@2"]);
    assert_eq!(world.report().state, WorkerState::Paused);
    world.records(0, 2..4);
    world.interval();
    world.interval();
    assert_eq!(world.processed(0), [0, 1]);

    world.release();
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2, 3]);
    assert_eq!(world.report().state, WorkerState::Running);
}

#[test]
fn a_partition_that_comes_during_a_pause_waits_too() {
    let mut world = world();
    world.hold.pause(pause());
    world.step();
    world.assign(0);
    world.records(0, 0..2);
    world.interval();
    assert_eq!(world.processed(0), [0i64; 0]);
    world.release();
    world.settle();
    assert_eq!(world.processed(0), [0, 1]);
}

#[test]
fn a_partition_that_goes_during_a_pause_is_not_resumed() {
    let mut world = world();
    world.assign_all(&[partition(0), partition(1)]);
    world.hold.pause(pause());
    world.step();
    world.revoke(1);
    world.records(0, 0..1);
    world.release();
    world.settle();
    assert_eq!(world.processed(0), [0]);
}

#[test]
fn a_release_on_probation_that_fails_writes_nothing_and_the_next_one_takes_its_records() {
    let mut world = trying(Probation::Replaceable, BOUNDS);
    write(&mut world, 15, 1);
    world.step();
    world.interval();
    let Some(WorkerEvent::Failed { revision: failed, why }) = world.events().pop() else {
        panic!("nobody hears of it")
    };
    assert_eq!(failed, Some(revision(7)));
    assert!(why.contains("1 of 16 records") && why.contains("plugin-trap"), "{why}");
    world.interval();
    assert!(world.letters().is_empty(), "nothing of a bad deploy reaches the dead letters");
    assert_eq!(world.processed(0), [0i64; 0], "held until it is decided what runs next");

    // Before the workers are let go, as control does it.
    world.offer(fakes::passing(8));
    world.release();
    world.settle();
    assert_eq!(world.processed(0), (0..16).collect::<Vec<_>>());
    assert_eq!(world.revisions(0), vec!["8"; 16]);
}

#[test]
fn a_hold_that_ends_in_the_same_moment_lets_nothing_through_under_the_old_release() {
    let mut world = trying(Probation::Replaceable, BOUNDS);
    write(&mut world, 0, 1);
    world.step();
    world.interval();
    world.step();
    world.calls();
    world.offer(fakes::passing(8));
    world.release();
    world.step();
    world.settle();
    assert_eq!(world.revisions(0), ["8"]);
    assert!(world.letters().is_empty());
}

#[test]
fn one_failed_record_of_twenty_is_the_records_fault() {
    let mut world = trying(Probation::Replaceable, BOUNDS);
    write(&mut world, 19, 1);
    world.settle();
    assert_eq!((world.processed(0).len(), world.letters().len()), (19, 1));
    assert_eq!(world.events(), []);
}

#[test]
fn with_nothing_to_go_back_to_a_few_failed_records_stop_nothing() {
    let mut world = trying(Probation::First, BOUNDS);
    write(&mut world, 0, 9);
    world.settle();
    assert_eq!((world.letters().len(), world.events()), (9, vec![]));
    write(&mut world, 0, 10);
    world.step();
    world.interval();
    assert!(matches!(world.events().as_slice(), [WorkerEvent::Failed { .. }]));
    assert_eq!(world.letters().len(), 9);
}

#[test]
fn a_release_that_is_trusted_is_not_taken_back_any_more() {
    let mut world = trying(Probation::Passed, BOUNDS);
    write(&mut world, 0, 20);
    world.settle();
    assert_eq!((world.letters().len(), world.events()), (20, vec![]));
}

#[test]
fn a_release_passes_its_probation_once() {
    let mut world = trying(Probation::Replaceable, BOUNDS);
    write(&mut world, PROBATION as usize, 0);
    world.settle();
    write(&mut world, 10, 0);
    world.settle();
    assert_eq!(world.events(), [WorkerEvent::Passed { revision: revision(7) }]);
    write(&mut world, 0, 5);
    world.settle();
    assert_eq!((world.letters().len(), world.events()), (5, vec![]));
}

#[test]
fn a_release_that_another_worker_has_tried_enough_is_trusted_here_too() {
    let mut world = trying(Probation::Replaceable, BOUNDS);
    world.hold.pass(revision(7));
    write(&mut world, 0, 1);
    world.settle();
    assert_eq!((world.letters().len(), world.events()), (1, vec![WorkerEvent::Passed { revision: revision(7) }]));
    let mut world = trying(Probation::Replaceable, BOUNDS);
    world.hold.pass(revision(6));
    write(&mut world, 0, 1);
    world.step();
    world.interval();
    assert!(matches!(world.events().last(), Some(WorkerEvent::Failed { .. })), "an older one says nothing of it");
}

#[test]
fn too_many_dead_letters_pause_behind_the_transaction_that_shows_it() {
    let mut world = trying(Probation::Passed, Bounds { pause_above: 0.2, ..BOUNDS });
    write(&mut world, 30, 10);
    world.step();
    world.interval();
    assert_eq!(world.letters().len(), 10);
    let pause = world.paused().unwrap();
    assert_eq!((pause.cause, pause.reasons.get("plugin-trap")), (Cause::Breaker, Some(&10)));
    assert!(pause.why.contains("10 of the last minute's 40 records"), "{}", pause.why);
    write(&mut world, 1, 0);
    world.interval();
    assert_eq!(world.processed(0).len(), 30);
    world.release();
    world.settle();
    assert_eq!(world.processed(0).len(), 31);
}

#[test]
fn a_record_to_stop_at_pauses_before_it_and_nothing_of_its_transaction_is_written() {
    let model = fakes::model(7, 1, &["x"], None);
    let settings = super::above::pipeline::Settings { rejected: Policy::Stop, ..fakes::settings() };
    let pipeline = Pipeline::new(fakes::revision(7), settings.into(), Vec::new(), Some(model));
    let mut world = World::of(pipeline, Journal::default(), BOUNDS);
    world.assign(0);
    world.record(partition(0), None, "1");
    world.record(partition(0), None, "reject");
    world.step();
    world.interval();
    let pause = world.paused().unwrap();
    assert_eq!(pause.cause, Cause::Record);
    assert!(pause.why.starts_with("in/0@1: parse says bad-number"), "{}", pause.why);
    assert_eq!(world.group_offset(0).as_deref(), Some("0"));
    assert!(world.visible(Route::Output).is_empty() && world.letters().is_empty());

    world.offer(fakes::passing(8));
    world.step();
    world.release();
    world.settle();
    assert_eq!(world.processed(0), [0, 1]);
}

#[test]
fn a_halt_says_why() {
    assert_eq!(Halt::Release("it traps".into()).to_string(), "it traps");
}
