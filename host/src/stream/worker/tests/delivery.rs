//! Records that the broker refuses, and the weaker promise.

use super::fakes::{Ending, Refusal, World, at, diary, partition, world};
use crate::stream::fault::Fault;

/// A refusal at once, or as a delivery report at the commit.
fn refusing(late: bool, refusal: Refusal) -> World<super::above::pipeline::Pipeline> {
    let mut world = world();
    world.broker.borrow_mut().reports_late = late;
    world.refuses(at(0, 1), refusal);
    world.assign(0);
    world.records(0, 0..3);
    world
}

#[test]
fn a_refused_delivery_aborts_and_its_replay_makes_it_a_dead_letter() {
    for late in [false, true] {
        let mut world = refusing(late, Refusal::Output);
        world.settle();
        assert_eq!(world.processed(0), [0, 2], "late: {late}");
        let letters = world.letters();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].origin, letters[0].value.as_deref()), (at(0, 1), Some(b"1".as_slice())));
        assert_eq!(letters[0].error("reason"), Some("refused-by-broker"));
        assert_eq!(letters[0].error("message"), Some("it is too large"));
        assert_eq!(world.group_offset(0).as_deref(), Some("3 r7"));
        let report = world.report();
        assert_eq!((report.aborted, report.recoveries, report.counts.records), (1, 0, 3));
        assert_eq!((report.transactions, report.commits.count), (1, 1), "an aborted transaction is not timed");
        assert_eq!(report.counts.dead_letters.get("refused-by-broker"), Some(&1));
    }
}

#[test]
fn a_dead_letter_that_is_refused_is_written_without_its_value() {
    for late in [false, true] {
        let mut world = refusing(late, Refusal::Letter);
        world.settle();
        assert_eq!(world.processed(0), [0, 2], "late: {late}");
        let letters = world.letters();
        assert_eq!((letters.len(), letters[0].value.as_deref()), (1, None));
        assert_eq!(letters[0].error("value-size"), Some("1"));
        assert_eq!(letters[0].error("value-digest"), Some(sandpiper_sandbox::Digest::of(b"1").to_string().as_str()));
        assert_eq!(world.report().aborted, 2);
    }
}

#[test]
fn a_dead_letter_that_is_refused_even_without_its_value_stops_the_worker_and_names_the_fix() {
    for late in [false, true] {
        let mut world = refusing(late, Refusal::Everything);
        let fault = world.until_it_stops();
        assert_eq!(
            fault,
            Fault::Configuration(
                "the dead letter of in/0@1 is refused even without value, headers and key: it is too large; the \
                 dead-letter topic must take records of 64 KiB: mend its max.message.bytes"
                    .into()
            ),
            "late: {late}"
        );
        assert!(world.processed(0).is_empty() && world.letters().is_empty());
        assert_eq!(world.report().state, crate::stream::report::WorkerState::Failed);
        assert_eq!(world.report().last_error, Some(fault.to_string()));
        assert_eq!(world.group_offset(0).as_deref(), Some("0"), "the record is not passed over");
    }
}

#[test]
fn two_refused_outputs_of_one_record_are_one_refusal_and_its_dead_letter_keeps_the_value() {
    use super::above::pipeline::{Pipeline, fakes};
    use crate::record::Route;
    let twice = fakes::transform("transform[0]", &[None, Some(Route::Output)], |text| {
        fakes::Fate::Emit(vec![fakes::to(0, text), fakes::to(1, text)])
    });
    let pipeline = Pipeline::new(fakes::revision(7), std::sync::Arc::new(fakes::settings()), vec![twice], None);
    let mut world = World::of(pipeline, Default::default(), super::fakes::BOUNDS);
    world.refuses(at(0, 1), Refusal::Output);
    world.assign(0);
    world.records(0, 0..3);
    world.settle();
    assert_eq!(world.processed(0), [0, 0, 2, 2]);
    assert_eq!(world.letters()[0].value.as_deref(), Some(b"1".as_slice()));
}

#[test]
fn refused_records_of_several_partitions_are_forced_together() {
    let mut world = world();
    world.refuses(at(0, 1), Refusal::Output);
    world.refuses(at(1, 0), Refusal::Output);
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..3);
    world.records(1, 0..2);
    world.settle();
    assert_eq!((world.processed(0), world.processed(1)), (vec![0, 2], vec![1]));
    assert_eq!((world.letters().len(), world.report().aborted), (2, 1));
}

#[test]
fn a_forced_outcome_outlives_an_abort_and_ends_with_its_commit() {
    let mut world = refusing(false, Refusal::Output);
    world.step();
    assert_eq!(world.worker.transactions.forced().len(), 1);
    world.next_commit_ends(Ending::Abortable);
    world.step();
    world.interval();
    assert_eq!(world.worker.transactions.forced().len(), 1);
    world.settle();
    assert_eq!((world.processed(0), world.letters().len()), (vec![0, 2], 1));
    assert!(world.worker.transactions.forced().is_empty());
}

#[test]
fn a_forced_outcome_waits_for_the_transaction_that_reaches_its_record() {
    let mut world = refusing(true, Refusal::Output).in_batches_of(1);
    world.step();
    world.step();
    world.interval();
    assert_eq!(world.report().aborted, 1);
    // Only record 0 is in this transaction.
    world.step();
    world.worker.source.batch(0);
    world.interval();
    assert_eq!((world.processed(0), world.worker.transactions.forced().len()), (vec![0], 1));
    world.worker.source.batch(8);
    world.settle();
    assert_eq!((world.processed(0), world.worker.transactions.forced().len()), (vec![0, 2], 0));
}

#[test]
fn at_least_once_commits_offsets_only_after_the_outputs() {
    let mut world = diary().at_least_once();
    world.assign(0);
    world.records(0, 0..3);
    world.calls();
    world.settle();
    assert_eq!(
        world.calls(),
        ["begin", "process 3", "send 3", "commit 0@3 r7", "offsets 0@3 r7", "effects applied"],
        "the sink's commit is its flush, the offsets are the source's"
    );
    assert_eq!(world.group_offset(0).as_deref(), Some("3 r7"));
}

#[test]
fn at_least_once_counts_what_was_committed_though_the_answer_was_lost() {
    let mut world = diary().at_least_once();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.fails("offsets", Fault::Abortable("no answer came".into()));
    world.committed_by_another(0, 3, "r7");
    world.calls();
    world.interval();
    let heard = world.calls();
    assert_eq!(heard, ["commit 0@3 r7", "offsets 0@3 r7", "abort", "committed? 0", "effects applied", "seek 0@3"]);
    assert_eq!((world.report().counts.records, world.report().transactions), (3, 1));
}

#[test]
fn at_least_once_loses_nothing_when_a_flush_or_a_commit_of_offsets_fails() {
    for call in ["commit", "offsets"] {
        let mut world = world().at_least_once();
        world.assign(0);
        world.records(0, 0..3);
        world.fails(call, Fault::Abortable("not now".into()));
        world.step();
        world.interval();
        assert_eq!(world.group_offset(0).as_deref(), Some("0"), "{call}");
        world.settle();
        let mut processed = world.processed(0);
        processed.dedup();
        processed.sort_unstable();
        processed.dedup();
        assert_eq!(processed, [0, 1, 2], "{call}");
        assert_eq!(world.group_offset(0).as_deref(), Some("3 r7"), "{call}");
    }
}
