//! What a worker runs: between a source and a sink, a process makes outputs of records.

use std::collections::HashMap;
use std::time::Duration;

use crate::record::dead_letter::Form;
use crate::record::output::Outputs;
use crate::record::{Batch, Origin, Revision, Topics};
use crate::stream::fault::Fault;
use crate::stream::source::{Position, TopicPartition};
use crate::stream::state::Restored;
use crate::stream::transaction::Deployed;
use sandpiper_sandbox::Digest;

/// What a loop does with its records.
///
/// A partition's life in it: `assigned`, then `restore` until nothing of it is left; `process`, whose effects in memory are
/// staged until `committed` or `aborted`; `unassigned`, at any time. A process that remembers nothing needs `process` alone.
pub trait Process: Send + 'static {
    /// What waits in its slot until it is to run instead: the process itself, or a part of it where the rest remembers something.
    type Next: Send + 'static;
    /// Runs that from now on, and gives back what it ran. Nothing is staged.
    fn exchange(&mut self, next: Self::Next) -> Self::Next;
    /// These partitions are ours, and the last owner's transaction is over: begins to restore what is remembered of them.
    /// Nothing happens to one that is assigned already.
    fn assigned(&mut self, _partitions: &[TopicPartition]) {}
    /// Restores for at most that long. No record of a partition is processed before nothing of it is left. Effects that are
    /// staged, and whether they are applied or discarded, concern other partitions.
    ///
    /// # Errors
    /// When what is remembered cannot be read now; what was restored before stands, and this is called again.
    fn restore(&mut self, _wait: Duration) -> Result<Restored, Fault> {
        Ok(Restored::default())
    }
    /// `outputs` is cleared first. `now` is milliseconds since the Unix epoch.
    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs);
    /// What was processed since the last of these two is committed.
    fn committed(&mut self) {}
    /// What was processed since the last of these two never happened.
    fn aborted(&mut self) {}
    /// These partitions are another member's now, restored or not: nothing of them is remembered any more.
    fn unassigned(&mut self, _partitions: &[TopicPartition]) {}
    /// Everything of the partition before that offset was given to `process`, or is not there any more, and nothing stands behind
    /// it for now. Only a source that is asked to says so.
    fn at_end(&mut self, _end: Position) {}
    /// Those that the origins of its outputs name, where they are not the source's.
    fn topics(&self) -> Option<&Topics> {
        None
    }
    /// Of the deployment that this is, where it is one.
    fn revision(&self) -> Option<Revision> {
        None
    }
    /// What that deployment runs.
    fn releases(&self) -> Option<Digest> {
        None
    }
    fn probation(&self) -> Probation {
        Probation::Passed
    }
    /// The deployment that this is.
    fn deployed(&self) -> Option<Deployed> {
        self.revision().map(|revision| Deployed { revision, releases: self.releases() })
    }
}

/// Records of which the broker refused what became of them.
pub type Forced = HashMap<Origin, Refusal>;

/// What the broker refused of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusal {
    /// Why it refused an output: then the record is a dead letter, whatever it would be. Where it refused a dead letter alone,
    /// the record is processed as ever, so that the letter keeps its own reason.
    pub output: Option<String>,
    /// Of its dead letter.
    pub form: Form,
}

/// How much what runs is trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Probation {
    /// It has passed its probation, or goes back to one that had.
    Passed,
    /// On probation, with nothing to go back to.
    First,
    /// On probation; when it fails the one before takes its records.
    Replaceable,
    /// It is being developed: what fails stays, and each record on which it fails leaves its letter.
    Developing,
}
