//! Where outputs go: a producer, transactional or not, as the worker sees it.

use std::time::Instant;

use crate::record::output::Outputs;
use crate::stream::fault::Fault;
use crate::stream::source::{Position, TopicPartition};

/// A producer that the worker alone owns.
pub trait Sink {
    /// What commits a source's offsets in the transaction.
    type Group;

    /// Whether offsets go into the transaction; otherwise the source commits them after `commit`.
    fn is_transactional(&self) -> bool;
    /// Whether outputs of these input partitions have a place; asked at each assignment.
    fn check(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault>;
    fn begin(&mut self) -> Result<(), Fault>;
    /// Before then a commit takes longer: the broker may still be ending the last transaction.
    fn rested(&self) -> Option<Instant>;
    /// Takes records over, and may leave another buffer for the next; waits for room until the deadline.
    fn send(&mut self, outputs: &mut Outputs, deadline: Instant) -> Result<(), Fault>;
    /// Everything that was sent, and the positions, or nothing.
    fn commit(
        &mut self,
        positions: &[Position],
        metadata: &str,
        group: Self::Group,
        deadline: Instant,
    ) -> Result<(), Fault>;
    /// Nothing of what was sent.
    fn abort(&mut self, deadline: Instant) -> Result<(), Fault>;
    /// A new producer with the same id: the old one's transaction is resolved when this returns.
    fn recover(&mut self) -> Result<(), Fault>;
}
