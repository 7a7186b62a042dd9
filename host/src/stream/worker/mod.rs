//! One worker: a consumer, a producer and opened plugins on one thread, sharing nothing.
//!
//! The loop owns every decision about a transaction: what is in it, when it closes, what a fault makes of it, and
//! that a swap happens between two of them. Whatever it runs is a `Process`; wherever records come from and go to
//! are a `Source` and a `Sink`.

mod assignment;
mod holding;
mod partitions;
mod probation;
mod recovery;
mod reporting;
#[cfg(test)]
mod tests;
mod transactions;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::output::{Counts, Halt, Outputs};
use crate::record::{Batch, Revision, Topics};
use crate::stream::breaker::Breaker;
use crate::stream::clock::Clock;
use crate::stream::failpoint::planted_mistake;
use crate::stream::fault::Fault;
use crate::stream::hold::Hold;
use crate::stream::pause::Cause;
use crate::stream::process::{Probation, Process};
use crate::stream::report::Publisher;
use crate::stream::sink::Sink;
use crate::stream::slot::Slot;
use crate::stream::source::{Event, Position, Source, TopicPartition};
use crate::stream::stop::Stop;
use crate::stream::transaction::{Bounds, Transaction, metadata};
use partitions::Partitions;
pub use probation::PROBATION;
use probation::ProbationCount;
use reporting::Reporting;
use transactions::Transactions;

/// How long the loop waits for a record when no transaction is open.
const IDLE: Duration = Duration::from_millis(100);
/// How often the loop looks whether something keeps it from its partitions.
const LOOK: Duration = Duration::from_millis(500);
/// One step of restoring: behind each the group is answered, and partitions that are restored are read.
const RESTORE: Duration = Duration::from_millis(20);

/// What a worker shares with whoever has it started.
pub struct Handles<P: Process> {
    /// Its number among its loop's workers.
    pub worker: usize,
    pub slot: Arc<Slot<P::Next>>,
    pub stop: Stop,
    pub hold: Arc<Hold>,
    pub report: Publisher,
}

impl<P: Process> Clone for Handles<P> {
    fn clone(&self) -> Self {
        Self {
            worker: self.worker,
            slot: self.slot.clone(),
            stop: self.stop.clone(),
            hold: self.hold.clone(),
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

/// What a worker is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Running,
    /// Partitions that were assigned wait to be started.
    Starting,
    /// A transaction's outcome is unknown, or what was read has to be started anew.
    Recovering,
    /// Only a person can help.
    Failed,
    Stopped,
}

/// What a worker is made of: where its records come from, where its outputs go, what time it is, and what it runs.
pub trait Parts {
    type Source: Source;
    type Sink: Sink<Group = <Self::Source as Source>::Group>;
    type Clock: Clock;
    type Process: Process;
}

impl<S: Source, K: Sink<Group = S::Group>, C: Clock, P: Process> Parts for (S, K, C, P) {
    type Source = S;
    type Sink = K;
    type Clock = C;
    type Process = P;
}

/// A running loop.
pub struct Worker<W: Parts> {
    source: W::Source,
    sink: W::Sink,
    clock: W::Clock,
    process: W::Process,
    handles: Handles<W::Process>,
    bounds: Bounds,
    /// The source's.
    topics: Topics,
    /// What the report's state is derived from, with the hold; nothing else is.
    state: State,
    partitions: Partitions,
    transactions: Transactions,
    /// Whether the workers are held, as this one has answered it.
    held: bool,
    probation: ProbationCount,
    breaker: Breaker,
    /// Of one batch; its memory serves the next.
    outputs: Outputs,
    reporting: Reporting,
    /// What control was told last that this worker runs.
    runs: Option<Revision>,
    /// Since when a partition has waited for a revision.
    behind_since: Option<Instant>,
    /// How many records of a batch are processed at once where more came to too much, and their halves took too long.
    portion: Option<usize>,
    /// When it was last looked whether something keeps it from its partitions.
    looked: Option<Instant>,
}

impl<S: Source, K: Sink<Group = S::Group>, C: Clock, P: Process> Worker<(S, K, C, P)> {
    /// `topics` are the source's.
    pub fn new(source: S, sink: K, clock: C, process: P, handles: Handles<P>, bounds: Bounds, topics: Topics) -> Self {
        let reporting = Reporting::new(handles.report.clone());
        Self {
            source,
            sink,
            clock,
            process,
            handles,
            bounds,
            topics,
            state: State::Running,
            partitions: Partitions::new(),
            transactions: Transactions::default(),
            held: false,
            probation: ProbationCount::default(),
            breaker: Breaker::new(bounds.pause_above),
            outputs: Outputs::default(),
            reporting,
            runs: None,
            behind_since: None,
            portion: None,
            looked: None,
        }
    }
}

impl<W: Parts> Worker<W> {
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

    /// What the worker ran last: the next worker of its place goes on with it, and with partitions that it is given anew.
    pub fn into_process(mut self) -> W::Process {
        self.process.unassigned(&self.partitions.names());
        self.source.close();
        self.process
    }

    /// One event, and whatever is due after it.
    fn step(&mut self) -> Result<Step, Fault> {
        if self.handles.stop.is_set() {
            return self.stop();
        }
        let is_on = self.handles.hold.is_on();
        if is_on != self.held {
            self.hold(is_on)?;
        }
        let wait = self.transactions.time_left(self.clock.now()).unwrap_or(IDLE);
        let wait = if self.restores() { Duration::ZERO } else { wait };
        match self.source.next(wait)? {
            // It was under way when the workers were held or this one recovered, and is read again.
            Event::Batch(_) if self.held || self.transactions.in_doubt().is_some() => {}
            Event::Batch(batch) => self.add(&batch)?,
            Event::Assigned(partitions) => self.assigned(&partitions)?,
            Event::Revoked { partitions, lost } => self.revoked(&partitions, lost)?,
            Event::OutOfRange(partition) => self.out_of_range(partition)?,
            Event::End(end) => self.process.at_end(end),
            Event::Trouble(message) => {
                self.reporting.error(message);
                self.reporting.outdated();
            }
            Event::Missing(message) => {
                self.reporting.misses_topic();
                self.reporting.error(message);
                self.reporting.outdated();
            }
            Event::Idle => {}
        }
        let now = self.clock.now();
        let is_in_doubt = self.transactions.in_doubt().is_some();
        // What runs has effects staged until it is known what became of them.
        let swap = self.handles.slot.is_waiting() && !is_in_doubt;
        if swap || self.transactions.is_due(&self.bounds, now) {
            self.commit()?;
        }
        if swap {
            self.swap()?;
        }
        if (self.partitions.is_any_pending() || is_in_doubt) && self.partitions.retry_start.is_due(now) {
            self.start_pending()?;
        }
        if self.restores() {
            self.restore(self.transactions.time_left(now).unwrap_or(RESTORE).min(RESTORE))?;
        }
        if self.reporting.is_due(now) {
            self.publish();
        }
        if self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK) {
            self.looked = Some(now);
            self.leave_what_is_ahead(now)?;
            self.leave_to_another()?;
            self.leave_when_told()?;
        }
        Ok(Step::Continue)
    }

    /// Whether something is to be restored, and its time has come.
    fn restores(&self) -> bool {
        self.partitions.is_any_restoring() && self.partitions.retry_restore.is_due(self.clock.now())
    }

    /// Commits what is open and leaves the group.
    fn stop(&mut self) -> Result<Step, Fault> {
        self.commit()?;
        self.source.close();
        self.state = State::Stopped;
        self.partitions.clear();
        self.publish();
        Ok(Step::Stopped)
    }

    /// Processes one batch, in halves as long as it comes to more than its outputs may take: each part is sent before the
    /// next is processed. Parts that together take longer than a transaction may leave the rest to be read again, since the
    /// group is served meanwhile.
    fn add(&mut self, batch: &Batch) -> Result<(), Fault> {
        let started = self.clock.now();
        let mut waiting = vec![Cow::Borrowed(batch)];
        if let Some(portion) = self.portion.filter(|portion| *portion < batch.len()) {
            waiting = vec![Cow::Owned(batch.select(portion..batch.len())), Cow::Owned(batch.select(0..portion))];
        }
        while let Some(part) = waiting.pop() {
            self.begin()?;
            self.process.process(&part, self.transactions.forced(), self.clock.unix_ms(), &mut self.outputs);
            if self.outputs.overflowed {
                let middle = part.len() / 2;
                self.portion = Some(middle);
                waiting.push(Cow::Owned(part.select(middle..part.len())));
                waiting.push(Cow::Owned(part.select(0..middle)));
            } else {
                let deadline = self.transactions.add(&part, &self.outputs, &self.bounds);
                if let Some(halt) = self.outputs.halt.take() {
                    return Err(Fault::Halt(halt));
                }
                let now = self.clock.now();
                self.sink.send(&mut self.outputs, deadline.unwrap_or(now).max(now))?;
            }
            let now = self.clock.now();
            if !waiting.is_empty() && now.saturating_duration_since(started) >= self.bounds.budget {
                return self.leave_for_later(&waiting);
            }
            // Halves take their time, and a transaction is not to outlive its own for them.
            if !waiting.is_empty() && self.transactions.is_due(&self.bounds, now) {
                self.commit()?;
            }
        }
        self.portion = None;
        Ok(())
    }

    /// Has those parts of a batch, the next one last, read again.
    fn leave_for_later(&mut self, parts: &[Cow<'_, Batch>]) -> Result<(), Fault> {
        self.commit()?;
        let mut first: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for row in parts.iter().rev().flat_map(|part| part.rows.iter()) {
            first.entry(row.origin.into()).or_insert(row.origin.offset);
        }
        let positions = first.into_iter().map(|(partition, offset)| Position { partition, offset });
        self.source.seek(&positions.collect::<Vec<_>>())
    }

    /// Opens the transaction, unless it is open.
    fn begin(&mut self) -> Result<(), Fault> {
        if !self.transactions.is_open() {
            self.sink.begin()?;
        }
        let (now, rested) = (self.clock.now(), self.sink.rested());
        self.transactions.begin(now, &self.bounds, rested);
        Ok(())
    }

    /// Closes the open transaction, if there is one.
    fn commit(&mut self) -> Result<(), Fault> {
        let Some(transaction) = self.transactions.open() else { return Ok(()) };
        if let Some(why) = probation::failure(self.probation(), &transaction.counts) {
            return Err(Fault::Halt(Halt::Release(why)));
        }
        let (positions, metadata) = (transaction.positions(), metadata(self.process.deployed()));
        let now = self.clock.now();
        let deadline = transaction.deadline(&self.bounds).max(now + self.bounds.budget / 2);
        self.transactions.closing(now);
        let group = self.source.group()?;
        planted_mistake!(OFFSETS_FIRST, self.source.commit(&positions, &metadata)?);
        self.sink.commit(&positions, &metadata, group, deadline)?;
        if !self.sink.is_transactional()
            && let Err(fault) = self.source.commit(&positions, &metadata)
        {
            // The answer may be all that was lost.
            self.transactions.doubt();
            return Err(fault);
        }
        self.reporting.timed(self.clock.now().saturating_duration_since(now));
        if let Some(transaction) = self.transactions.take_open() {
            self.apply(&transaction);
        }
        Ok(())
    }

    /// Applies what was staged in a transaction that is committed now.
    fn apply(&mut self, transaction: &Transaction) {
        self.process.committed();
        self.partitions.moved(&transaction.positions());
        self.transactions.settled(transaction);
        self.reporting.committed(&transaction.counts, self.process.revision());
        self.publish();
        if matches!(self.probation(), Probation::First | Probation::Replaceable)
            && self.probation.add(&transaction.counts)
            && let Some(revision) = self.process.revision()
        {
            self.handles.hold.pass(revision);
        }
        self.watch_dead_letters(&transaction.counts);
    }

    /// How much the running release is trusted: as soon as one worker has tried it enough, everywhere.
    fn probation(&self) -> Probation {
        match self.process.revision() {
            Some(revision) if self.handles.hold.has_passed(revision) => Probation::Passed,
            _ => self.process.probation(),
        }
    }

    /// Pauses the pipeline when too many of the last minute's records became dead letters.
    fn watch_dead_letters(&mut self, counts: &Counts) {
        let Some(sum) = self.breaker.add(self.clock.now(), counts) else { return };
        let letters: u64 = sum.dead_letters.values().sum();
        let why = format!(
            "{letters} of the last minute's {} records became dead letters, more than [errors] pause_above = {}",
            sum.records, self.bounds.pause_above
        );
        self.pause(Cause::Breaker, why, sum.dead_letters);
    }

    /// Exchanges what runs for what waits. No transaction is open.
    fn swap(&mut self) -> Result<(), Fault> {
        let started = self.clock.now();
        if !self.handles.slot.exchange(|next| self.process.exchange(next)) {
            return Ok(());
        }
        self.reporting.swapped(self.clock.now().saturating_duration_since(started));
        self.probation.restart();
        let ready = self.partitions.catch_up(self.process.deployed());
        if !ready.is_empty() {
            if !self.held {
                self.source.resume(&ready)?;
            }
            self.announce(&ready);
        }
        self.restore_anew()?;
        self.publish();
        Ok(())
    }

    /// Whoever looks at the group sees from now on what processes these partitions, before a record comes. The next transaction
    /// says it too.
    fn announce(&mut self, partitions: &[TopicPartition]) {
        let positions: Vec<Position> =
            self.partitions.positions().into_iter().filter(|at| partitions.contains(&at.partition)).collect();
        if let Err(fault) = self.source.commit(&positions, &metadata(self.process.deployed())) {
            tracing::info!(%fault, "the new revision stands beside the offsets once a transaction is committed");
        }
    }

    fn publish(&mut self) {
        let partitions = self.partitions.reports(&self.topics, |partition| self.source.end(partition));
        let (now, unix_ms) = (self.clock.now(), self.clock.unix_ms());
        let state = match self.state {
            State::Running if self.partitions.is_any_pending() => State::Starting,
            state => state,
        };
        self.reporting.publish(state, self.held, self.process.revision(), partitions, now, unix_ms);
        let runs = self.process.revision().filter(|_| self.state == State::Running && !self.held);
        if std::mem::replace(&mut self.runs, runs) != runs {
            self.handles.hold.runs(self.handles.worker, runs);
        }
    }
}
