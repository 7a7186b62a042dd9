//! What a fault makes of a transaction: one action for each class.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Worker;
use crate::record::output::Halt;
use crate::record::{Origin, Revision};
use crate::stream::brake::Cause;
use crate::stream::clock::Clock;
use crate::stream::failpoint;
use crate::stream::fault::{Fault, Refused};
use crate::stream::process::{Process, Refusal};
use crate::stream::report::WorkerState;
use crate::stream::sink::Sink;
use crate::stream::source::{Position, Source, TopicPartition};

/// Between two attempts to come back, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl<S, K, C, P> Worker<S, K, C, P>
where
    S: Source,
    K: Sink<Group = S::Group>,
    C: Clock,
    P: Process,
{
    /// Brings the worker back to what is committed, or gives up when only a person can help.
    pub(super) fn recover(&mut self, fault: Fault) -> Result<(), Fault> {
        let mut fault = fault;
        let mut pause = FIRST_PAUSE;
        loop {
            self.note(&fault);
            let result = match fault {
                Fault::Configuration(_) => {
                    self.discard();
                    // Nothing of the transaction may be left open for others to wait on.
                    let _ = self.sink.abort(self.clock.now() + self.bounds.budget);
                    return Err(fault);
                }
                Fault::Refused(refused) => self.force(refused).and_then(|()| self.abort()),
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
                    // Else once they are started.
                    if self.pending.is_empty() {
                        self.report.state = WorkerState::Running;
                    }
                    self.publish();
                    return Ok(());
                }
                Err(next) => fault = next,
            }
            if self.control.stop.load(Ordering::Relaxed) {
                // Nothing is committed that was not: the next holder of the id resolves the transaction.
                self.discard();
                return Ok(());
            }
            self.clock.sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Abort, and go back to what is committed, with the same producer.
    fn abort(&mut self) -> Result<(), Fault> {
        self.discard();
        self.report.aborted += 1;
        self.sink.abort(self.clock.now() + self.bounds.budget)?;
        self.rewind()
    }

    /// The recovery order: a new producer resolves the old one's transaction; only then is it known what is
    /// committed, and only then is there a place to go back to. Never from memory.
    fn restart(&mut self) -> Result<(), Fault> {
        self.discard();
        self.report.recoveries += 1;
        self.sink.recover()?;
        self.rewind()
    }

    fn halt(&mut self, halt: Halt) {
        match halt {
            Halt::Release(why) => {
                let revision = self.process.revision().map_or(0, Revision::get);
                self.control.brake.failed(revision, why);
            }
            Halt::Record(why) => self.pause(Cause::Record, why, BTreeMap::new()),
        }
    }

    /// Forgets what was staged.
    fn discard(&mut self) {
        if self.transaction.take().is_some() {
            self.process.aborted();
        }
    }

    /// Where that cannot be done now, what is assigned is started anew as soon as it can be: meanwhile the group is
    /// answered, which may have taken the partitions away, as when their topic was deleted.
    fn rewind(&mut self) -> Result<(), Fault> {
        let fault = match self.seek_committed() {
            Ok(()) => return Ok(()),
            Err(fault @ Fault::Configuration(_)) => return Err(fault),
            Err(fault) => fault,
        };
        tracing::warn!(%fault, "the partitions are started anew");
        let partitions: Vec<TopicPartition> = self.positions.keys().copied().collect();
        self.source.unassign(&partitions)?;
        self.positions.clear();
        self.waiting.clear();
        self.pending.extend(partitions);
        self.report.state = WorkerState::Recovering;
        self.report.last_error = Some(fault.to_string());
        Ok(())
    }

    fn seek_committed(&mut self) -> Result<(), Fault> {
        let partitions: Vec<TopicPartition> = self.positions.keys().copied().collect();
        let mut positions = self.restore(&partitions)?;
        if failpoint::is_on(failpoint::BUG_REWIND_FROM_MEMORY) {
            positions =
                self.positions.iter().map(|(at, offset)| Position { partition: *at, offset: *offset }).collect();
        }
        if !failpoint::is_on(failpoint::BUG_NO_SEEK) {
            self.source.seek(&positions)?;
        }
        self.positions.extend(positions.iter().map(|position| (position.partition, position.offset)));
        Ok(())
    }

    /// The next attempt makes dead letters of the records whose outcome the broker does not take.
    fn force(&mut self, refused: Vec<Refused>) -> Result<(), Fault> {
        // Before any of these: several outputs of one record may be refused at once.
        let forced: HashSet<Origin> = self.forced.keys().copied().collect();
        for Refused { origin, message, last_resort } in refused {
            if last_resort {
                let topic = self.topics.name(origin.topic);
                return Err(Fault::Configuration(format!(
                    "the dead letter of {topic}/{}@{} is refused even without its value: {message}; the dead-letter topic must \
                     take records of 64 KiB and null keys: mend its max.message.bytes and cleanup.policy",
                    origin.partition, origin.offset
                )));
            }
            // Refused once more means that its dead letter was refused: then without the value.
            let with_value = !forced.contains(&origin);
            self.forced.insert(origin, Refusal { message, with_value });
        }
        Ok(())
    }

    fn note(&mut self, fault: &Fault) {
        self.report.last_error = Some(fault.to_string());
        match fault {
            Fault::Refused(_) | Fault::Abortable(_) | Fault::Halt(_) => {
                tracing::info!(%fault, "transaction aborted; its records are processed again")
            }
            Fault::Unknown(_) => {
                self.report.state = WorkerState::Recovering;
                tracing::warn!(%fault, "the transaction's outcome is unknown; recovering");
            }
            Fault::Configuration(_) => {
                self.report.state = WorkerState::Failed;
                tracing::error!(%fault, "the worker stops");
            }
        }
        self.publish();
    }
}
