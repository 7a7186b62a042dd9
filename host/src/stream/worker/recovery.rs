//! What a fault makes of a transaction: one action for each class.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Parts, State, Worker};
use crate::record::output::Halt;
use crate::stream::backoff::Backoff;
use crate::stream::clock::Clock;
use crate::stream::failpoint::planted_mistake;
use crate::stream::fault::Fault;
use crate::stream::pause::Cause;
use crate::stream::process::Process;
use crate::stream::sink::Sink;
use crate::stream::source::{Committed, Position, Source, TopicPartition};

/// Between two attempts to come back.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

impl<W: Parts> Worker<W> {
    /// Brings the worker back to what is committed, or gives up when only a person can help.
    pub(super) fn recover(&mut self, fault: Fault) -> Result<(), Fault> {
        let mut fault = fault;
        let mut backoff = BACKOFF;
        loop {
            self.note(&fault);
            let result = match fault {
                Fault::Denied(_) | Fault::Configuration(_) => {
                    self.give_up();
                    // Nothing of the transaction may be left open for others to wait on.
                    let _ = self.sink.abort(self.clock.now() + self.bounds.budget);
                    return Err(fault);
                }
                Fault::Refused(refused) => {
                    let topics = self.process.topics().unwrap_or(&self.topics);
                    self.transactions.force(refused, topics).and_then(|()| self.abort())
                }
                Fault::Abortable(_) => self.abort(),
                Fault::Halt(halt) => {
                    // Before the abort: nothing may be processed again until it is decided by what.
                    self.halt(halt);
                    self.abort()
                }
                Fault::Unknown(_) => self.restart(),
            };
            match result {
                Ok(()) => {
                    // Those that are pending keep it recovering until they are started.
                    if !self.partitions.is_any_pending() {
                        self.state = State::Running;
                    }
                    self.publish();
                    return Ok(());
                }
                Err(next) => fault = next,
            }
            if self.handles.stop.is_set() {
                // Nothing is committed that was not: the next holder of the id resolves the transaction.
                self.give_up();
                return Ok(());
            }
            self.clock.sleep(backoff.failed());
        }
    }

    /// Abort, and go back to what is committed, with the same producer.
    fn abort(&mut self) -> Result<(), Fault> {
        if self.transactions.take_open().is_some() {
            self.process.aborted();
        }
        self.reporting.aborted();
        self.sink.abort(self.clock.now() + self.bounds.budget)?;
        self.rewind()
    }

    /// The recovery order: a new producer resolves the old one's transaction; only then is it known what is
    /// committed, whether what was staged took effect, and where there is to go back to. Never from memory.
    fn restart(&mut self) -> Result<(), Fault> {
        self.transactions.doubt();
        self.reporting.recovered();
        self.sink.recover()?;
        self.rewind()
    }

    fn halt(&mut self, halt: Halt) {
        match halt {
            Halt::Release(why) => self.handles.hold.fail(self.process.revision(), why),
            Halt::Record(why) => self.pause(Cause::Record, why, BTreeMap::new()),
        }
    }

    /// The committed offsets tell what became of the transaction in doubt.
    pub(super) fn settle(&mut self, committed: &[Committed]) {
        let Some(transaction) = self.transactions.take_doubtful() else { return };
        if transaction.is_committed(committed, |partition| self.partitions.contains(partition)) {
            self.apply(&transaction);
        } else {
            self.process.aborted();
        }
    }

    /// Forgets what was staged: nobody will know any more.
    fn give_up(&mut self) {
        if self.transactions.take_open().or_else(|| self.transactions.take_doubtful()).is_some() {
            self.process.aborted();
        }
    }

    /// Where that cannot be done now, what is assigned is started anew as soon as it can be: meanwhile the group is
    /// answered, which may have taken the partitions away, as when their topic was deleted.
    fn rewind(&mut self) -> Result<(), Fault> {
        let fault = match self.seek_committed() {
            Ok(()) => return Ok(()),
            Err(fault) if fault.ends_worker() => return Err(fault),
            Err(fault) => fault,
        };
        tracing::warn!(%fault, "the partitions are started anew");
        self.source.unassign(&self.partitions.started())?;
        self.partitions.restart();
        self.state = State::Recovering;
        self.reporting.error(fault.to_string());
        Ok(())
    }

    fn seek_committed(&mut self) -> Result<(), Fault> {
        planted_mistake!(REWIND_FROM_MEMORY, {
            let remembered = self.partitions.positions();
            self.locate(&self.partitions.started())?;
            return self.source.seek(&remembered);
        });
        let reading = self.partitions.reading();
        let places = self.locate(&self.partitions.started())?;
        let mut positions: Vec<Position> = (places.iter())
            .map(|(partition, place)| Position { partition: *partition, offset: place.position })
            .collect();
        planted_mistake!(NO_SEEK, positions.clear());
        self.source.seek(&positions)?;
        self.partitions.moved(&positions);
        // Another owner, of a newer deployment, may have had a partition in between.
        for (partition, place) in places.into_iter().filter(|(_, place)| place.needs.is_some()) {
            self.partitions.set_started(partition, place);
        }
        let behind: Vec<TopicPartition> = reading.difference(&self.partitions.reading()).copied().collect();
        if behind.is_empty() { Ok(()) } else { self.source.pause(&behind) }
    }

    fn note(&mut self, fault: &Fault) {
        self.reporting.error(fault.to_string());
        match fault {
            Fault::Refused(_) | Fault::Abortable(_) | Fault::Halt(_) => {
                tracing::info!(%fault, "transaction aborted; its records are processed again")
            }
            Fault::Unknown(_) => {
                self.state = State::Recovering;
                tracing::warn!(%fault, "the transaction's outcome is unknown; recovering");
            }
            Fault::Denied(_) => {
                self.state = State::Starting;
                tracing::warn!(%fault, "the worker leaves its group, and tries again later");
            }
            Fault::Configuration(_) => {
                self.state = State::Failed;
                tracing::error!(%fault, "the worker stops");
            }
        }
        self.publish();
    }
}
