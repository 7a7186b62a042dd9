//! Deployments change between transactions, never in one.

use super::above::pipeline::fakes;
use super::fakes::{Diary, Ending, diary, world};
use crate::record::{Revision, Route};

#[test]
fn a_swap_waits_for_the_open_transaction_to_commit() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.offer(Diary::new(8, &world.journal.clone()));
    world.records(0, 3..5);
    world.calls();
    world.step();
    assert_eq!(
        world.calls(),
        ["process 2", "send 2", "commit 0@5 r7", "effects applied"],
        "what the open transaction reads is processed by its own deployment"
    );
    assert_eq!(world.report().revision, Revision::new(8));
    assert_eq!(world.report().swap_pauses_us, [0]);
    world.records(0, 5..6);
    world.settle();
    assert_eq!(world.revisions(0), ["7", "7", "7", "7", "7", "8"]);
    assert_eq!(world.group_offset(0).as_deref(), Some("6 r8"));
}

#[test]
fn no_transaction_carries_two_revisions() {
    let mut world = world().in_batches_of(1);
    world.assign(0);
    world.records(0, 0..20);
    for revision in 8..12 {
        for _ in 0..3 {
            world.step();
        }
        world.offer(fakes::passing(revision));
        let before = world.visible(Route::Output).len();
        world.step();
        let revisions = world.revisions(0);
        assert!(revisions[before..].iter().all(|made_by| *made_by == (revision - 1).to_string()), "{revisions:?}");
    }
    world.settle();
    assert_eq!(world.processed(0), (0..20).collect::<Vec<i64>>());
    assert!(world.revisions(0).is_sorted_by_key(|revision| revision.parse::<u64>().unwrap()));
    assert_eq!(
        world.report().records_by_revision.keys().map(|revision| revision.get()).collect::<Vec<_>>(),
        [7, 8, 9, 10, 11]
    );
}

#[test]
fn a_transaction_that_fails_while_a_swap_waits_is_replayed_whole_by_one_deployment() {
    for ending in [Ending::Abortable, Ending::Unknown { took_effect: false }, Ending::Unknown { took_effect: true }] {
        let mut world = world();
        world.assign(0);
        world.records(0, 0..4);
        world.step();
        world.offer(fakes::passing(8));
        world.next_commit_ends(ending);
        world.step();
        assert_eq!(world.report().revision, Revision::new(7), "not swapped under a fault: {ending:?}");
        world.settle();
        assert_eq!(world.processed(0), [0, 1, 2, 3], "{ending:?}");
        let revisions = world.revisions(0);
        assert!(revisions.iter().all(|revision| *revision == revisions[0]), "{ending:?}: {revisions:?}");
        assert_eq!(world.report().revision, Revision::new(8));
    }
}

#[test]
fn an_idle_worker_swaps_at_once() {
    let mut world = world();
    world.assign(0);
    world.offer(fakes::passing(8));
    world.calls();
    world.step();
    assert_eq!(world.report().revision, Revision::new(8));
    assert!(world.calls().is_empty());
}

#[test]
fn of_two_swaps_offered_between_transactions_the_later_is_run() {
    let mut world = world();
    world.assign(0);
    world.offer(fakes::passing(8));
    world.offer(fakes::passing(9));
    world.step();
    world.records(0, 0..1);
    world.settle();
    assert_eq!(world.revisions(0), ["9"]);
    assert_eq!(world.report().swap_pauses_us.len(), 1);
}
