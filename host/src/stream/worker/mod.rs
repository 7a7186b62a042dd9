//! One worker: a consumer, a producer and opened plugins on one thread, sharing nothing.
//!
//! The loop owns every decision about a transaction: what is in it, when it closes, what a fault makes of it, and
//! that a swap happens between two of them. Whatever it runs is a `Process`; wherever records come from and go to
//! are a `Source` and a `Sink`.

mod recovery;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::record::output::{Halt, Outputs};
use crate::record::{Batch, Revision, Topics};
use crate::stream::brake::Brake;
use crate::stream::breaker::Breaker;
use crate::stream::clock::Clock;
use crate::stream::failpoint;
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Process};
use crate::stream::report::{PartitionReport, Publisher, WorkerReport, WorkerState};
use crate::stream::sink::Sink;
use crate::stream::slot::Slot;
use crate::stream::source::{Event, Position, Source, TopicPartition};
use crate::stream::transaction::{Bounds, Transaction, metadata, revision_in};

/// How long the loop waits for a record when no transaction is open.
const IDLE: Duration = Duration::from_millis(100);
/// Between two attempts to start assigned partitions, doubling: the last owner's transaction may take as long to end.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// How often an idle worker's report is renewed.
const REPORT: Duration = Duration::from_millis(500);
/// Swap pauses kept.
const PAUSES: usize = 1_000;
/// Records after which a release is trusted, of each worker.
pub const PROBATION: u64 = 10_000;
/// One failed record of so many is the release's failure.
const ONE_IN: u64 = 20;

/// Whatever a worker shares with the control plane.
pub struct Control<P> {
    pub slot: Arc<Slot<P>>,
    pub stop: Arc<AtomicBool>,
    pub brake: Arc<Brake>,
    pub report: Publisher,
}

impl<P> Clone for Control<P> {
    fn clone(&self) -> Self {
        Self {
            slot: self.slot.clone(),
            stop: self.stop.clone(),
            brake: self.brake.clone(),
            report: self.report.clone(),
        }
    }
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Continue,
    Stopped,
}

/// A running loop.
pub struct Worker<S, K, C, P> {
    source: S,
    sink: K,
    clock: C,
    process: P,
    control: Control<P>,
    bounds: Bounds,
    topics: Topics,
    /// Assigned partitions and their committed positions.
    positions: BTreeMap<TopicPartition, i64>,
    /// Assigned, but where they go on could not be read yet.
    pending: BTreeSet<TopicPartition>,
    /// When that is tried again, and how long after that.
    retry: (Instant, Duration),
    /// An input topic was not there, and nothing was assigned or committed since.
    misses_topic: bool,
    /// Partitions that wait, paused, for a deployment of at least that revision.
    waiting: BTreeMap<TopicPartition, Revision>,
    /// Whether the brake is on, as this worker has answered it.
    held: bool,
    breaker: Breaker,
    /// Records that the release has processed while it is on probation.
    tried: u64,
    transaction: Option<Transaction>,
    /// When the last commit started.
    committed: Option<Instant>,
    forced: Forced,
    outputs: Outputs,
    report: WorkerReport,
    published: Option<Instant>,
}

impl<S, K, C, P> Worker<S, K, C, P>
where
    S: Source,
    K: Sink<Group = S::Group>,
    C: Clock,
    P: Process,
{
    /// `topics` are the source's.
    pub fn new(source: S, sink: K, clock: C, process: P, control: Control<P>, bounds: Bounds, topics: Topics) -> Self {
        let now = clock.now();
        let report = WorkerReport {
            state: WorkerState::Running,
            revision: process.revision(),
            ..control.report.latest().as_ref().clone()
        };
        Self {
            source,
            sink,
            clock,
            process,
            control,
            bounds,
            topics,
            positions: BTreeMap::new(),
            pending: BTreeSet::new(),
            retry: (now, FIRST_RETRY),
            misses_topic: false,
            waiting: BTreeMap::new(),
            held: false,
            breaker: Breaker::new(bounds.pause_above),
            tried: 0,
            transaction: None,
            committed: None,
            forced: Forced::new(),
            outputs: Outputs::default(),
            report,
            published: None,
        }
    }

    /// Runs until it is told to stop, then leaves the group.
    ///
    /// # Errors
    /// Only what trying again cannot mend; what was processed is unharmed.
    pub fn run(&mut self) -> Result<(), Fault> {
        loop {
            match self.step() {
                Ok(Step::Continue) => {}
                Ok(Step::Stopped) => return Ok(()),
                Err(fault) => self.recover(fault)?,
            }
        }
    }

    /// What the worker ran last: the next worker of its place goes on with it.
    pub fn into_process(mut self) -> P {
        self.source.close();
        self.process
    }

    /// One event, and whatever is due after it.
    fn step(&mut self) -> Result<Step, Fault> {
        if self.control.stop.load(Ordering::Relaxed) {
            self.commit()?;
            self.source.close();
            self.report.state = WorkerState::Stopped;
            self.positions.clear();
            self.publish();
            return Ok(Step::Stopped);
        }
        let on = self.control.brake.is_on();
        if on != self.held {
            self.brake(on)?;
        }
        let now = self.clock.now();
        let wait = self.transaction.as_ref().map_or(IDLE, |transaction| transaction.time_left(now));
        match self.source.next(wait)? {
            // A last one that was under way: it is read again.
            Event::Batch(_) if self.held => {}
            Event::Batch(batch) => self.add(&batch)?,
            Event::Assigned(partitions) => self.assigned(&partitions)?,
            Event::Revoked { partitions, lost } => self.revoked(&partitions, lost)?,
            Event::OutOfRange(partition) => self.out_of_range(partition)?,
            Event::Trouble(message) => {
                self.report.last_error = Some(message);
                self.published = None;
            }
            Event::Missing(message) => {
                self.misses_topic = true;
                self.report.last_error = Some(message);
                self.published = None;
            }
            Event::Idle => {}
        }
        let now = self.clock.now();
        let swap = self.control.slot.is_waiting();
        let closes = swap || self.transaction.as_ref().is_some_and(|transaction| transaction.is_due(&self.bounds, now));
        if closes {
            self.commit()?;
        }
        if swap {
            self.swap()?;
        }
        if !self.pending.is_empty() && now >= self.retry.0 {
            self.start_pending()?;
        }
        if self.published.is_none_or(|at| now.saturating_duration_since(at) >= REPORT) {
            self.publish();
        }
        Ok(Step::Continue)
    }

    /// Processes one batch within the open transaction, opening it at its first record.
    fn add(&mut self, batch: &Batch) -> Result<(), Fault> {
        if self.transaction.is_none() {
            self.sink.begin()?;
        }
        let now = self.clock.now();
        let transaction = self.transaction.get_or_insert_with(|| {
            let last = self.committed.unwrap_or(now);
            Transaction::open(now, (last + self.bounds.interval).max(self.sink.rested().unwrap_or(now)))
        });
        self.process.process(batch, &self.forced, self.clock.unix_ms(), &mut self.outputs);
        transaction.add(batch, &self.outputs);
        if let Some(halt) = self.outputs.halt.take() {
            return Err(Fault::Halt(halt));
        }
        self.sink.send(&mut self.outputs, transaction.deadline(&self.bounds).max(self.clock.now()))
    }

    /// Closes the open transaction, if there is one.
    fn commit(&mut self) -> Result<(), Fault> {
        let Some(transaction) = &self.transaction else { return Ok(()) };
        if let Some(why) = self.verdict(&transaction.counts) {
            return Err(Fault::Halt(Halt::Release(why)));
        }
        let revision = self.process.revision();
        let (positions, said) = (transaction.positions(), metadata(revision));
        let now = self.clock.now();
        self.committed = Some(now);
        let deadline = transaction.deadline(&self.bounds).max(now + self.bounds.budget / 2);
        let group = self.source.group()?;
        if failpoint::is_on(failpoint::BUG_OFFSETS_FIRST) {
            self.source.commit(&positions, &said)?;
        }
        self.sink.commit(&positions, &said, group, deadline)?;
        if !self.sink.is_transactional() {
            self.source.commit(&positions, &said)?;
        }
        self.report.commits.add(self.clock.now().saturating_duration_since(now));
        if let Some(transaction) = self.transaction.take() {
            self.applied(&transaction, &positions, revision);
        }
        Ok(())
    }

    /// What was staged in a transaction that is committed now.
    fn applied(&mut self, transaction: &Transaction, positions: &[Position], revision: Option<Revision>) {
        self.process.committed();
        self.misses_topic = false;
        for position in positions {
            self.positions.insert(position.partition, position.offset);
        }
        if !self.forced.is_empty() {
            self.forced.retain(|origin, _| !transaction.covers((*origin).into(), origin.offset));
        }
        self.report.transactions += 1;
        self.report.counts.add(&transaction.counts);
        if let Some(revision) = revision {
            *self.report.records_by_revision.entry(revision).or_default() += transaction.counts.records;
        }
        self.publish();
        self.judge(&transaction.counts, revision);
    }

    /// Exchanges what runs for what waits. No transaction is open.
    fn swap(&mut self) -> Result<(), Fault> {
        let started = self.clock.now();
        if !self.control.slot.exchange(&mut self.process) {
            return Ok(());
        }
        let pause = self.clock.now().saturating_duration_since(started);
        if self.report.swap_pauses_us.len() == PAUSES {
            self.report.swap_pauses_us.remove(0);
        }
        self.report.swap_pauses_us.push(pause.as_micros() as u64);
        self.tried = 0;
        let revision = self.process.revision();
        let ready: Vec<TopicPartition> = self
            .waiting
            .iter()
            .filter(|(_, needed)| Some(**needed) <= revision)
            .map(|(partition, _)| *partition)
            .collect();
        self.waiting.retain(|_, needed| Some(*needed) > revision);
        if !ready.is_empty() && !self.held {
            self.source.resume(&ready)?;
        }
        self.publish();
        Ok(())
    }

    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        if partitions.is_empty() && !self.pending.is_empty() {
            // They are tried again in their time.
            return Ok(());
        }
        self.pending.extend(partitions);
        self.start_pending()
    }

    /// Starts what was assigned. The last owner's transaction may have to come to an end first: until then the
    /// committed offsets are not stable, and this is tried again.
    fn start_pending(&mut self) -> Result<(), Fault> {
        let partitions: Vec<TopicPartition> = self.pending.iter().copied().collect();
        let positions = match self.sink.check(&partitions).and_then(|()| self.restore(&partitions)) {
            Ok(positions) => positions,
            Err(Fault::Configuration(message)) => return Err(Fault::Configuration(message)),
            Err(fault) => {
                let message = fault.to_string();
                if self.report.last_error.as_ref() != Some(&message) {
                    tracing::warn!(%fault, "the assigned partitions cannot be started yet");
                    self.report.last_error = Some(message);
                }
                let (_, pause) = self.retry;
                self.retry = (self.clock.now() + pause, (pause * 2).min(LONGEST_RETRY));
                return Ok(());
            }
        };
        self.source.assign(&positions)?;
        self.pending.clear();
        self.retry.1 = FIRST_RETRY;
        self.misses_topic &= partitions.is_empty();
        if self.report.state == WorkerState::Recovering {
            self.report.state = WorkerState::Running;
        }
        self.positions.extend(positions.iter().map(|position| (position.partition, position.offset)));
        let behind: Vec<TopicPartition> = (partitions.iter())
            .filter(|partition| self.held || self.waiting.contains_key(partition))
            .copied()
            .collect();
        if !behind.is_empty() {
            // Revisions never go back on a partition: its last records may be of a deployment newer than ours.
            self.source.pause(&behind)?;
        }
        self.published = None;
        Ok(())
    }

    /// Where partitions go on: what is committed, or the configured start, which is then committed before a record
    /// is read, so that a restart finds the same.
    fn restore(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Position>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut positions = Vec::new();
        let mut fresh = Vec::new();
        for committed in self.source.committed(partitions)? {
            if let Some(needed) = revision_in(&committed.metadata)
                && self.process.revision().is_some_and(|revision| revision < needed)
            {
                self.waiting.insert(committed.partition, needed);
            }
            match committed.offset {
                Some(offset) => positions.push(Position { partition: committed.partition, offset }),
                None => fresh.push(committed.partition),
            }
        }
        let started = self.source.start_of(&fresh)?;
        self.source.commit(&started, &metadata(None))?;
        positions.extend(started);
        Ok(positions)
    }

    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Fault> {
        let closed = if lost { Err(Fault::Abortable("the partitions were lost".into())) } else { self.commit() };
        self.pending.retain(|partition| !partitions.contains(partition));
        for partition in partitions {
            self.positions.remove(partition);
            self.waiting.remove(partition);
        }
        self.source.unassign(partitions)?;
        if lost && self.transaction.is_none() {
            self.process.unassigned(partitions);
            self.published = None;
            return Ok(());
        }
        if let Err(fault) = closed {
            self.recover(fault)?;
        }
        self.process.unassigned(partitions);
        self.published = None;
        Ok(())
    }

    fn out_of_range(&mut self, partition: TopicPartition) -> Result<(), Fault> {
        if !self.positions.contains_key(&partition) {
            // It was said before the partition went to another member, whose offset it is now.
            return Ok(());
        }
        self.commit()?;
        let positions = self.source.start_of(&[partition])?;
        let name = self.topics.name(partition.topic);
        let gone = self.positions.get(&partition).copied().unwrap_or_default();
        for position in &positions {
            let message = format!(
                "{name}/{}: offset {gone} does not exist any more; going on at {}, as [input] start says",
                partition.partition, position.offset
            );
            tracing::warn!("{message}");
            self.report.last_error = Some(message);
            self.positions.insert(partition, position.offset);
        }
        // With the revision: a later owner with an older deployment must still wait.
        self.source.commit(&positions, &metadata(self.process.revision()))?;
        self.source.seek(&positions)
    }

    fn publish(&mut self) {
        let now = self.clock.now();
        self.published = Some(now);
        let partition = |(partition, position): (&TopicPartition, &i64)| PartitionReport {
            topic: self.topics.name(partition.topic).to_owned(),
            partition: partition.partition,
            position: Some(*position),
            lag: self.source.end(*partition).map(|end| (end - position).max(0)),
            waits_for_revision: self.waiting.get(partition).copied(),
        };
        self.report.partitions = self.positions.iter().map(partition).collect();
        self.report.revision = self.process.revision();
        self.report.state = match self.report.state {
            state @ (WorkerState::Recovering | WorkerState::Failed | WorkerState::Stopped) => state,
            _ if self.held => WorkerState::Paused,
            _ if self.misses_topic => WorkerState::Starting,
            _ => WorkerState::Running,
        };
        (self.report.at, self.report.heard) = (self.clock.unix_ms(), Some(now));
        self.control.report.publish(self.report.clone());
    }
}
