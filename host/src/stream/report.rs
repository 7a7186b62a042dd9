//! What a worker says of itself, published whole: the only thing that status, metrics and health read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::record::output::Counts;
use crate::record::{Comparison, Revision};
use crate::stream::clock::{Clock as _, SystemClock};
use crate::stream::state::Progress;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Connecting, or waiting for what it lacks.
    #[default]
    Starting,
    Running,
    /// In its group, processing nothing until somebody says so.
    Paused,
    /// Resolving a transaction whose outcome is unknown.
    Recovering,
    /// It will not try again: `last_error` says why.
    Failed,
    Stopped,
}

impl WorkerState {
    /// A pipeline is as well as its worst loop.
    pub fn worst(all: impl Iterator<Item = Self>) -> Self {
        let badness = |state: &Self| match state {
            Self::Running => 0,
            Self::Stopped => 1,
            Self::Starting => 2,
            Self::Paused => 3,
            Self::Recovering => 4,
            Self::Failed => 5,
        };
        all.max_by_key(badness).unwrap_or_default()
    }
}

/// One worker at the end of its last transaction.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    pub state: WorkerState,
    /// `None` where the loop has no deployments.
    pub revision: Option<Revision>,
    pub partitions: Vec<PartitionReport>,
    /// Since the worker started, committed only.
    pub counts: Counts,
    /// Committed records by revision.
    pub records_by_revision: BTreeMap<Revision, u64>,
    /// What each step of a rollout came to, by its revision; the last 32.
    pub steps: BTreeMap<Revision, StepReport>,
    pub transactions: u64,
    pub aborted: u64,
    pub recoveries: u64,
    /// Offsets of the input whose records were deleted before they were read.
    pub missed: u64,
    /// How long committed transactions took from their closing to the broker's answer.
    pub commits: Durations,
    /// Each swap's pause between two transactions, microseconds, the last 1,000.
    pub swap_pauses_us: Vec<u64>,
    pub last_error: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// The same moment by a clock that nobody sets; `None` before the first.
    pub published: Option<Instant>,
}

/// What one worker committed while a challenger ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    pub records: u64,
    pub dead_letters: u64,
    pub comparison: Comparison,
}

impl WorkerReport {
    /// How long ago it was published, whatever was done to the machine's clock since.
    pub fn silence(&self) -> Duration {
        self.published.map_or(Duration::ZERO, |published| published.elapsed())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionReport {
    pub topic: String,
    pub partition: i32,
    /// The next offset to be read, as committed.
    pub position: Option<i64>,
    /// Records behind the end, as last heard.
    pub lag: Option<i64>,
    /// The revision that it waits for: its records were processed by a newer deployment than this worker has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for_revision: Option<Revision>,
    /// How far it is with what is remembered of it; while that is being restored nothing of it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Progress>,
}

/// The upper ends of the buckets, seconds. What is above the last is in none.
pub const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Durations, counted by how long they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    pub count: u64,
    /// Microseconds, all together.
    pub sum_us: u64,
    /// Of each of `BUCKETS`, how many were in it and in none below.
    pub buckets: [u64; BUCKETS.len()],
}

impl Durations {
    pub fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.sum_us += duration.as_micros() as u64;
        let seconds = duration.as_secs_f64();
        if let Some((bucket, _)) = self.buckets.iter_mut().zip(BUCKETS).find(|(_, end)| seconds <= *end) {
            *bucket += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Where a worker publishes and everybody else reads.
#[derive(Clone, Default)]
pub struct Publisher(Arc<ArcSwap<WorkerReport>>);

impl Publisher {
    pub fn publish(&self, report: WorkerReport) {
        self.0.store(Arc::new(report));
    }

    pub fn latest(&self) -> Arc<WorkerReport> {
        self.0.load_full()
    }

    /// Changes the last report, which is one of now then: for what happens while no worker runs.
    pub fn amend(&self, change: impl Fn(&mut WorkerReport)) {
        let (at, published) = (SystemClock.unix_ms(), Some(SystemClock.now()));
        self.0.rcu(|report| {
            let mut report = WorkerReport { at, published, ..WorkerReport::clone(report) };
            change(&mut report);
            report
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let mut durations = Durations::default();
        assert!(durations.is_empty());
        for millis in [1, 2, 5, 5_001] {
            durations.add(Duration::from_millis(millis));
        }
        assert_eq!((durations.count, durations.sum_us), (4, 5_009_000));
        assert_eq!(durations.buckets, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "the longest is in no bucket");
    }
}
