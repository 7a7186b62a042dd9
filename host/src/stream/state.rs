//! What a process remembers of its partitions, and where that comes from when a partition comes to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stream::fault::Fault;
use crate::stream::source::TopicPartition;

/// How much of what is remembered of a partition is there again: entries, or offsets of a changelog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub of: u64,
}

/// What a step of restoring came to.
#[derive(Debug, Default, PartialEq)]
pub struct Restored {
    /// Partitions that cannot be read yet; empty when everything is there.
    pub left: Vec<(TopicPartition, Progress)>,
}

/// Keeps what is remembered by partition number outside of the process. `E` is one entry as the process has it.
pub trait Store<E>: Send {
    /// From now on `read` gives what was kept of it before, from the start.
    fn open(&mut self, partition: i32);
    /// Entries of the partitions that are open, in the order in which they were kept: a later one of a key takes the place of an
    /// earlier one. Waits at most that long, and gives no more than that time's worth.
    ///
    /// # Errors
    /// When the store cannot be read now; what was given before stands.
    fn read(&mut self, wait: Duration) -> Result<Vec<(i32, E)>, Fault>;
    /// `None` when everything that was kept before it was opened has been given.
    fn progress(&self, partition: i32) -> Option<Progress>;
    /// Nothing more of it is wanted.
    fn close(&mut self, partition: i32);
}

/// Keeps nothing.
pub struct Empty;

impl<E> Store<E> for Empty {
    fn open(&mut self, _partition: i32) {}

    fn read(&mut self, _wait: Duration) -> Result<Vec<(i32, E)>, Fault> {
        Ok(Vec::new())
    }

    fn progress(&self, _partition: i32) -> Option<Progress> {
        None
    }

    fn close(&mut self, _partition: i32) {}
}
