//! Partitions that come and go.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::partitions::Place;
use super::{Parts, State, Worker};
use crate::stream::clock::Clock;
use crate::stream::fault::Fault;
use crate::stream::process::Process;
use crate::stream::sink::Sink;
use crate::stream::source::{Position, Source, TopicPartition};
use crate::stream::state::{Progress, Restored};
use crate::stream::transaction::{Transaction, deployed_in, metadata};

/// How long a partition waits for a revision that is deployed elsewhere: a person deploys to one daemon after another.
const PATIENCE: Duration = Duration::from_secs(30);

impl<W: Parts> Worker<W> {
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.reporting.joined();
        if partitions.is_empty() && self.partitions.is_any_pending() {
            // Nothing new was given, and those that wait are tried again in their time.
            return Ok(());
        }
        self.partitions.add(partitions);
        self.start_pending()
    }

    /// Starts what was assigned, once what is remembered of it is restored. The last owner's transaction may have to come to an
    /// end first: until then neither the committed offsets nor what is remembered is stable, and this is tried again.
    pub(super) fn start_pending(&mut self) -> Result<(), Fault> {
        let pending = self.partitions.pending();
        let places = match self.sink.check(&pending).and_then(|()| self.locate(&pending)) {
            Ok(places) => places,
            Err(fault) if fault.ends_worker() => return Err(fault),
            Err(fault) => {
                if self.reporting.error(fault.to_string()) {
                    tracing::warn!(%fault, "the assigned partitions cannot be started yet");
                }
                self.partitions.retry_start.failed(self.clock.now());
                return Ok(());
            }
        };
        self.partitions.retry_start.succeeded();
        self.process.assigned(&places.iter().map(|(partition, _)| *partition).collect::<Vec<_>>());
        for (partition, place) in places {
            self.partitions.set_restoring(partition, place);
        }
        if !pending.is_empty() {
            self.reporting.found_topics();
        }
        if self.state == State::Recovering {
            self.state = State::Running;
        }
        self.reporting.outdated();
        // Where nothing is remembered, they are started now.
        self.restore(Duration::ZERO)
    }

    /// One step of restoring, and the start of what is restored by it.
    pub(super) fn restore(&mut self, wait: Duration) -> Result<(), Fault> {
        match self.process.restore(wait) {
            Ok(Restored { left }) => {
                self.partitions.retry_restore.succeeded();
                self.go_on(&left)
            }
            Err(fault) => self.restore_failed(fault),
        }
    }

    /// What runs now is another process, which remembers nothing yet: what it has to restore first is not read meanwhile. No
    /// transaction is open.
    pub(super) fn restore_anew(&mut self) -> Result<(), Fault> {
        self.process.assigned(&self.partitions.located());
        match self.process.restore(Duration::ZERO) {
            Ok(Restored { left }) => self.go_on(&left),
            Err(fault) => {
                let unknown = |partition| (partition, Progress::default());
                self.go_on(&self.partitions.located().into_iter().map(unknown).collect::<Vec<_>>())?;
                self.restore_failed(fault)
            }
        }
    }

    fn restore_failed(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.ends_worker() {
            return Err(fault);
        }
        if self.reporting.error(fault.to_string()) {
            tracing::warn!(%fault, "what is remembered of the assigned partitions cannot be restored yet");
        }
        self.reporting.outdated();
        self.partitions.retry_restore.failed(self.clock.now());
        Ok(())
    }

    /// Starts what is restored, and stops what is not.
    fn go_on(&mut self, left: &[(TopicPartition, Progress)]) -> Result<(), Fault> {
        let is_left = |partition: &TopicPartition| left.iter().any(|(left, _)| left == partition);
        let unread: Vec<TopicPartition> = self.partitions.started().into_iter().filter(is_left).collect();
        if !unread.is_empty() {
            self.commit()?;
            self.source.unassign(&unread)?;
            self.partitions.restore_started(&unread);
        }
        let ready = self.partitions.restored(left);
        if !left.is_empty() {
            self.reporting.outdated();
        }
        // What is read needs a transaction, and while one is in doubt none can begin.
        if ready.is_empty() || self.transactions.in_doubt().is_some() { Ok(()) } else { self.start(&ready) }
    }

    /// Has the source read from there, unless the partition or the pipeline waits for something.
    fn start(&mut self, places: &[(TopicPartition, Place)]) -> Result<(), Fault> {
        let position =
            |(partition, place): &(TopicPartition, Place)| Position { partition: *partition, offset: place.position };
        self.source.assign(&places.iter().map(position).collect::<Vec<_>>())?;
        for (partition, place) in places {
            self.partitions.set_started(*partition, *place);
        }
        self.reporting.outdated();
        let waiting: Vec<TopicPartition> = (places.iter())
            .filter(|(_, place)| self.held || place.needs.is_some())
            .map(|(partition, _)| *partition)
            .collect();
        if !waiting.is_empty() {
            self.source.pause(&waiting)?;
        }
        Ok(())
    }

    /// Where partitions go on: what is committed, or the configured start, which is then committed before a record
    /// is read, so that a restart finds the same. A transaction in doubt is settled on the way.
    pub(super) fn locate(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Place)>, Fault> {
        let in_doubt = self.transactions.in_doubt().map(Transaction::positions).unwrap_or_default();
        let asked: BTreeSet<TopicPartition> =
            partitions.iter().copied().chain(in_doubt.iter().map(|position| position.partition)).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let committed = self.source.committed(&asked.into_iter().collect::<Vec<_>>())?;
        self.settle(&committed);
        let ours = self.process.deployed();
        let mut places = Vec::new();
        let mut fresh = Vec::new();
        for committed in committed.into_iter().filter(|committed| partitions.contains(&committed.partition)) {
            let Some(position) = committed.offset else {
                fresh.push(committed.partition);
                continue;
            };
            let needs =
                deployed_in(&committed.metadata).filter(|theirs| ours.is_some_and(|ours| ours.must_wait_for(theirs)));
            if let (Some(ours), Some(theirs)) = (ours, needs)
                && ours.runs_the_same(&theirs)
            {
                // What waits for that number comes through the slot.
                self.handles.hold.adopt(theirs);
            }
            places.push((committed.partition, Place { position, needs }));
        }
        let started = self.source.start_of(&fresh)?;
        self.source.commit(&started, &metadata(None))?;
        places.extend(started.iter().map(|at| (at.partition, Place { position: at.offset, needs: None })));
        Ok(places)
    }

    pub(super) fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Fault> {
        let closed = if lost { Err(Fault::Abortable("the partitions were lost".into())) } else { self.commit() };
        self.partitions.remove(partitions);
        let let_go = self.source.unassign(partitions);
        let has_lost_nothing = lost && !self.transactions.is_open();
        let fault = let_go.err().or(closed.err().filter(|_| !has_lost_nothing));
        let recovered = fault.map_or(Ok(()), |fault| self.recover(fault));
        // Whatever became of the transaction, and restored or not: they are another member's now.
        self.process.unassigned(partitions);
        self.reporting.outdated();
        recovered
    }

    /// Leaves the group when what a partition waits for does not come, so that a member that has it gets the partition.
    pub(super) fn leave_what_is_ahead(&mut self, now: Instant) -> Result<(), Fault> {
        let Some((partition, needs)) = self.partitions.behind().filter(|_| !self.held) else {
            self.behind_since = None;
            return Ok(());
        };
        let since = *self.behind_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE {
            return Ok(());
        }
        self.commit()?;
        let (name, needs) = (format!("{}/{}", self.topics.name(partition.topic), partition.partition), needs.revision);
        let which = if self.process.revision() == Some(needs) {
            "which is something else than this daemon's"
        } else {
            "which this daemon does not have"
        };
        Err(Fault::Denied(format!(
            "{name} waits for revision {needs}, {which}: deploy here what another daemon's `sandpiper history` has by that \
             number"
        )))
    }

    /// Leaves the group where control says so: this daemon cannot run what the others do.
    pub(super) fn leave_when_told(&mut self) -> Result<(), Fault> {
        let Some(why) = self.handles.hold.stays_out().filter(|_| !self.held) else { return Ok(()) };
        self.commit()?;
        Err(Fault::Denied(why.to_string()))
    }

    /// Leaves the group where another member processes other partitions by something else under our number: both see it, as
    /// when they started at once, and of the two the one stays whose digest comes first.
    pub(super) fn leave_to_another(&mut self) -> Result<(), Fault> {
        let Some(ours) = self.process.deployed().filter(|_| !self.held) else { return Ok(()) };
        let found = self.source.deployments();
        let Some(theirs) = found.iter().find(|theirs| ours.is_tied_with(theirs) && theirs.releases < ours.releases)
        else {
            return Ok(());
        };
        self.commit()?;
        Err(Fault::Denied(format!(
            "other partitions of the group are processed by revision {} too, which is something else than this daemon's: \
             deploy here what another daemon's `sandpiper history` has by that number",
            theirs.revision
        )))
    }

    pub(super) fn out_of_range(&mut self, partition: TopicPartition) -> Result<(), Fault> {
        if self.partitions.position(partition).is_none() {
            // The client noticed it before the partition went to another member, whose offset it is now.
            return Ok(());
        }
        self.commit()?;
        let was = self.partitions.position(partition).unwrap_or_default();
        // Never by `start`: what is there was not processed yet.
        let oldest = self.source.oldest(partition)?;
        let missed = u64::try_from(oldest.offset - was).unwrap_or_default();
        let name = format!("{}/{}", self.topics.name(partition.topic), partition.partition);
        let message = if missed > 0 {
            format!(
                "{name}: offset {was} was deleted before it was read, with those up to {}, {missed} in all; going on at the \
                 oldest that is there: see the topic's retention",
                oldest.offset
            )
        } else {
            format!(
                "{name}: offset {was} is not in the log, which begins at {}: it was cut off or made anew; going on at the \
                 oldest that is there",
                oldest.offset
            )
        };
        tracing::warn!("{message}");
        self.reporting.error(message);
        self.reporting.outdated();
        // With the revision: a later owner with an older deployment must still wait.
        self.source.commit(&[oldest], &metadata(self.process.deployed()))?;
        // Where that is refused it is found once more.
        self.partitions.moved(&[oldest]);
        self.reporting.missed(missed);
        self.source.seek(&[oldest])
    }
}
