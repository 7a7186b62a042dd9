//! What happened, in order, and the time at which it did.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::stream::clock::Clock;
use crate::stream::source::{Position, TopicPartition};

/// What the worker asked for, in order; the process's effects between them.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(super) fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }

    pub fn last(&self) -> Option<String> {
        self.lines().last().cloned()
    }

    pub fn write(&self, line: impl Into<String>) {
        self.lines().push(line.into());
    }
}

pub(super) fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(|partition| format!(" {}", name(*partition))).collect()
}

pub(super) fn spots(positions: &[Position]) -> String {
    positions.iter().map(|position| format!(" {}@{}", name(position.partition), position.offset)).collect()
}

/// The first topic needs no name: most tests have no other.
pub(super) fn name(partition: TopicPartition) -> String {
    match partition.topic.get() {
        0 => partition.partition.to_string(),
        topic => format!("{topic}/{}", partition.partition),
    }
}

/// Time that passes only when it is told to.
#[derive(Clone)]
pub struct HandClock {
    pub(super) now: Arc<Mutex<Instant>>,
    pub(super) journal: Journal,
    /// The worker's sleeps so far: none of the stories needs many.
    pub(super) sleeps: Arc<Mutex<usize>>,
}

impl HandClock {
    pub fn advance(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn unix_ms(&self) -> i64 {
        1_000
    }

    fn sleep(&self, time: Duration) {
        self.journal.write(format!("sleep {}", time.as_millis()));
        self.advance(time);
        let mut sleeps = self.sleeps.lock().unwrap();
        *sleeps += 1;
        assert!(*sleeps < 100, "the worker tries again and again: {:?}", self.journal.lines());
    }
}
