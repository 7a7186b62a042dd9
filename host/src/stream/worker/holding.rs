//! A pause between two transactions: how a worker answers a hold, and how it asks for one itself.

use std::collections::BTreeMap;

use super::{Parts, Worker};
use crate::stream::clock::Clock;
use crate::stream::fault::Fault;
use crate::stream::pause::{Cause, Pause};
use crate::stream::source::Source;

impl<W: Parts> Worker<W> {
    /// Partitions and positions are kept, and what was read ahead is read again afterwards.
    pub(super) fn hold(&mut self, on: bool) -> Result<(), Fault> {
        if on {
            self.commit()?;
            self.source.pause(&self.partitions.started())?;
        } else {
            if self.handles.slot.is_waiting() && self.transactions.in_doubt().is_none() {
                // What is to run next, not what was held.
                self.swap()?;
            }
            self.breaker.clear();
            self.source.resume(&self.partitions.reading().into_iter().collect::<Vec<_>>())?;
        }
        self.source.seek(&self.partitions.positions())?;
        self.held = on;
        self.publish();
        Ok(())
    }

    /// Holds every worker of the pipeline until somebody has it go on.
    pub(super) fn pause(&self, cause: Cause, why: String, reasons: BTreeMap<String, u64>) {
        tracing::warn!(why, "the pipeline pauses");
        self.handles.hold.pause(Pause { at: self.clock.unix_ms(), cause, why, reasons });
    }
}
