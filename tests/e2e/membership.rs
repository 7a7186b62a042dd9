//! A source as a member of its group, without the worker around it.

use crate::support::scene::Scene;
use crate::support::{topic, until, until_true};
use anyhow::{Result, ensure};
use sandpiper::config::plan::{Properties, Start};
use sandpiper::kafka::KafkaSource;
use sandpiper::kafka::source::{BatchLimits, HeaderLimits};
use sandpiper::record::Topics;
use sandpiper::stream::source::{Event, Source, TopicPartition};
use std::collections::BTreeSet;
use std::time::Duration;

crate::tests![
    a_member_that_owns_nothing_leaves_when_it_is_closed,
    partitions_that_are_not_started_yet_do_not_hold_up_the_group,
    an_assignment_that_is_lost_without_an_event_is_given_up,
];

const ASSIGNORS: [&str; 2] = ["cooperative-sticky", "range"];

/// A member of the scene's group with that assignor.
fn source(scene: &Scene, assignor: &str) -> Result<KafkaSource> {
    let mut properties = Properties::default();
    for (name, value) in [
        ("bootstrap.servers", scene.bootstrap().as_str()),
        ("group.id", &scene.group()),
        ("partition.assignment.strategy", assignor),
        ("heartbeat.interval.ms", "300"),
        ("topic.metadata.refresh.interval.ms", "300"),
        ("enable.auto.commit", "false"),
    ] {
        properties.0.insert(name.into(), value.into());
    }
    let limits = BatchLimits { records: 100, bytes: 1 << 20, headers: HeaderLimits::NONE };
    Ok(KafkaSource::new(&properties, Topics::new([scene.topic("in")]), Start::Earliest, limits)?)
}

/// A member that starts the partitions assigned to it, or leaves that for later, and gives up those that are revoked.
struct Member {
    source: KafkaSource,
    starts: bool,
    owned: BTreeSet<TopicPartition>,
    /// How often partitions were assigned to it.
    assignments: usize,
}

impl Member {
    fn join(scene: &Scene, assignor: &str, starts: bool) -> Result<Member> {
        Ok(Member { source: source(scene, assignor)?, starts, owned: BTreeSet::new(), assignments: 0 })
    }

    /// Polls once, and acts on an assignment or a revocation.
    fn poll(&mut self) -> Result<()> {
        match self.source.next(Duration::from_millis(10))? {
            Event::Assigned(partitions) => {
                if self.starts {
                    let positions = self.source.start_of(&partitions)?;
                    self.source.assign(&positions)?;
                }
                self.owned.extend(partitions);
                self.assignments += 1;
            }
            Event::Revoked { partitions, .. } => {
                self.source.unassign(&partitions)?;
                self.owned.retain(|partition| !partitions.contains(partition));
            }
            _ => {}
        }
        Ok(())
    }
}

fn a_member_that_owns_nothing_leaves_when_it_is_closed(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 1, &[])])?;
    for assignor in ASSIGNORS {
        let mut members = [Member::join(scene, assignor, true)?, Member::join(scene, assignor, true)?];
        until_true("both are members, and one owns the partition", || {
            members.iter_mut().try_for_each(Member::poll)?;
            let all = members.iter().all(|member| member.assignments > 0) && scene.members()?.len() == 2;
            Ok(all && members.iter().map(|member| member.owned.len()).sum::<usize>() == 1)
        })?;
        members.sort_by_key(|member| member.owned.len());
        for (left, member) in [1, 0].into_iter().zip(&mut members) {
            member.source.close();
            let now = scene.members()?;
            ensure!(now.len() == left, "{assignor}: one of {} was closed and is a member still: {now:?}", left + 1);
        }
    }
    Ok(())
}

/// As while the last owner's transaction is open: the other members must not wait for it.
fn partitions_that_are_not_started_yet_do_not_hold_up_the_group(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 2, &[])])?;
    for assignor in ASSIGNORS {
        let mut one = Member::join(scene, assignor, false)?;
        until_true("it is assigned both partitions", || one.poll().map(|()| one.owned.len() == 2))?;
        let mut other = Member::join(scene, assignor, true)?;
        until_true("each owns one", || {
            one.poll()?;
            other.poll()?;
            Ok(one.owned.len() == 1 && other.owned.len() == 1 && one.owned.is_disjoint(&other.owned))
        })?;
    }
    Ok(())
}

/// With the eager protocol, where a topic grows before the member has polled its first assignment. A member that kept those
/// partitions would read what may be another's.
fn an_assignment_that_is_lost_without_an_event_is_given_up(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 1, &[])])?;
    let mut source = source(scene, "range")?;
    let assignment = |longer_than: usize| {
        until("the group assigns more", || {
            let members = topic::members(&scene.bootstrap(), &scene.group())?;
            Ok(members.into_values().map(|assignment| assignment.len()).max().filter(|length| *length > longer_than))
        })
    };
    let first = assignment(0)?;
    scene.kafka.grow_topic(&scene.topic("in"), 2)?;
    assignment(first)?;
    let mut events = Vec::new();
    until_true("it is assigned both partitions", || {
        match source.next(Duration::from_millis(10))? {
            Event::Assigned(partitions) => events.push(("assigned", partitions.len())),
            Event::Revoked { partitions, lost } => {
                source.unassign(&partitions)?;
                events.push((if lost { "lost" } else { "revoked" }, partitions.len()));
            }
            _ => {}
        }
        Ok(events.last() == Some(&("assigned", 2)))
    })?;
    ensure!(events == [("assigned", 1), ("lost", 1), ("assigned", 2)], "{events:?}");
    Ok(())
}
