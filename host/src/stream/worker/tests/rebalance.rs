//! Partitions that come and go.

use std::time::Duration;

use sandpiper_sandbox::Digest;

use super::above::pipeline::Pipeline;
use super::above::pipeline::fakes::{self, revision};
use super::fakes::{BOUNDS, Ending, Journal, Refusal, World, at, diary, partition, world};
use crate::record::Revision;
use crate::stream::fault::Fault;
use crate::stream::hold::WorkerEvent;
use crate::stream::source::Event;

#[test]
fn a_revoke_in_mid_transaction_commits_before_the_partition_is_given_up() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    assert!(world.processed(0).is_empty(), "nothing is visible before the commit");
    world.calls();
    world.revoke(0);
    assert_eq!(world.calls(), ["commit 0@3 r7", "effects applied", "unassign 0", "forget 0"]);
    assert_eq!(world.processed(0), [0, 1, 2]);
    assert_eq!(world.report().partitions, []);
}

#[test]
fn what_was_revoked_goes_on_where_it_was_committed() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.revoke(0);
    world.records(0, 3..5);
    world.assign(0);
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2, 3, 4]);
}

#[test]
fn a_revoke_takes_only_what_it_names() {
    let mut world = world();
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..2);
    world.records(1, 0..2);
    world.step();
    world.revoke(0);
    world.records(0, 2..3);
    world.records(1, 2..3);
    world.settle();
    assert_eq!((world.processed(0), world.processed(1)), (vec![0, 1], vec![0, 1, 2]));
    assert_eq!(world.reads_at(0), None);
}

#[test]
fn lost_partitions_abort_and_nothing_of_them_is_committed() {
    let mut world = diary();
    world.assign_all(&[partition(0), partition(1)]);
    world.records(0, 0..3);
    world.records(1, 0..2);
    world.step();
    world.calls();
    world.lose(0);
    assert_eq!(
        world.calls(),
        ["unassign 0", "effects discarded", "abort", "committed? 1", "seek 1@0", "forget 0"],
        "nothing of partition 0 is touched after it was lost"
    );
    assert_eq!((world.processed(0), world.processed(1)), (vec![], vec![]));
    assert_eq!(world.report().aborted, 1);
    // What is still ours is processed again, once.
    world.settle();
    assert_eq!((world.processed(0), world.processed(1)), (vec![], vec![0, 1]));
    assert_eq!(world.group_offset(0).as_deref(), Some("0"));
}

#[test]
fn partitions_lost_between_two_transactions_abort_nothing() {
    let mut world = diary();
    world.assign(0);
    world.calls();
    world.lose(0);
    assert_eq!(world.calls(), ["unassign 0", "forget 0"]);
    assert_eq!(world.report().aborted, 0);
}

#[test]
fn a_member_that_the_group_forgot_commits_nothing() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.broker.borrow_mut().member_is_gone = true;
    world.calls();
    world.interval();
    assert_eq!(world.calls(), ["abort", "committed? 0", "seek 0@0"], "the commit is not even sent");
    world.broker.borrow_mut().member_is_gone = false;
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
}

#[test]
fn a_revoke_whose_commit_fails_gives_the_partition_up_and_the_next_owner_processes_its_records() {
    for ending in [Ending::Abortable, Ending::Unknown { took_effect: false }, Ending::Unknown { took_effect: true }] {
        let mut world = world();
        world.assign(0);
        world.records(0, 0..3);
        world.step();
        world.next_commit_ends(ending);
        world.revoke(0);
        assert_eq!(world.reads_at(0), None, "{ending:?}");
        assert!(!world.is_in_transaction(), "{ending:?}");
        world.assign(0);
        world.settle();
        assert_eq!(world.processed(0), [0, 1, 2], "{ending:?}");
    }
}

#[test]
fn a_revoke_whose_commit_meets_a_refused_record_is_answered_and_the_record_is_forced_when_it_comes_back() {
    let mut world = world();
    world.broker.borrow_mut().reports_late = true;
    world.refuses(at(0, 1), Refusal::Output);
    world.assign(0);
    world.records(0, 0..3);
    world.step();
    world.revoke(0);
    assert!(world.processed(0).is_empty());
    world.assign(0);
    world.settle();
    assert_eq!((world.processed(0), world.letters().len()), (vec![0, 2], 1));
}

#[test]
fn a_partition_starts_at_the_configured_start_which_is_committed_before_a_record_is_read() {
    let mut world = world();
    world.broker.borrow_mut().start_latest = true;
    world.records(0, 0..5);
    world.calls();
    world.assign(0);
    assert_eq!(world.calls(), ["check 0", "committed? 0", "offsets 0@5", "assign 0@5"]);
    // A restart finds the same, whatever came in between.
    world.revoke(0);
    world.records(0, 5..8);
    world.assign(0);
    world.settle();
    assert_eq!(world.processed(0), [5, 6, 7]);
}

#[test]
fn an_empty_assignment_starts_nothing_and_tries_nothing_before_its_time() {
    let mut world = world();
    world.fails("committed", Fault::Unknown("the offsets are not stable".into()));
    world.assign(0);
    world.calls();
    world.assign_all(&[]);
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn partitions_whose_committed_offsets_cannot_be_read_yet_are_started_later() {
    let mut world = world();
    world.records(0, 0..3);
    world.fails("committed", Fault::Unknown("the offsets are not stable".into()));
    world.assign(0);
    assert_eq!(world.reads_at(0), None);
    assert_eq!(world.report().last_error.as_deref(), Some("the offsets are not stable"));
    world.settle();
    assert_eq!(world.processed(0), [0, 1, 2]);
}

#[test]
fn partitions_that_wait_to_be_started_are_started_though_others_never_idle() {
    let mut world = world().in_batches_of(1);
    world.assign(0);
    world.records(0, 0..50);
    world.records(1, 0..1);
    world.fails("committed", Fault::Unknown("the offsets are not stable".into()));
    world.assign(1);
    for _ in 0..4 {
        world.interval();
    }
    assert!(world.reads_at(0) < Some(50), "partition 0 was busy all the time");
    assert!(world.reads_at(1).is_some(), "{:?}", world.calls());
    world.settle();
    assert_eq!((world.processed(0).len(), world.processed(1).len()), (50, 1));
}

#[test]
fn a_partition_that_is_revoked_while_it_waits_to_be_started_is_never_started() {
    let mut world = world();
    world.records(0, 0..3);
    world.fails("committed", Fault::Unknown("the offsets are not stable".into()));
    world.assign(0);
    world.revoke(0);
    world.calls();
    world.step();
    world.step();
    assert!(world.calls().is_empty());
    assert!(world.processed(0).is_empty());
}

#[test]
fn an_assignment_that_fails_is_recovered_from_and_made_again() {
    let mut world = world();
    world.assign(1);
    world.records(0, 0..3);
    world.records(1, 0..2);
    world.step();
    world.fails("assign", Fault::Unknown("the assignment was refused".into()));
    world.assign(0);
    world.settle();
    assert_eq!((world.processed(0), world.processed(1)), (vec![0, 1, 2], vec![0, 1]));
}

#[test]
fn outputs_without_a_place_for_the_partition_make_the_worker_leave() {
    let mut world = world();
    world.fails("check", Fault::Denied("topic out has 1 partitions and in has 2".into()));
    world.worker.source.queue(Event::Assigned(vec![partition(0)]));
    assert_eq!(world.try_step(), Err(Fault::Denied("topic out has 1 partitions and in has 2".into())));
}

#[test]
fn a_place_that_could_not_be_checked_is_checked_again_before_a_record_is_read() {
    let mut world = world();
    world.records(0, 0..1);
    world.fails("check", Fault::Unknown("no broker answers".into()));
    world.assign(0);
    world.calls();
    world.settle();
    let heard = world.calls();
    let (check, assign) =
        (heard.iter().position(|line| line == "check 0"), heard.iter().position(|line| line.starts_with("assign")));
    assert!(check.is_some() && check < assign, "{heard:?}");
}

#[test]
fn a_partition_that_a_newer_deployment_processed_stays_paused_until_a_swap_reaches_it() {
    let mut world = world();
    world.records(0, 0..6);
    world.committed_by_another(0, 3, "r9");
    world.assign(0);
    assert!(world.is_paused(0));
    assert_eq!(world.report().partitions[0].waits_for_revision, Revision::new(9));
    world.step();
    world.offer(fakes::passing(8));
    world.step();
    assert!(world.is_paused(0), "8 is not 9");
    world.interval();
    assert!(world.processed(0).is_empty());
    world.offer(fakes::passing(9));
    world.step();
    assert_eq!((world.is_paused(0), world.report().partitions[0].waits_for_revision), (false, None));
    world.settle();
    assert_eq!(world.processed(0), [3, 4, 5]);
    assert_eq!(world.revisions(0), ["9", "9", "9"]);
}

#[test]
fn a_newer_number_for_what_this_worker_runs_is_reported_and_waited_for() {
    for (theirs, adopts) in [("same", true), ("other", false)] {
        let mut ours = fakes::passing(7);
        ours.releases = Some(Digest::of(b"same"));
        let mut world = World::of(ours, Journal::default(), BOUNDS);
        world.records(0, 0..4);
        let releases = Digest::of(theirs.as_bytes());
        world.committed_by_another(0, 3, &format!("r9 {releases}"));
        world.assign(0);
        assert!(world.is_paused(0), "revisions never go back");
        let adopt = WorkerEvent::Adopt { revision: revision(9), releases };
        assert_eq!(world.events(), if adopts { vec![adopt] } else { Vec::new() }, "{theirs}");
        let mut renumbered = fakes::passing(9);
        renumbered.releases = Some(releases);
        world.offer(renumbered);
        world.step();
        assert_eq!(world.group_offset(0), Some(format!("3 r9 {releases}")), "the group sees it before a record comes");
        world.settle();
        assert_eq!(world.processed(0), [3]);
        assert_eq!(world.group_offset(0), Some(format!("4 r9 {releases}")));
    }
}

/// A worker whose deployment of that number runs that.
fn running(number: u64, releases: &str) -> World<Pipeline> {
    World::of(deployment(number, releases), Journal::default(), BOUNDS)
}

fn deployment(number: u64, releases: &str) -> Pipeline {
    let mut pipeline = fakes::passing(number);
    pipeline.releases = Some(Digest::of(releases.as_bytes()));
    pipeline
}

#[test]
fn a_partition_that_another_deployment_of_our_number_processed_waits_as_for_a_newer_one() {
    let (ours, other) = in_order();
    let theirs = Digest::of(other.as_bytes());
    for (next, goes_on) in [((7, ours), false), ((8, ours), true), ((7, other), true)] {
        let mut world = running(7, ours);
        world.records(0, 0..4);
        world.committed_by_another(0, 3, &format!("r7 {theirs}"));
        world.assign(0);
        assert!(world.is_paused(0), "one number is one deployment");
        assert_eq!((world.events(), world.report().partitions[0].waits_for_revision), (vec![], Revision::new(7)));
        world.offer(deployment(next.0, next.1));
        world.settle();
        assert_eq!((world.is_paused(0), world.processed(0).is_empty()), (!goes_on, !goes_on), "{next:?}");
        if !goes_on {
            world.step();
            world.clock.advance(Duration::from_secs(31));
            let fault = world.try_step().unwrap_err();
            let named = "in/0 waits for revision 7, which is something else than this daemon's";
            assert!(matches!(&fault, Fault::Denied(why) if why.contains(named)), "{fault}");
        }
    }
}

/// Two that run different things: of the first the digest comes first.
fn in_order() -> (&'static str, &'static str) {
    let (one, other) = ("one", "other");
    if Digest::of(one.as_bytes()) < Digest::of(other.as_bytes()) { (one, other) } else { (other, one) }
}

/// Each has partitions of its own, on which it meets nothing of the other's.
#[test]
fn of_two_deployments_of_one_number_that_process_at_once_one_leaves() {
    let leaves = |ours: &str, number: u64, theirs: &str| {
        let mut world = running(7, ours);
        world.records(0, 0..2);
        world.assign(0);
        world.settle();
        assert_eq!(world.processed(0), [0, 1]);
        world.committed_by_another(1, 3, &format!("r{number} {}", Digest::of(theirs.as_bytes())));
        world.records(0, 2..3);
        world.step();
        world.clock.advance(Duration::from_secs(2));
        let result = world.try_step();
        // What came meanwhile was read by then.
        assert_eq!((world.processed(0).len(), world.is_in_transaction()), (3, false), "what it has is committed");
        match result {
            Ok(_) => false,
            Err(Fault::Denied(why)) => why.contains("revision 7"),
            Err(fault) => panic!("{fault}"),
        }
    };
    let (first, second) = in_order();
    assert!(leaves(second, 7, first));
    for (ours, number, theirs) in
        [(first, 7, second), (second, 7, second), (second, 6, first), (second, 8, first), (first, 7, first)]
    {
        assert!(!leaves(ours, number, theirs), "{ours} {number} {theirs}");
    }
}

#[test]
fn a_worker_whose_partition_waits_in_vain_commits_and_leaves() {
    let mut world = world();
    world.records(0, 0..2);
    world.records(1, 0..2);
    world.committed_by_another(0, 0, "r9");
    world.assign_all(&[partition(0), partition(1)]);
    world.settle();
    world.clock.advance(Duration::from_secs(29));
    world.step();
    world.clock.advance(Duration::from_secs(2));
    let fault = world.try_step().unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("in/0 waits for revision 9")), "{fault}");
    assert_eq!((world.processed(0), world.processed(1), world.is_in_transaction()), (vec![], vec![0, 1], false));
}

#[test]
fn a_worker_whose_partition_waits_in_vain_leaves_however_much_it_commits_of_others() {
    let mut world = world();
    world.records(1, 0..400);
    world.committed_by_another(0, 0, "r9");
    world.assign_all(&[partition(0), partition(1)]);
    let mut world = world.in_batches_of(1);
    let left = (0..400).find_map(|_| {
        world.clock.advance(BOUNDS.interval);
        world.try_step().err()
    });
    assert!(matches!(&left, Some(Fault::Denied(why)) if why.contains("in/0 waits for revision 9")), "{left:?}");
    assert!((290..310).contains(&world.processed(1).len()), "after 30 s: {}", world.processed(1).len());
}

#[test]
fn a_worker_that_waits_while_the_pipeline_is_paused_stays() {
    let mut world = world();
    world.committed_by_another(0, 0, "r9");
    world.assign(0);
    world.hold.set(true);
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(20));
        world.step();
    }
}

#[test]
fn a_partition_of_our_own_revision_or_an_older_one_does_not_wait() {
    for metadata in ["r7", "r6", "", "somebody else's"] {
        let mut world = world();
        world.records(0, 0..4);
        world.committed_by_another(0, 3, metadata);
        world.assign(0);
        assert!(!world.is_paused(0), "{metadata:?}");
        world.settle();
        assert_eq!(world.processed(0), [3], "{metadata:?}");
    }
}

#[test]
fn an_abort_leaves_a_partition_that_waits_for_a_newer_deployment_paused() {
    let mut world = world();
    world.records(0, 0..2);
    world.records(1, 0..2);
    world.committed_by_another(0, 0, "r9");
    world.assign_all(&[partition(0), partition(1)]);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.interval();
    world.settle();
    assert!(world.is_paused(0));
    assert_eq!((world.processed(0), world.processed(1)), (vec![], vec![0, 1]));
}

#[test]
fn an_offset_that_was_deleted_goes_on_at_the_oldest_whatever_the_configured_start() {
    let mut world = world();
    world.broker.borrow_mut().start_latest = true;
    world.records(0, 0..10);
    world.committed_by_another(0, 2, "r7");
    world.delete_before(0, 6);
    world.assign(0);
    world.calls();
    world.step();
    assert_eq!(world.calls(), ["offsets 0@6 r7", "seek 0@6"]);
    world.settle();
    assert_eq!(
        world.report().last_error.as_deref(),
        Some(
            "in/0: offset 2 was deleted before it was read, with those up to 6, 4 in all; going on at the oldest that is \
             there: see the topic's retention"
        )
    );
    assert_eq!(world.report().missed, 4);
    assert_eq!(world.processed(0), [6, 7, 8, 9]);
}

#[test]
fn an_offset_that_does_not_exist_any_more_never_takes_a_partitions_revision_back() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..2);
    world.settle();
    world.delete_before(0, 2);
    world.event(Event::OutOfRange(partition(0)));
    assert_eq!(world.group_offset(0).as_deref(), Some("2 r7"));
}

#[test]
fn deleted_records_are_counted_once_though_the_offset_behind_them_is_refused_first() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..6);
    world.delete_before(0, 4);
    world.fails("offsets", Fault::Abortable("the group is in a rebalance".into()));
    world.settle();
    assert_eq!(world.processed(0), [4, 5]);
    assert_eq!(world.report().missed, 4);
}

#[test]
fn an_offset_out_of_range_in_mid_transaction_closes_the_transaction_first() {
    let mut world = world();
    world.assign_all(&[partition(0), partition(1)]);
    world.records(1, 0..2);
    world.step();
    world.calls();
    world.event(Event::OutOfRange(partition(0)));
    assert_eq!(world.calls()[..1], ["commit 1@2 r7"]);
    assert_eq!(world.processed(1), [0, 1]);
}

#[test]
fn trouble_that_the_client_mends_is_reported_and_touches_nothing() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..2);
    world.step();
    world.calls();
    world.event(Event::Trouble("broker 1 went away".into()));
    assert_eq!(world.report().last_error.as_deref(), Some("broker 1 went away"));
    assert!(world.calls().is_empty() && world.is_in_transaction());
}

#[test]
fn a_report_names_positions_and_lag_as_committed() {
    let mut world = world();
    world.assign(0);
    world.records(0, 0..4);
    world.step();
    world.records(0, 4..6);
    world.clock.advance(BOUNDS.interval);
    // This step reads the other two before it commits.
    world.step();
    let report = world.report();
    assert_eq!((report.partitions[0].position, report.partitions[0].lag), (Some(6), Some(0)));
    assert_eq!((report.revision, report.records_by_revision.get(&revision(7))), (Some(revision(7)), Some(&6)));
}

#[test]
fn an_offset_out_of_range_of_a_partition_that_is_anothers_by_now_touches_nothing() {
    let mut world = world();
    world.assign(0);
    world.revoke(0);
    world.calls();
    world.event(Event::OutOfRange(partition(0)));
    assert!(world.calls().is_empty(), "its offset is the new owner's to commit");
    assert!(world.report().partitions.is_empty());
}

#[test]
fn a_partition_that_is_assigned_again_before_it_could_be_started_is_started_once() {
    let mut world = world();
    world.records(0, 0..3);
    world.fails("committed", Fault::Unknown("the offsets are not stable".into()));
    world.assign(0);
    world.calls();
    world.assign(0);
    assert_eq!(world.calls(), ["check 0", "committed? 0", "offsets 0@0", "assign 0@0"]);
}

#[test]
fn a_partition_that_was_paused_when_it_was_started_anew_goes_on_with_what_it_waited_for() {
    let mut world = world();
    world.records(0, 0..6);
    world.committed_by_another(0, 3, "r9");
    world.assign_all(&[partition(0), partition(1)]);
    world.records(1, 0..2);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.fails("seek", Fault::Unknown("1 could not be sought".into()));
    world.interval();
    world.settle();
    assert!(world.is_paused(0), "it is started anew and waits again");
    world.offer(fakes::passing(9));
    world.settle();
    assert_eq!(world.processed(0), [3, 4, 5]);
}
