//! What a worker runs: between a source and a sink, a process makes outputs of records.

use std::collections::HashMap;

use crate::record::output::Outputs;
use crate::record::{Batch, Origin, Revision};
use crate::stream::source::TopicPartition;

/// What a loop does with its records.
pub trait Process: Send + 'static {
    /// `outputs` is cleared first. Effects in memory are staged until one of the next two.
    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs);
    fn committed(&mut self) {}
    fn aborted(&mut self) {}
    /// These partitions are another member's now.
    fn unassigned(&mut self, _partitions: &[TopicPartition]) {}
    /// Of the deployment that this is, where it is one.
    fn revision(&self) -> Option<Revision> {
        None
    }
    fn trial(&self) -> Trial {
        Trial::Proven
    }
}

/// Records whose outcome is fixed beforehand, since the broker refused what became of them.
pub type Forced = HashMap<Origin, Refusal>;

/// Why the broker refused a record, and whether its dead letter still carries the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub message: String,
    pub with_value: bool,
}

/// How much what runs is trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trial {
    /// It has passed its probation, or goes back to one that had.
    Proven,
    /// On probation, with nothing to go back to.
    First,
    /// On probation; when it fails the one before takes its records.
    Replaceable,
}
