//! Where records come from: a consumer group's member, as the worker sees it.
//!
//! Nothing happens behind the loop's back: an assignment is an event, and the loop starts what it was given.

use std::time::Duration;

use crate::record::{Batch, Origin, TopicIndex};
use crate::stream::fault::Fault;
use crate::stream::transaction::Deployed;

/// A partition of one of the loop's input topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: TopicIndex,
    pub partition: i32,
}

impl From<Origin> for TopicPartition {
    fn from(origin: Origin) -> Self {
        Self { topic: origin.topic, partition: origin.partition }
    }
}

/// The next offset to be read of a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub partition: TopicPartition,
    pub offset: i64,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub partition: TopicPartition,
    /// `None` when nothing was ever committed.
    pub offset: Option<i64>,
    /// What we wrote beside it: see `transaction::metadata`.
    pub metadata: String,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Event {
    Batch(Batch),
    /// The loop starts them with `assign` as soon as it can. The group has its answer already: nobody waits for that.
    Assigned(Vec<TopicPartition>),
    /// The loop must finish what it has of them and answer with `unassign`; when they are `lost`, another
    /// member may own them already, and what it has must be aborted.
    Revoked {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
    /// The position does not exist any more: the records there were deleted.
    OutOfRange(TopicPartition),
    /// Everything before that offset has come, as far as it is there, and nothing stands behind it for now.
    End(Position),
    /// Something that the client mends by itself, such as a broker that went away.
    Trouble(String),
    /// An input topic is not there, which a person can mend while this waits.
    Missing(String),
    /// Nothing within the time.
    Idle,
}

/// A member of a consumer group.
pub trait Source {
    /// What a sink needs to commit this member's offsets in its own transaction.
    type Group;

    /// Waits at most `wait`.
    fn next(&mut self, wait: Duration) -> Result<Event, Fault>;
    /// Starts to read them from there, beside those that are read already; none of them is paused then.
    fn assign(&mut self, positions: &[Position]) -> Result<(), Fault>;
    /// Stops, and forgets their records that are not processed.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault>;
    /// Goes on from there; no older record comes out any more.
    fn seek(&mut self, positions: &[Position]) -> Result<(), Fault>;
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault>;
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault>;
    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Fault>;
    /// Where partitions without a committed offset start, by the configured `start`.
    fn start_of(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Position>, Fault>;
    /// The oldest offset that is left of a partition.
    fn oldest(&mut self, partition: TopicPartition) -> Result<Position, Fault>;
    /// Commits outside of any transaction.
    fn commit(&mut self, positions: &[Position], metadata: &str) -> Result<(), Fault>;
    /// Refuses when the membership is gone: a commit would be accepted unchecked.
    fn group(&mut self) -> Result<Self::Group, Fault>;
    /// What processed the group's partitions, ours and others', as far as an answer has come since this was asked last. It is
    /// asked for now and then, behind the loop's back; a transaction that is open is not waited for.
    fn deployments(&mut self) -> Vec<Deployed>;
    /// The partition's end as last heard, for the lag.
    fn end(&self, partition: TopicPartition) -> Option<i64>;
    /// Leaves the group.
    fn close(&mut self);
}
