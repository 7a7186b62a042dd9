//! What a process remembers of its partitions: restored before they are read, forgotten when they go.

use std::time::Duration;

use super::fakes::{BOUNDS, Ending, Journal, Rememberer, World, diary, partition, remembering};
use crate::record::Revision;
use crate::stream::fault::Fault;
use crate::stream::report::{PartitionReport, WorkerState};
use crate::stream::state::Progress;
use crate::stream::worker::RESTORE;

fn unknown(message: &str) -> Fault {
    Fault::Unknown(message.into())
}

/// What is left to be restored of each partition, as reported.
fn left(world: &World<Rememberer>) -> Vec<(i32, Option<(u64, u64)>)> {
    let progress =
        |report: &PartitionReport| (report.partition, report.restoring.map(|Progress { done, of }| (done, of)));
    world.report().partitions.iter().map(progress).collect()
}

#[test]
fn a_restore_comes_behind_the_committed_offsets_and_before_a_record_of_its_partition_is_read() {
    let mut world = remembering([(0, 3)]);
    world.records(0, 0..2);
    world.committed_by_another(0, 1, "r7");
    world.assign(0);
    world.settle();
    assert_eq!(
        world.calls(),
        [
            "check 0",
            "committed? 0",
            "remember 0",
            "restore 0 1/3",
            "restore 0 2/3",
            "restore 0 3/3",
            "assign 0@1",
            "begin",
            "process 1",
            "send 1",
            "commit 0@2 r7",
            "effects applied"
        ]
    );
}

#[test]
fn a_restore_waits_for_the_last_owners_transaction() {
    let mut world = remembering([(0, 1)]);
    world.fails("committed", unknown("the offsets are not stable"));
    world.assign(0);
    assert_eq!(world.calls(), ["check 0", "committed? 0"]);
    world.interval();
    assert_eq!(world.calls(), ["check 0", "committed? 0", "offsets 0@0", "remember 0", "restore 0 1/1", "assign 0@0"]);
}

#[test]
fn a_revoke_in_mid_restore_forgets_what_was_restored_and_never_starts_the_partition() {
    let mut world = remembering([(0, 9)]);
    world.records(0, 0..2);
    world.assign(0);
    world.step();
    world.calls();
    world.revoke(0);
    assert_eq!(world.calls(), ["unassign 0", "forget 0"]);
    for _ in 0..20 {
        world.interval();
    }
    assert_eq!((world.calls(), world.report().partitions.len()), (vec![], 0));
    // It comes again, and everything is restored from the start.
    world.assign(0);
    let heard = world.calls();
    assert!(heard.contains(&"remember 0".to_owned()) && heard.contains(&"restore 0 1/9".to_owned()), "{heard:?}");
    world.settle();
    assert_eq!(world.processed(0), [0, 1]);
}

#[test]
fn partitions_lost_in_mid_restore_are_forgotten_too() {
    let mut world = remembering([(0, 9)]);
    world.assign(0);
    world.calls();
    world.lose(0);
    assert_eq!(world.calls(), ["unassign 0", "forget 0"]);
}

#[test]
fn partitions_that_are_read_go_on_while_another_is_restored() {
    let mut world = remembering([(1, 50)]).in_batches_of(1);
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..10);
    world.records(1, 0..1);
    for _ in 0..12 {
        world.interval();
    }
    assert_eq!((world.processed(0).len(), world.reads_at(1)), (10, None));
    for _ in 0..50 {
        world.interval();
    }
    assert_eq!(world.processed(1), [0]);
}

#[test]
fn a_transaction_of_other_partitions_that_fails_during_a_restore_leaves_the_restore_going() {
    for ending in [Ending::Abortable, Ending::Unknown { took_effect: false }, Ending::Unknown { took_effect: true }] {
        let mut world = remembering([(1, 6)]);
        world.assign_all(&[partition(0), partition(1)]);
        world.records(0, 0..2);
        world.records(1, 0..2);
        world.step();
        world.next_commit_ends(ending);
        world.interval();
        world.settle();
        let heard = world.calls();
        let restored: Vec<&str> = heard.iter().map(String::as_str).filter(|line| line.starts_with("restore")).collect();
        let all =
            ["restore 1 1/6", "restore 1 2/6", "restore 1 3/6", "restore 1 4/6", "restore 1 5/6", "restore 1 6/6"];
        assert_eq!(restored, all, "each entry once: {ending:?}");
        assert_eq!(heard.iter().filter(|line| line.starts_with("assign")).count(), 2, "{ending:?}: {heard:?}");
        assert_eq!((world.processed(0), world.processed(1)), (vec![0, 1], vec![0, 1]), "{ending:?}");
    }
}

#[test]
fn what_is_restored_while_a_transaction_is_in_doubt_is_started_behind_its_settlement() {
    let mut world = remembering([(1, 4)]);
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..2);
    world.records(1, 0..2);
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: true });
    for _ in 0..5 {
        world.fails("committed", unknown("the offsets are not stable"));
    }
    world.interval();
    for _ in 0..5 {
        world.step();
    }
    assert_eq!((world.reads_at(0), world.reads_at(1)), (None, None));
    assert_eq!(left(&world)[0], (1, Some((3, 4))), "as last left");
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(1));
        world.step();
    }
    world.settle();
    assert_eq!((world.processed(0), world.processed(1)), (vec![0, 1], vec![0, 1]));
    assert_eq!(world.report().counts.records, 4);
}

#[test]
fn a_restore_that_fails_goes_on_after_a_pause_that_doubles() {
    let mut world = remembering([(0, 3)]);
    world.records(0, 0..1);
    world.assign(0);
    world.worker.process.fails([unknown("no broker answers"), unknown("no broker answers")]);
    world.calls();
    for (millis, heard) in
        [(0, "restore fails"), (99, ""), (1, "restore fails"), (199, ""), (1, "restore 0 3/3 assign 0@0")]
    {
        world.clock.advance(Duration::from_millis(millis));
        world.step();
        assert_eq!(world.calls().join(" "), heard, "{millis} ms later");
    }
    assert_eq!(world.report().last_error.as_deref(), Some("no broker answers"));
    world.settle();
    assert_eq!((world.processed(0), world.report().recoveries), (vec![0], 0), "no transaction was touched");
}

#[test]
fn a_restore_that_only_a_person_can_help_stops_the_worker() {
    let mut world = remembering([(0, 3)]);
    world.assign(0);
    let fault = Fault::Configuration("not authorised for topic state: grant Read".into());
    world.worker.process.fails([fault.clone()]);
    assert_eq!(world.until_it_stops(), fault);
    assert_eq!(world.report().state, WorkerState::Failed);
}

#[test]
fn how_far_a_restore_is_stands_in_the_report() {
    let mut world = remembering([(0, 4)]);
    world.assign_all(&[partition(0), partition(1)]);
    assert_eq!(left(&world), [(0, Some((2, 4))), (1, None)]);
    world.step();
    assert_eq!(left(&world), [(0, Some((3, 4))), (1, None)]);
    let report = world.report();
    assert_eq!((report.state, report.partitions[0].position), (WorkerState::Running, Some(0)));
    world.step();
    world.interval();
    assert_eq!(left(&world), [(0, None), (1, None)]);
}

#[test]
fn a_process_that_remembers_nothing_costs_nothing() {
    let mut world = diary();
    world.records(0, 0..1);
    world.assign(0);
    assert_eq!(world.calls(), ["check 0", "committed? 0", "offsets 0@0", "assign 0@0"], "started in the same step");
    assert!(!world.worker.restores());
    assert_eq!(world.report().partitions[0].restoring, None);
    // And one that could, of a partition of which there is nothing.
    let mut world = remembering([]);
    world.assign(0);
    assert_eq!(world.calls(), ["check 0", "committed? 0", "offsets 0@0", "remember 0", "assign 0@0"]);
}

#[test]
fn what_is_started_anew_is_remembered_still() {
    let mut world = remembering([(0, 2)]);
    world.assign(0);
    world.records(0, 0..2);
    world.settle();
    world.records(0, 2..4);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.fails("seek", unknown("0 could not be sought"));
    world.calls();
    world.interval();
    world.settle();
    let heard = world.calls();
    assert!(!heard.iter().any(|line| line.contains("restore") || line.contains("remember")), "{heard:?}");
    assert_eq!(world.processed(0), [0, 1, 2, 3]);
}

#[test]
fn what_a_swap_brings_remembers_before_it_processes() {
    let mut world = remembering([(0, 1)]);
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..2);
    world.settle();
    let journal: Journal = world.journal.clone();
    world.offer(Rememberer::new(8, [(0, 3)].into(), &journal));
    world.records(0, 2..4);
    world.records(1, 0..2);
    world.calls();
    world.step();
    let heard = world.calls();
    assert_eq!(heard[heard.len() - 4..], ["remember 0 1", "restore 0 1/3", "unassign 0", "restore 0 2/3"], "{heard:?}");
    assert_eq!(world.report().revision, Revision::new(8));
    world.settle();
    assert_eq!((world.processed(0), world.processed(1)), (vec![0, 1, 2, 3], vec![0, 1]));
    assert_eq!(world.group_offset(0).as_deref(), Some("4 r7"));
}

#[test]
fn what_a_swap_brings_and_cannot_restore_yet_processes_nothing_yet() {
    let mut world = remembering([(0, 1)]);
    world.assign(0);
    world.records(0, 0..2);
    world.settle();
    let mut next = Rememberer::new(8, [(0, 1)].into(), &world.journal.clone());
    next.fails([unknown("no broker answers")]);
    world.offer(next);
    world.step();
    world.records(0, 2..4);
    assert_eq!(world.reads_at(0), None);
    world.settle();
    assert_eq!(world.revisions(0), ["7", "7", "8", "8"]);
}

#[test]
fn a_partition_that_is_restored_during_a_pause_waits_for_its_end() {
    let mut world = remembering([(0, 2)]);
    world.records(0, 0..1);
    world.assign(0);
    world.hold.pause(crate::stream::pause::Pause {
        at: 1,
        cause: crate::stream::pause::Cause::Operator,
        why: "lunch".into(),
        reasons: Default::default(),
    });
    for _ in 0..4 {
        world.interval();
    }
    assert!(world.is_paused(0) && world.processed(0).is_empty());
    world.release();
    world.settle();
    assert_eq!(world.processed(0), [0]);
}

#[test]
fn a_step_of_restoring_is_short_enough_for_the_group_and_shorter_than_a_transaction() {
    assert!(RESTORE < BOUNDS.interval);
}
