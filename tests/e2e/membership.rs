//! A source as a member of its group, without the worker around it.

use crate::support::scene::Scene;
use crate::support::{topic, until, until_true};
use anyhow::{Result, ensure};
use sandpiper::config::plan::{Properties, Start};
use sandpiper::kafka::KafkaSource;
use sandpiper::kafka::source::BatchLimits;
use sandpiper::record::Topics;
use sandpiper::stream::source::{Event, Source, TopicPartition};
use std::collections::BTreeSet;
use std::time::Duration;

crate::tests![
    a_member_that_owns_nothing_leaves_when_it_is_closed,
    partitions_that_are_not_started_yet_hold_nobody_up,
    an_assignment_that_is_taken_back_without_a_word_is_taken_back_here,
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
    let limits = BatchLimits { records: 100, bytes: 1 << 20 };
    Ok(KafkaSource::new(&properties, Topics::new([scene.topic("in")]), Start::Earliest, limits)?)
}

/// A member that starts what it is given or leaves it for later, and lets go what is taken.
struct Member {
    source: KafkaSource,
    starts: bool,
    owned: BTreeSet<TopicPartition>,
    /// How often it was told what it owns.
    told: usize,
}

impl Member {
    fn join(scene: &Scene, assignor: &str, starts: bool) -> Result<Member> {
        Ok(Member { source: source(scene, assignor)?, starts, owned: BTreeSet::new(), told: 0 })
    }

    /// Hears what the group has to say, and answers.
    fn listen(&mut self) -> Result<()> {
        match self.source.next(Duration::from_millis(10))? {
            Event::Assigned(partitions) => {
                if self.starts {
                    let positions = self.source.start_of(&partitions)?;
                    self.source.assign(&positions)?;
                }
                self.owned.extend(partitions);
                self.told += 1;
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
            members.iter_mut().try_for_each(Member::listen)?;
            let all = members.iter().all(|member| member.told > 0) && scene.members()?.len() == 2;
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

/// As while the last owner's transaction is open: the others must not wait for it.
fn partitions_that_are_not_started_yet_hold_nobody_up(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 2, &[])])?;
    for assignor in ASSIGNORS {
        let mut one = Member::join(scene, assignor, false)?;
        until_true("it is given both partitions", || one.listen().map(|()| one.owned.len() == 2))?;
        let mut other = Member::join(scene, assignor, true)?;
        until_true("each owns one", || {
            one.listen()?;
            other.listen()?;
            Ok(one.owned.len() == 1 && other.owned.len() == 1 && one.owned.is_disjoint(&other.owned))
        })?;
    }
    Ok(())
}

/// With the eager protocol, where a topic grows before anybody heard of the first assignment. Who kept its partitions would read
/// what may be another's.
fn an_assignment_that_is_taken_back_without_a_word_is_taken_back_here(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 1, &[])])?;
    let mut source = source(scene, "range")?;
    let assignment = |longer_than: usize| {
        until("the group gives more", || {
            let members = topic::members(&scene.bootstrap(), &scene.group())?;
            Ok(members.into_values().map(|given| given.len()).max().filter(|given| *given > longer_than))
        })
    };
    let first = assignment(0)?;
    scene.kafka.grow_topic(&scene.topic("in"), 2)?;
    assignment(first)?;
    let mut heard = Vec::new();
    until_true("it hears of both partitions", || {
        match source.next(Duration::from_millis(10))? {
            Event::Assigned(partitions) => heard.push(("given", partitions.len())),
            Event::Revoked { partitions, lost } => {
                source.unassign(&partitions)?;
                heard.push((if lost { "lost" } else { "revoked" }, partitions.len()));
            }
            _ => {}
        }
        Ok(heard.last() == Some(&("given", 2)))
    })?;
    ensure!(heard == [("given", 1), ("lost", 1), ("given", 2)], "{heard:?}");
    Ok(())
}
