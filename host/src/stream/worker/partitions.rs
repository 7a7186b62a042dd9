//! The partitions that the group gave to a worker, and how far each is on its way to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::record::Topics;
use crate::stream::backoff::{Backoff, Retry};
use crate::stream::report::PartitionReport;
use crate::stream::source::{Position, TopicPartition};
use crate::stream::state::Progress;
use crate::stream::transaction::Deployed;

/// Between two attempts to start partitions: the last owner's transaction may take as long to end.
const START: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// Between two attempts to go on with a restore.
const RESTORE: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// One assigned partition. A position is the next offset to be read, as committed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Partition {
    /// Where it goes on could not be read yet.
    Pending,
    /// What is remembered of it is being restored; it goes on from there afterwards.
    Restoring {
        place: Place,
        progress: Progress,
    },
    /// Paused: its last records are of a deployment newer than ours, and revisions never go back on a partition; or of
    /// another of our number, and one number is one deployment.
    Behind {
        needs: Deployed,
        position: i64,
    },
    Reading {
        position: i64,
    },
}

impl Partition {
    /// The position of one that the source has been told to read.
    fn started(self) -> Option<i64> {
        match self {
            Self::Pending | Self::Restoring { .. } => None,
            Self::Behind { position, .. } | Self::Reading { position } => Some(position),
        }
    }

    /// Where one goes on whose committed position is known.
    fn place(self) -> Option<Place> {
        match self {
            Self::Pending => None,
            Self::Restoring { place, .. } => Some(place),
            Self::Behind { needs, position } => Some(Place { position, needs: Some(needs) }),
            Self::Reading { position } => Some(Place { position, needs: None }),
        }
    }
}

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) position: i64,
    /// The deployment that it has to wait for, where ours must not go on behind it.
    pub(super) needs: Option<Deployed>,
}

/// All that is assigned.
pub(super) struct Partitions {
    all: BTreeMap<TopicPartition, Partition>,
    /// When pending ones are tried again.
    pub(super) retry_start: Retry,
    /// When a restore that failed goes on.
    pub(super) retry_restore: Retry,
}

impl Partitions {
    pub(super) fn new() -> Self {
        Self { all: BTreeMap::new(), retry_start: Retry::new(START), retry_restore: Retry::new(RESTORE) }
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

    pub(super) fn names(&self) -> Vec<TopicPartition> {
        self.all.keys().copied().collect()
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

    pub(super) fn is_any_restoring(&self) -> bool {
        self.all.values().any(|partition| matches!(partition, Partition::Restoring { .. }))
    }

    /// Those that the source has been told to read.
    pub(super) fn started(&self) -> Vec<TopicPartition> {
        self.those(|partition| partition.started().is_some())
    }

    /// Those whose committed position is known: started, or being restored.
    pub(super) fn located(&self) -> Vec<TopicPartition> {
        self.those(|partition| partition.place().is_some())
    }

    pub(super) fn reading(&self) -> BTreeSet<TopicPartition> {
        self.those(|partition| matches!(partition, Partition::Reading { .. }))
    }

    /// One that waits for a deployment.
    pub(super) fn behind(&self) -> Option<(TopicPartition, Deployed)> {
        self.all.iter().find_map(|(name, partition)| match partition {
            Partition::Behind { needs, .. } => Some((*name, *needs)),
            Partition::Pending | Partition::Restoring { .. } | Partition::Reading { .. } => None,
        })
    }

    fn those<T: FromIterator<TopicPartition>>(&self, holds: impl Fn(Partition) -> bool) -> T {
        self.all.iter().filter(|(_, partition)| holds(**partition)).map(|(name, _)| *name).collect()
    }

    pub(super) fn position(&self, partition: TopicPartition) -> Option<i64> {
        self.all.get(&partition)?.started()
    }

    /// Of all that are started.
    pub(super) fn positions(&self) -> Vec<Position> {
        let position = |(name, partition): (&TopicPartition, &Partition)| {
            Some(Position { partition: *name, offset: partition.started()? })
        };
        self.all.iter().filter_map(position).collect()
    }

    /// The source has been told to read it from there.
    pub(super) fn set_started(&mut self, name: TopicPartition, place: Place) {
        let Place { position, needs } = place;
        let partition = needs.map_or(Partition::Reading { position }, |needs| Partition::Behind { needs, position });
        self.all.insert(name, partition);
    }

    /// What is remembered of it is to be restored before it is read from there.
    pub(super) fn set_restoring(&mut self, name: TopicPartition, place: Place) {
        self.all.insert(name, Partition::Restoring { place, progress: Progress::default() });
    }

    /// The source does not read them any more: something of them has to be restored.
    pub(super) fn restore_started(&mut self, names: &[TopicPartition]) {
        for name in names {
            if let Some(place) = self.all.get(name).and_then(|partition| partition.place()) {
                self.set_restoring(*name, place);
            }
        }
    }

    /// What is left to be restored now; answers those of which nothing is.
    pub(super) fn restored(&mut self, left: &[(TopicPartition, Progress)]) -> Vec<(TopicPartition, Place)> {
        let mut ready = Vec::new();
        for (name, partition) in &mut self.all {
            let Partition::Restoring { place, progress } = partition else { continue };
            match left.iter().find(|(left, _)| left == name) {
                Some((_, now)) => *progress = *now,
                None => ready.push((*name, *place)),
            }
        }
        ready
    }

    /// Something else is committed for them.
    pub(super) fn moved(&mut self, positions: &[Position]) {
        for moved in positions {
            match self.all.get_mut(&moved.partition) {
                None | Some(Partition::Pending) => {}
                Some(
                    Partition::Restoring { place: Place { position, .. }, .. }
                    | Partition::Behind { position, .. }
                    | Partition::Reading { position },
                ) => *position = moved.offset,
            }
        }
    }

    /// What the source has been told to read is to be started anew.
    pub(super) fn restart(&mut self) -> Vec<TopicPartition> {
        let started = self.started();
        self.add(&started);
        started
    }

    /// Those that waited for what runs now, or for something older, are to be read now.
    pub(super) fn catch_up(&mut self, runs: Option<Deployed>) -> Vec<TopicPartition> {
        let waits = |needs: &Deployed| runs.is_none_or(|runs| runs.must_wait_for(needs));
        let mut ready = Vec::new();
        for (name, partition) in &mut self.all {
            match partition {
                Partition::Behind { needs, position } if !waits(needs) => {
                    *partition = Partition::Reading { position: *position };
                    ready.push(*name);
                }
                Partition::Restoring { place, .. } if !place.needs.is_some_and(|needs| waits(&needs)) => {
                    place.needs = None
                }
                Partition::Pending
                | Partition::Restoring { .. }
                | Partition::Behind { .. }
                | Partition::Reading { .. } => {}
            }
        }
        ready
    }

    /// Of all whose committed position is known; `end` is a partition's end as last heard.
    pub(super) fn reports(&self, topics: &Topics, end: impl Fn(TopicPartition) -> Option<i64>) -> Vec<PartitionReport> {
        let report = |(name, partition): (&TopicPartition, &Partition)| {
            let Place { position, needs } = partition.place()?;
            Some(PartitionReport {
                topic: topics.name(name.topic).to_owned(),
                partition: name.partition,
                position: Some(position),
                lag: end(*name).map(|end| (end - position).max(0)),
                waits_for_revision: needs.map(|needs| needs.revision),
                restoring: match partition {
                    Partition::Restoring { progress, .. } => Some(*progress),
                    Partition::Pending | Partition::Behind { .. } | Partition::Reading { .. } => None,
                },
            })
        };
        self.all.iter().filter_map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Revision, TopicIndex};
    use sandpiper_sandbox::Digest;

    fn name(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicIndex::FIRST, partition }
    }

    fn revision(number: u64) -> Deployed {
        Deployed { revision: Revision::new(number).unwrap(), releases: None }
    }

    fn of(number: u64, releases: &str) -> Deployed {
        Deployed { releases: Some(Digest::of(releases.as_bytes())), ..revision(number) }
    }

    /// 0 is pending, 1 is behind, 2 is read.
    fn partitions() -> Partitions {
        let mut partitions = Partitions::new();
        partitions.add(&[name(0), name(1), name(2)]);
        partitions.set_started(name(1), Place { position: 10, needs: Some(revision(9)) });
        partitions.set_started(name(2), Place { position: 20, needs: None });
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
    fn another_deployment_of_the_same_number_is_not_what_a_partition_waits_for() {
        let mut partitions = partitions();
        partitions.set_started(name(1), Place { position: 10, needs: Some(of(9, "theirs")) });
        partitions.set_restoring(name(0), Place { position: 5, needs: Some(of(9, "theirs")) });
        assert_eq!(partitions.catch_up(Some(of(9, "ours"))), []);
        assert_eq!(partitions.restored(&[])[0].1.needs, Some(of(9, "theirs")));
        assert_eq!(partitions.catch_up(Some(of(9, "theirs"))), [name(1)]);
        assert_eq!(partitions.restored(&[])[0].1.needs, None);
        partitions.set_started(name(1), Place { position: 10, needs: Some(of(9, "theirs")) });
        assert_eq!(partitions.catch_up(Some(of(10, "ours"))), [name(1)]);
    }

    #[test]
    fn what_is_started_anew_is_pending_with_what_was() {
        let mut partitions = partitions();
        assert_eq!(partitions.restart(), [name(1), name(2)]);
        assert_eq!((partitions.pending().len(), partitions.positions()), (3, vec![]));
    }

    #[test]
    fn what_is_restored_is_not_started_before_nothing_of_it_is_left() {
        let mut partitions = partitions();
        partitions.set_restoring(name(0), Place { position: 5, needs: Some(revision(8)) });
        partitions.restore_started(&[name(2), name(3)]);
        assert_eq!((partitions.started(), partitions.located().len()), (vec![name(1)], 3));
        let progress = Progress { done: 1, of: 3 };
        let ready = partitions.restored(&[(name(0), progress)]);
        assert_eq!(ready, [(name(2), Place { position: 20, needs: None })]);
        let reports = partitions.reports(&Topics::new(["in"]), |_| None);
        assert_eq!((reports[0].restoring, reports[0].position, reports[1].restoring), (Some(progress), Some(5), None));
        partitions.catch_up(Some(revision(8)));
        partitions.moved(&[Position { partition: name(0), offset: 6 }]);
        assert_eq!(partitions.restored(&[])[0], (name(0), Place { position: 6, needs: None }));
    }

    #[test]
    fn a_report_says_how_far_behind_its_end_a_partition_is_and_what_it_waits_for() {
        let reports = partitions().reports(&Topics::new(["in"]), |name| (name.partition == 2).then_some(25));
        let seen: Vec<_> = reports.iter().map(|each| (each.partition, each.lag, each.waits_for_revision)).collect();
        assert_eq!(seen, [(1, None, Revision::new(9)), (2, Some(5), None)]);
    }
}
