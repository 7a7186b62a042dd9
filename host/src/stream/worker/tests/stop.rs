//! The end.

use super::fakes::{Ending, diary, world};
use crate::stream::fault::Fault;
use crate::stream::report::WorkerState;
use crate::stream::worker::Step;

#[test]
fn a_stop_finishes_the_transaction_and_then_leaves_the_group() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.records(0, 3..5);
    world.calls();
    world.told_to_stop();
    assert_eq!(world.step(), Step::Stopped);
    assert_eq!(world.calls(), ["commit 0@3 r7", "effects applied", "close"]);
    assert_eq!(world.processed(0), [0, 1, 2], "what was not read is the next owner's");
    let report = world.report();
    assert_eq!((report.state, report.partitions.len()), (WorkerState::Stopped, 0));
}

#[test]
fn a_run_ends_when_it_is_told_to() {
    let mut world = world().in_batches_of(2);
    world.assign(0);
    world.records(0, 0..7);
    world.told_to_stop_when_idle();
    assert_eq!(world.worker.run(), Ok(()));
    assert_eq!(world.processed(0), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(world.calls().last().map(String::as_str), Some("close"));
}

#[test]
fn a_fault_while_stopping_is_recovered_from_once_and_then_the_worker_ends() {
    for took_effect in [true, false] {
        let mut world = world();
        world.assign(0);
        world.records(0, 0..3);
        world.step();
        world.next_commit_ends(Ending::Unknown { took_effect });
        world.told_to_stop();
        world.calls();
        assert_eq!(world.worker.run(), Ok(()));
        let heard = world.calls();
        assert_eq!((heard[1].as_str(), heard.last().map(String::as_str)), ("recover", Some("close")));
        assert_eq!(world.processed(0).len(), if took_effect { 3 } else { 0 });
        assert_eq!(world.report().state, WorkerState::Stopped);
    }
}

#[test]
fn a_recovery_that_fails_while_stopping_is_not_tried_again_and_nothing_is_committed_that_was_not() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: false });
    world.fails("recover", Fault::Unknown("no broker answers".into()));
    world.told_to_stop();
    world.calls();
    assert_eq!(world.worker.run(), Ok(()));
    assert_eq!(world.calls(), ["commit 0@3 r7", "recover", "effects discarded", "close"]);
    assert!(world.processed(0).is_empty());
    assert_eq!(world.group_offset(0).as_deref(), Some("0"));
}

#[test]
fn a_worker_hands_its_process_on_and_leaves_the_group() {
    let mut world = world();
    world.assign(0);
    let journal = world.journal.clone();
    assert_eq!(world.worker.into_process().revision.get(), 7);
    assert_eq!(journal.last().as_deref(), Some("close"));
}
