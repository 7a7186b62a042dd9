//! What a transaction says of its release and of its input, and how a worker answers the brake.

use std::collections::BTreeMap;

use super::{ONE_IN, PROBATION, Worker};
use crate::record::Revision;
use crate::record::output::Counts;
use crate::stream::breaker::FEW;
use crate::stream::clock::Clock;
use crate::stream::fault::Fault;
use crate::stream::pause::{Cause, Pause};
use crate::stream::process::{Process, Trial};
use crate::stream::sink::Sink;
use crate::stream::source::{Position, Source, TopicPartition};

impl<S, K, C, P> Worker<S, K, C, P>
where
    S: Source,
    K: Sink<Group = S::Group>,
    C: Clock,
    P: Process,
{
    /// Why what failed in a transaction is the failure of its release, when it is.
    pub(super) fn verdict(&self, counts: &Counts) -> Option<String> {
        let floor = match self.process.trial() {
            Trial::Proven => return None,
            // With nothing to go back to, a single record must not stop everything.
            Trial::First => FEW,
            Trial::Replaceable => 1,
        };
        let is_proven = self.is_proven();
        let fails = counts.failed >= floor && counts.failed * ONE_IN > counts.records;
        let codes = counts.dead_letters.iter().map(|(code, count)| format!("{count} {code}")).collect::<Vec<_>>();
        let why = || {
            format!(
                "it failed on {} of {} records of one transaction ({})",
                counts.failed,
                counts.records,
                codes.join(", ")
            )
        };
        (fails && !is_proven).then(why)
    }

    /// Whether the running revision has passed its probation at any worker.
    fn is_proven(&self) -> bool {
        self.process.revision().is_some_and(|revision| self.handles.hold.has_passed(revision))
    }

    /// What a committed transaction says of its release and of its input.
    pub(super) fn judge(&mut self, counts: &Counts, revision: Option<Revision>) {
        if let Some(revision) = revision
            && self.process.trial() != Trial::Proven
            && !self.is_proven()
        {
            self.tried += counts.records;
            if self.tried >= PROBATION {
                self.handles.hold.pass(revision);
            }
        }
        if let Some(sum) = self.breaker.add(self.clock.now(), counts) {
            let letters: u64 = sum.dead_letters.values().sum();
            let why = format!(
                "{letters} of the last minute's {} records became dead letters, more than [errors] pause_above = {}",
                sum.records, self.bounds.pause_above
            );
            self.pause(Cause::Breaker, why, sum.dead_letters);
        }
    }

    pub(super) fn pause(&self, cause: Cause, why: String, reasons: BTreeMap<String, u64>) {
        tracing::warn!(why, "the pipeline pauses");
        self.handles.hold.pause(Pause { at: self.clock.unix_ms(), cause, why, reasons });
    }

    /// Answers the brake. Partitions and positions are kept, and what was read ahead is read again afterwards.
    pub(super) fn brake(&mut self, on: bool) -> Result<(), Fault> {
        if on {
            self.commit()?;
        } else {
            if self.handles.slot.is_waiting() {
                // What is to run next, not what was held.
                self.swap()?;
            }
            self.breaker.clear();
        }
        let all: Vec<TopicPartition> = self.positions.keys().copied().collect();
        let positions: Vec<Position> = self
            .positions
            .iter()
            .map(|(partition, offset)| Position { partition: *partition, offset: *offset })
            .collect();
        if on {
            self.source.pause(&all)?;
        } else {
            let ready: Vec<TopicPartition> =
                all.into_iter().filter(|partition| !self.waiting.contains_key(partition)).collect();
            self.source.resume(&ready)?;
        }
        self.source.seek(&positions)?;
        self.held = on;
        self.publish();
        Ok(())
    }
}
