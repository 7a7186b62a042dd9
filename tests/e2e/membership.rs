//! A source as a member of its group, without the worker around it.

use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};
use sandpiper::kafka::KafkaSource;
use sandpiper::kafka::source::BatchLimits;
use sandpiper::plan::{Properties, Start};
use sandpiper::source::{Event, Source, TopicPartition};
use std::collections::BTreeSet;
use std::time::Duration;

crate::tests![a_member_that_owns_nothing_leaves_when_it_is_closed, partitions_that_are_not_started_yet_hold_nobody_up,];

const ASSIGNORS: [&str; 2] = ["cooperative-sticky", "range"];

/// A member of the scene's group with that assignor.
fn source(scene: &Scene, assignor: &str) -> Result<KafkaSource> {
    let mut properties = Properties::default();
    for (name, value) in [
        ("bootstrap.servers", scene.bootstrap().as_str()),
        ("group.id", &scene.group()),
        ("partition.assignment.strategy", assignor),
        ("heartbeat.interval.ms", "300"),
        ("enable.auto.commit", "false"),
    ] {
        properties.0.insert(name.into(), value.into());
    }
    let limits = BatchLimits { records: 100, bytes: 1 << 20 };
    Ok(KafkaSource::new(&properties, [scene.topic("in")].into(), Start::Earliest, limits)?)
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
