//! What a worker runs: between a source and a sink, a process makes outputs of records.

use std::sync::Arc;

use crate::feedback::tally::Tally;
use crate::pipeline::{Forced, Pipeline, Trial};
use crate::record::Batch;
use crate::record::output::Outputs;
use crate::stream::source::TopicPartition;

/// What a loop does with its records.
pub trait Process: Send + 'static {
    /// `outputs` is cleared first. Effects in memory are staged until one of the next two.
    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs);
    fn committed(&mut self) {}
    fn aborted(&mut self) {}
    /// These partitions are another member's now.
    fn unassigned(&mut self, _partitions: &[TopicPartition]) {}
    fn revision(&self) -> u64;
    fn trial(&self) -> Trial {
        Trial::Proven
    }
    fn tally(&self) -> Option<Arc<Tally>> {
        None
    }
}

impl Process for Pipeline {
    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        Pipeline::process(self, batch, forced, now, outputs);
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn trial(&self) -> Trial {
        self.trial
    }
}
