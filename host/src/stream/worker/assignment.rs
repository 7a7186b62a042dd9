//! Partitions that come and go.

use std::collections::BTreeSet;

use super::partitions::Partition;
use super::{State, Worker};
use crate::record::Revision;
use crate::stream::clock::Clock;
use crate::stream::fault::Fault;
use crate::stream::process::Process;
use crate::stream::sink::Sink;
use crate::stream::source::{Position, Source, TopicPartition};
use crate::stream::transaction::{Transaction, metadata, revision_in};

/// Where a partition goes on.
pub(super) struct Place {
    pub(super) position: Position,
    /// The revision that it has to wait for, where that is newer than ours.
    pub(super) needs: Option<Revision>,
}

impl Place {
    /// What the partition is once the source has been told to read it from there.
    pub(super) fn started(&self) -> Partition {
        let position = self.position.offset;
        self.needs.map_or(Partition::Reading { position }, |needs| Partition::Behind { needs, position })
    }
}

impl<S, K, C, P> Worker<S, K, C, P>
where
    S: Source,
    K: Sink<Group = S::Group>,
    C: Clock,
    P: Process,
{
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        if partitions.is_empty() && self.partitions.is_any_pending() {
            // They are tried again in their time.
            return Ok(());
        }
        self.partitions.add(partitions);
        self.start_pending()
    }

    /// Starts what was assigned. The last owner's transaction may have to come to an end first: until then the
    /// committed offsets are not stable, and this is tried again.
    pub(super) fn start_pending(&mut self) -> Result<(), Fault> {
        let pending = self.partitions.pending();
        let places = match self.sink.check(&pending).and_then(|()| self.locate(&pending)) {
            Ok(places) => places,
            Err(fault @ Fault::Configuration(_)) => return Err(fault),
            Err(fault) => {
                if self.reporting.error(fault.to_string()) {
                    tracing::warn!(%fault, "the assigned partitions cannot be started yet");
                }
                self.partitions.retry.failed(self.clock.now());
                return Ok(());
            }
        };
        self.start(&places)?;
        self.partitions.retry.succeeded();
        if !pending.is_empty() {
            self.reporting.found_topics();
        }
        if self.state == State::Recovering {
            self.state = State::Running;
        }
        self.reporting.outdated();
        Ok(())
    }

    /// Has the source read from there, unless the partition or the pipeline waits for something.
    fn start(&mut self, places: &[Place]) -> Result<(), Fault> {
        let positions: Vec<Position> = places.iter().map(|place| place.position).collect();
        self.source.assign(&positions)?;
        for place in places {
            self.partitions.set(place.position.partition, place.started());
        }
        let waiting: Vec<TopicPartition> = (places.iter())
            .filter(|place| self.held || place.needs.is_some())
            .map(|place| place.position.partition)
            .collect();
        if !waiting.is_empty() {
            self.source.pause(&waiting)?;
        }
        Ok(())
    }

    /// Where partitions go on: what is committed, or the configured start, which is then committed before a record
    /// is read, so that a restart finds the same. A transaction in doubt is settled on the way.
    pub(super) fn locate(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Place>, Fault> {
        let in_doubt = self.transactions.in_doubt().map(Transaction::positions).unwrap_or_default();
        let asked: BTreeSet<TopicPartition> =
            partitions.iter().copied().chain(in_doubt.iter().map(|position| position.partition)).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let committed = self.source.committed(&asked.into_iter().collect::<Vec<_>>())?;
        self.settle(&committed);
        let ours = self.process.revision();
        let mut places = Vec::new();
        let mut fresh = Vec::new();
        for committed in committed.into_iter().filter(|committed| partitions.contains(&committed.partition)) {
            let Some(offset) = committed.offset else {
                fresh.push(committed.partition);
                continue;
            };
            let position = Position { partition: committed.partition, offset };
            let needs = revision_in(&committed.metadata).filter(|needs| ours.is_some_and(|ours| ours < *needs));
            places.push(Place { position, needs });
        }
        let started = self.source.start_of(&fresh)?;
        self.source.commit(&started, &metadata(None))?;
        places.extend(started.into_iter().map(|position| Place { position, needs: None }));
        Ok(places)
    }

    pub(super) fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Fault> {
        let closed = if lost { Err(Fault::Abortable("the partitions were lost".into())) } else { self.commit() };
        self.partitions.remove(partitions);
        self.source.unassign(partitions)?;
        let has_lost_nothing = lost && !self.transactions.is_open();
        if let Err(fault) = closed
            && !has_lost_nothing
        {
            self.recover(fault)?;
        }
        self.process.unassigned(partitions);
        self.reporting.outdated();
        Ok(())
    }

    pub(super) fn out_of_range(&mut self, partition: TopicPartition) -> Result<(), Fault> {
        if self.partitions.position(partition).is_none() {
            // It was said before the partition went to another member, whose offset it is now.
            return Ok(());
        }
        self.commit()?;
        let gone = self.partitions.position(partition).unwrap_or_default();
        let positions = self.source.start_of(&[partition])?;
        for position in &positions {
            let message = format!(
                "{}/{}: offset {gone} does not exist any more; going on at {}, as [input] start says",
                self.topics.name(partition.topic),
                partition.partition,
                position.offset
            );
            tracing::warn!("{message}");
            self.reporting.error(message);
        }
        self.partitions.moved(&positions);
        // With the revision: a later owner with an older deployment must still wait.
        self.source.commit(&positions, &metadata(self.process.revision()))?;
        self.source.seek(&positions)
    }
}
