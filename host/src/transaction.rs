//! What one transaction holds until it commits or never happened: positions and counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::output::{Counts, Outputs};
use crate::plan::Delivery;
use crate::record::Batch;
use crate::source::{Position, TopicPartition};

/// When a transaction closes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub interval: Duration,
    pub records: usize,
    pub bytes: usize,
    /// From the first record to the end of the commit.
    pub budget: Duration,
}

impl From<&Delivery> for Bounds {
    fn from(delivery: &Delivery) -> Self {
        Self {
            interval: delivery.commit_interval,
            records: delivery.max_records,
            bytes: delivery.max_bytes,
            budget: delivery.budget,
        }
    }
}

/// An open transaction. Everything in it is staged: dropping it forgets it.
#[derive(Debug)]
pub struct Transaction {
    opened: Instant,
    records: usize,
    bytes: usize,
    /// The next offset to be read, by partition.
    positions: BTreeMap<TopicPartition, i64>,
    pub counts: Counts,
}

impl Transaction {
    pub fn open(now: Instant) -> Self {
        Self { opened: now, records: 0, bytes: 0, positions: BTreeMap::new(), counts: Counts::default() }
    }

    /// A batch whose outputs were handed to the sink.
    pub fn add(&mut self, batch: &Batch, outputs: &Outputs) {
        self.records += batch.len();
        self.bytes += outputs.size();
        self.counts.add(&outputs.counts);
        let mut run: Option<(TopicPartition, i64)> = None;
        for row in batch.rows.iter() {
            let partition = TopicPartition { topic: row.origin.topic, partition: row.origin.partition };
            match &mut run {
                // Records come in runs of one partition: the map is touched once a run.
                Some((current, next)) if *current == partition => *next = row.origin.offset + 1,
                _ => {
                    if let Some((partition, next)) = run.replace((partition, row.origin.offset + 1)) {
                        self.positions.insert(partition, next);
                    }
                }
            }
        }
        self.positions.extend(run);
    }

    pub fn is_due(&self, bounds: &Bounds, now: Instant) -> bool {
        self.records >= bounds.records || self.bytes >= bounds.bytes || self.time_left(bounds, now).is_zero()
    }

    /// Until the interval is over.
    pub fn time_left(&self, bounds: &Bounds, now: Instant) -> Duration {
        (self.opened + bounds.interval).saturating_duration_since(now)
    }

    pub fn deadline(&self, bounds: &Bounds) -> Instant {
        self.opened + bounds.budget
    }

    pub fn positions(&self) -> Vec<Position> {
        let position = |(partition, offset): (&TopicPartition, &i64)| Position { partition: *partition, offset: *offset };
        self.positions.iter().map(position).collect()
    }

    /// Whether its commit moves past that record.
    pub fn covers(&self, partition: TopicPartition, offset: i64) -> bool {
        self.positions.get(&partition).is_some_and(|next| *next > offset)
    }
}

/// What a committed offset says of the revision that processed the records before it.
pub fn metadata(revision: u64) -> String {
    format!("r{revision}")
}

/// The revision in a committed offset's metadata; 0 where somebody else wrote it.
pub fn revision_in(metadata: &str) -> u64 {
    metadata.strip_prefix('r').and_then(|revision| revision.parse().ok()).unwrap_or_default()
}
