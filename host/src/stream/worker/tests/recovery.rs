//! Faults, and the way back to what is committed.

use super::fakes::{Diary, Ending, Refusal, at, diary, partition, world};
use crate::record::Revision;
use crate::stream::fault::Fault;
use crate::stream::report::WorkerState;
use crate::stream::source::Event;

fn unknown(message: &str) -> Fault {
    Fault::Unknown(message.into())
}

#[test]
fn an_unknown_outcome_recovers_the_producer_first_and_only_then_reads_committed_offsets_and_seeks() {
    for (took_effect, reached, effects) in [(true, 3, "effects applied"), (false, 0, "effects discarded")] {
        let mut world = diary();
        world.assign(0);
        world.records(0, 0..3);
        world.step();
        world.next_commit_ends(Ending::Unknown { took_effect });
        world.calls();
        world.interval();
        let seek = format!("seek 0@{reached}");
        assert_eq!(world.calls(), ["commit 0@3 r7", "recover", "committed? 0", effects, &seek]);
        assert_eq!((world.report().recoveries, world.report().state), (1, WorkerState::Running));
        world.records(0, 3..5);
        world.settle();
        assert_eq!(world.processed(0), [0, 1, 2, 3, 4], "nothing lost, nothing doubled; took effect: {took_effect}");
        assert_eq!(world.group_offset(0).as_deref(), Some("5 r7"));
    }
}

#[test]
fn a_recovery_that_fails_is_tried_again_until_it_succeeds_with_pauses_that_double() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: true });
    world.fails("recover", unknown("no broker answers"));
    world.fails("recover", unknown("no broker answers"));
    world.fails("committed", unknown("the offsets are not stable"));
    world.calls();
    world.interval();
    assert_eq!(
        world.calls(),
        ["commit 0@3 r7", "recover", "sleep 100", "recover", "sleep 200", "recover", "committed? 0", "unassign 0"]
    );
    assert_eq!(world.report().state, WorkerState::Recovering);
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
    assert_eq!(world.report().state, WorkerState::Running);
}

#[test]
fn partitions_that_cannot_be_sought_are_started_anew_with_the_same_producer() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.fails("seek", unknown("0 could not be sought"));
    world.calls();
    world.interval();
    assert_eq!(world.calls(), ["commit 0@3 r7", "abort", "committed? 0", "seek 0@0", "unassign 0"]);
    assert_eq!(world.report().last_error.as_deref(), Some("0 could not be sought"));
    world.settle();
    assert_eq!(world.calls()[..3], ["check 0", "committed? 0", "assign 0@0"]);
    assert_eq!(world.processed(0), [0, 1, 2]);
}

#[test]
fn partitions_that_went_with_their_topic_while_a_worker_recovered_are_given_back() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: false });
    world.fails("seek", unknown("0 could not be sought"));
    world.interval();
    world.fails("committed", unknown("its topic does not exist any more"));
    world.event(Event::Missing("topic in is not available".into()));
    world.revoke(0);
    world.step();
    world.step();
    assert_eq!((world.report().state, world.report().partitions.len()), (WorkerState::Recovering, 0));
    world.assign_all(&[]);
    world.step();
    assert_eq!(world.report().state, WorkerState::Starting, "it waits for the topic");
    world.assign(0);
    world.settle();
    assert_eq!((world.report().state, world.processed(0).len()), (WorkerState::Running, 3));
}

#[test]
fn pauses_between_recoveries_end_at_five_seconds() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..1);
    for _ in 0..8 {
        world.fails("recover", unknown("no broker answers"));
    }
    world.next_commit_ends(Ending::Unknown { took_effect: false });
    world.calls();
    world.settle();
    let slept: Vec<String> = world.calls().into_iter().filter(|line| line.starts_with("sleep")).collect();
    assert_eq!(
        slept,
        ["100", "200", "400", "800", "1600", "3200", "5000", "5000"].map(|pause| format!("sleep {pause}"))
    );
    assert_eq!(world.processed(0), [0]);
}

#[test]
fn an_abortable_commit_aborts_and_replays_with_the_same_producer() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.calls();
    world.interval();
    assert_eq!(world.calls(), ["commit 0@3 r7", "effects discarded", "abort", "committed? 0", "seek 0@0"]);
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
    assert_eq!((world.report().aborted, world.report().recoveries), (1, 0));
}

#[test]
fn a_failed_abort_leads_into_the_recovery_order() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.fails("abort", unknown("the abort did not come to an end in time"));
    world.calls();
    world.interval();
    assert_eq!(
        world.calls(),
        ["commit 0@3 r7", "effects discarded", "abort", "sleep 100", "recover", "committed? 0", "seek 0@0"]
    );
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
}

#[test]
fn a_fenced_producer_is_made_anew_and_its_records_are_processed_once() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.fenced();
    world.calls();
    world.interval();
    assert_eq!(world.calls(), ["commit 0@3 r7", "recover", "committed? 0", "seek 0@0"]);
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
}

#[test]
fn a_worker_never_rewinds_from_memory() {
    // While the outcome was unknown, another owner went on and gave the partition back.
    let mut world = world();
    world.assign(0);
    world.records(0, 0..9);
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: false });
    world.committed_by_another(0, 4, "r7");
    world.settle();
    assert_eq!(world.processed(0), [4, 5, 6, 7, 8]);
}

#[test]
fn a_recovery_seeks_every_partition_that_is_assigned_and_no_other() {
    let mut world = world();
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..2);
    world.settle();
    world.revoke(1);
    world.records(0, 2..4);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.calls();
    world.interval();
    assert_eq!(world.calls()[2..], ["committed? 0", "seek 0@2"]);
}

#[test]
fn a_batch_that_met_a_fault_before_its_transaction_is_read_again() {
    for (call, fault) in [
        ("begin", unknown("no broker answers")),
        ("begin", Fault::Abortable("not now".into())),
        ("send", unknown("the producer's queue stayed full")),
        ("send", Fault::Abortable("an output was not delivered".into())),
        ("next", unknown("the consumer lost its broker")),
    ] {
        let mut world = world();
        world.assign(0);
        world.records(0, 0..3);
        world.fails(call, fault.clone());
        world.settle();
        assert_eq!(world.processed(0), [0, 1, 2], "{call}: {fault:?}");
    }
}

#[test]
fn an_abort_takes_back_the_earlier_batches_of_its_transaction_too() {
    let mut world = world().in_batches_of(2);
    world.refuses(at(0, 5), Refusal::Output);
    world.assign(0);
    world.records(0, 0..8);
    for _ in 0..3 {
        world.step();
    }
    assert_eq!((world.reads_at(0), world.is_in_transaction()), (Some(0), false));
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2, 3, 4, 6, 7]);
}

#[test]
fn a_configuration_fault_stops_and_leaves_no_transaction_open_for_others_to_wait_on() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.fails("commit", Fault::Configuration("not authorised for topic out: grant Write".into()));
    world.calls();
    world.clock.advance(world.worker.bounds.interval);
    assert_eq!(world.worker.run(), Err(Fault::Configuration("not authorised for topic out: grant Write".into())));
    assert_eq!(world.calls(), ["commit 0@3 r7", "effects discarded", "abort"]);
    let report = world.report();
    assert_eq!(
        (report.state, report.last_error.as_deref()),
        (WorkerState::Failed, Some("not authorised for topic out: grant Write"))
    );
}

#[test]
fn a_worker_that_is_denied_something_leaves_no_transaction_open_and_is_not_failed() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.fails("commit", Fault::Denied("not authorised for topic out: grant Write".into()));
    world.calls();
    world.clock.advance(world.worker.bounds.interval);
    assert_eq!(world.worker.run(), Err(Fault::Denied("not authorised for topic out: grant Write".into())));
    assert_eq!(world.calls(), ["commit 0@3 r7", "effects discarded", "abort"]);
    assert_eq!(world.report().state, WorkerState::Starting);
}

#[test]
fn counts_are_of_committed_records_only() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    for ending in [Ending::Abortable, Ending::Unknown { took_effect: false }] {
        world.step();
        world.next_commit_ends(ending);
        world.interval();
        assert_eq!((world.report().counts.records, world.report().transactions), (0, 0), "{ending:?}");
    }
    world.settle();
    assert_eq!((world.report().counts.records, world.report().transactions), (3, 1));
}

#[test]
fn a_transaction_that_took_effect_though_nobody_answered_is_counted_once() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: true });
    world.interval();
    let report = world.report();
    assert_eq!((report.counts.records, report.transactions, report.recoveries), (3, 1, 1));
    assert_eq!(report.records_by_revision.values().sum::<u64>(), 3);
    world.records(0, 3..5);
    world.settle();
    assert_eq!((world.report().counts.records, world.report().transactions), (5, 2));
    let effects: Vec<String> = world.calls().into_iter().filter(|line| line.starts_with("effects")).collect();
    assert_eq!(effects, ["effects applied", "effects applied"]);
}

#[test]
fn a_transaction_whose_offsets_cannot_be_read_yet_is_counted_when_they_can() {
    for (took_effect, effects, records) in [(true, "effects applied", 3), (false, "effects discarded", 0)] {
        let mut world = diary();
        world.assign(0);
        world.records(0, 0..3);
        world.step();
        world.next_commit_ends(Ending::Unknown { took_effect });
        world.fails("committed", unknown("the offsets are not stable"));
        world.interval();
        world.calls();
        world.offer(Diary::new(8, &world.journal.clone()));
        world.step();
        let heard = world.calls();
        assert_eq!(heard[..3], ["check 0", "committed? 0", effects], "{heard:?}");
        assert_eq!(world.report().counts.records, records);
        assert_eq!(world.report().revision, Revision::new(7), "no swap before the outcome is known");
        world.settle();
        assert_eq!((world.processed(0), world.report().counts.records), (vec![0, 1, 2], 3));
        assert_eq!(world.report().revision, Revision::new(8));
    }
}

#[test]
fn a_partition_that_is_taken_away_while_its_transactions_outcome_is_unknown_is_counted_by_who_processed_it() {
    for (took_effect, records) in [(true, 3), (false, 0)] {
        let mut world = diary();
        world.assign(0);
        world.records(0, 0..3);
        world.step();
        world.next_commit_ends(Ending::Unknown { took_effect });
        world.calls();
        world.revoke(0);
        let effects = if took_effect { "effects applied" } else { "effects discarded" };
        assert_eq!(
            world.calls(),
            ["commit 0@3 r7", "unassign 0", "recover", "committed? 0", effects, "seek", "forget 0"]
        );
        assert_eq!(world.report().counts.records, records);
    }
}

#[test]
fn an_attempt_to_start_partitions_that_fails_is_made_again_after_a_pause_that_doubles() {
    let mut world = world();
    world.records(0, 0..3);
    for _ in 0..3 {
        world.fails("check", unknown("topic in is not there"));
    }
    world.assign(0);
    world.calls();
    for (millis, tried) in [(0, false), (100, true), (100, false), (100, true), (400, true)] {
        world.clock.advance(std::time::Duration::from_millis(millis));
        world.step();
        assert_eq!(!world.calls().is_empty(), tried, "{millis} ms later");
    }
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
}
