//! The partitions that the group gave to a worker, and how far each is on its way to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::record::{Revision, Topics};
use crate::stream::backoff::{Backoff, Retry};
use crate::stream::report::PartitionReport;
use crate::stream::source::{Position, TopicPartition};

/// Between two attempts to start partitions: the last owner's transaction may take as long to end.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// One assigned partition. A position is the next offset to be read, as committed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Partition {
    /// Where it goes on could not be read yet.
    Pending,
    /// Paused: its last records are of a deployment newer than ours, and revisions never go back on a partition.
    Behind {
        needs: Revision,
        position: i64,
    },
    Reading {
        position: i64,
    },
}

impl Partition {
    /// Of one that the source has been told to read.
    fn position(self) -> Option<i64> {
        match self {
            Self::Pending => None,
            Self::Behind { position, .. } | Self::Reading { position } => Some(position),
        }
    }
}

/// All that is assigned.
pub(super) struct Partitions {
    all: BTreeMap<TopicPartition, Partition>,
    /// When pending ones are tried again.
    pub(super) retry: Retry,
}

impl Partitions {
    pub(super) fn new() -> Self {
        Self { all: BTreeMap::new(), retry: Retry::new(RETRY) }
    }

    /// They are ours, and wait to be started.
    pub(super) fn add(&mut self, partitions: &[TopicPartition]) {
        self.all.extend(partitions.iter().map(|partition| (*partition, Partition::Pending)));
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        self.all.retain(|partition, _| !partitions.contains(partition));
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn contains(&self, partition: TopicPartition) -> bool {
        self.all.contains_key(&partition)
    }

    pub(super) fn pending(&self) -> Vec<TopicPartition> {
        self.those(|partition| partition == Partition::Pending)
    }

    pub(super) fn is_any_pending(&self) -> bool {
        self.all.values().any(|partition| *partition == Partition::Pending)
    }

    /// Those that the source has been told to read.
    pub(super) fn started(&self) -> Vec<TopicPartition> {
        self.those(|partition| partition.position().is_some())
    }

    pub(super) fn reading(&self) -> BTreeSet<TopicPartition> {
        self.those(|partition| matches!(partition, Partition::Reading { .. }))
    }

    fn those<T: FromIterator<TopicPartition>>(&self, holds: impl Fn(Partition) -> bool) -> T {
        self.all.iter().filter(|(_, partition)| holds(**partition)).map(|(name, _)| *name).collect()
    }

    pub(super) fn position(&self, partition: TopicPartition) -> Option<i64> {
        self.all.get(&partition)?.position()
    }

    /// Of all that are started.
    pub(super) fn positions(&self) -> Vec<Position> {
        let position = |(name, partition): (&TopicPartition, &Partition)| {
            Some(Position { partition: *name, offset: partition.position()? })
        };
        self.all.iter().filter_map(position).collect()
    }

    pub(super) fn set(&mut self, name: TopicPartition, partition: Partition) {
        self.all.insert(name, partition);
    }

    /// Something else is committed for those that are started.
    pub(super) fn moved(&mut self, positions: &[Position]) {
        for moved in positions {
            if let Some(Partition::Behind { position, .. } | Partition::Reading { position }) =
                self.all.get_mut(&moved.partition)
            {
                *position = moved.offset;
            }
        }
    }

    /// What the source has been told to read is to be started anew.
    pub(super) fn restart(&mut self) -> Vec<TopicPartition> {
        let started = self.started();
        self.add(&started);
        started
    }

    /// Those that waited for that revision or an older one are to be read now.
    pub(super) fn catch_up(&mut self, revision: Option<Revision>) -> Vec<TopicPartition> {
        let mut ready = Vec::new();
        for (name, partition) in &mut self.all {
            if let Partition::Behind { needs, position } = *partition
                && Some(needs) <= revision
            {
                *partition = Partition::Reading { position };
                ready.push(*name);
            }
        }
        ready
    }

    /// Of all that are started; `end` is a partition's end as last heard.
    pub(super) fn reports(&self, topics: &Topics, end: impl Fn(TopicPartition) -> Option<i64>) -> Vec<PartitionReport> {
        let report = |(name, partition): (&TopicPartition, &Partition)| {
            let position = partition.position()?;
            Some(PartitionReport {
                topic: topics.name(name.topic).to_owned(),
                partition: name.partition,
                position: Some(position),
                lag: end(*name).map(|end| (end - position).max(0)),
                waits_for_revision: match partition {
                    Partition::Behind { needs, .. } => Some(*needs),
                    Partition::Pending | Partition::Reading { .. } => None,
                },
            })
        };
        self.all.iter().filter_map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicIndex;

    fn name(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicIndex::FIRST, partition }
    }

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    /// 0 is pending, 1 is behind, 2 is read.
    fn partitions() -> Partitions {
        let mut partitions = Partitions::new();
        partitions.add(&[name(0), name(1), name(2)]);
        partitions.set(name(1), Partition::Behind { needs: revision(9), position: 10 });
        partitions.set(name(2), Partition::Reading { position: 20 });
        partitions
    }

    #[test]
    fn only_what_is_started_has_a_position() {
        let mut partitions = partitions();
        assert_eq!((partitions.pending(), partitions.started()), (vec![name(0)], vec![name(1), name(2)]));
        let moved = [(0, 7), (1, 11), (3, 1)];
        partitions.moved(&moved.map(|(partition, offset)| Position { partition: name(partition), offset }));
        let positions: Vec<_> = (0..4).map(|partition| partitions.position(name(partition))).collect();
        assert_eq!(positions, [None, Some(11), Some(20), None]);
    }

    #[test]
    fn a_partition_catches_up_with_the_revision_that_it_needs_and_not_before() {
        let mut partitions = partitions();
        assert_eq!(partitions.catch_up(Some(revision(8))), []);
        assert_eq!(partitions.catch_up(None), []);
        assert_eq!(partitions.catch_up(Some(revision(9))), [name(1)]);
        assert_eq!((partitions.reading(), partitions.position(name(1))), ([name(1), name(2)].into(), Some(10)));
    }

    #[test]
    fn what_is_started_anew_is_pending_with_what_was() {
        let mut partitions = partitions();
        assert_eq!(partitions.restart(), [name(1), name(2)]);
        assert_eq!((partitions.pending().len(), partitions.positions()), (3, vec![]));
    }

    #[test]
    fn a_report_says_how_far_behind_its_end_a_partition_is_and_what_it_waits_for() {
        let reports = partitions().reports(&Topics::new(["in"]), |name| (name.partition == 2).then_some(25));
        let seen: Vec<_> = reports.iter().map(|each| (each.partition, each.lag, each.waits_for_revision)).collect();
        assert_eq!(seen, [(1, None, Some(revision(9))), (2, Some(5), None)]);
    }
}
