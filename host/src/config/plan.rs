//! A pipeline as resolved: every default filled in, every secret substituted, every limit checked.
//!
//! `config` reads the TOML and makes these; everything behind it reads only these and never the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Pointer, RecordId};

/// One pipeline, ready to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[A-Za-z0-9._-]`, at most 100 characters: part of group and transactional ids.
    pub name: String,
    /// The file it came from.
    pub file: PathBuf,
    /// librdkafka's own properties, as pasted, secrets substituted.
    pub kafka: Properties,
    pub input: Input,
    pub transforms: Vec<Transform>,
    /// Present exactly when `classify` is.
    pub parse: Option<Stage>,
    pub classify: Option<Stage>,
    pub output: Output,
    pub errors: Errors,
    pub feedback: Option<Feedback>,
    /// How a candidate is rolled out; without it a deployment takes over at once.
    pub rollout: Option<Rollout>,
    pub delivery: Delivery,
    pub limits: Limits,
}

/// librdkafka properties. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq)]
pub struct Properties(pub BTreeMap<String, String>);

impl Plan {
    /// Paths in the file are relative to it.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub topics: Vec<String>,
    /// Consumer group; `sandpiper.{name}` by default.
    pub group: String,
    pub id: RecordId,
    /// Where a partition without a committed offset starts.
    pub start: Start,
    pub tombstones: Tombstones,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    Earliest,
    Latest,
}

/// What becomes of a null value before a parser; a transform sees it as a null row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tombstones {
    DeadLetter,
    Drop,
    /// Emitted as it came.
    Pass,
}

/// A plugin as written in the file, not yet loaded.
#[derive(Clone, Debug, PartialEq)]
pub enum PluginRef {
    /// One of those that are built in.
    Stock(String),
    /// A component file.
    Path(PathBuf),
}

/// What a stage is asked to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub plugin: PluginRef,
    /// Only a classifier has one.
    pub model: Option<PathBuf>,
    /// A JSON object, its references to secrets as the file has them.
    pub config: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    pub stage: Stage,
    /// Output name → topic. An output that is not named here goes to the next stage, or after the last to `[output] topic`.
    pub outputs: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub topic: String,
    pub stamp: Stamp,
    pub timestamp: Timestamp,
    pub partition: Partition,
    /// A prediction whose confidence is lower is decided as `review`, otherwise `accept`. 0..=1.
    pub min_confidence: f32,
}

/// What becomes of records that a plugin does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// The dead-letter topic.
    pub dead_letters: String,
    /// Those that a plugin rejects.
    pub rejected: Policy,
    /// Those that a plugin fails on.
    pub failed: Policy,
    /// Share of a minute's records above which dead letters pause the pipeline. 0..=1; 1 never does.
    pub pause_above: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    DeadLetter,
    /// Counted, and gone.
    Drop,
    /// The pipeline pauses before it.
    Stop,
}

/// Where our own facts about an output stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stamp {
    /// In the JSON that the host writes.
    Value,
    /// In one header `sandpiper`.
    Header,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timestamp {
    /// The input record's.
    Input,
    /// The time of writing.
    Now,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partition {
    /// The input's partition number; partition counts must be equal.
    Input,
    /// murmur2 of the output's key, as Java's clients do.
    Key,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// The labels' topic.
    pub labels: String,
    /// What names the record that a label is for. `Position` is not allowed here.
    pub id: RecordId,
    /// JSON pointer to the class name in the label's value; `None`: the value is the class name.
    pub class: Option<Pointer>,
    /// The scores' topic.
    pub scores: String,
    /// Consumer group; `sandpiper.{name}.feedback` by default.
    pub group: String,
    /// How long a prediction waits for its label and an early label for its prediction, in stream time.
    pub wait: Duration,
    /// Predictions and early labels kept per partition, at most.
    pub max_entries: usize,
    /// Memory of what waits, over all partitions of one daemon, bytes: part of `worker_memory`.
    pub max_bytes: usize,
    pub score: Stage,
}

/// A rollout keeps its steps when the file changes: what is remembered of it has them in this form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Share of the records that the challenger runs on beside the champion, at least. 0..=1.
    pub sample: f32,
    /// One at least.
    pub steps: Vec<RolloutStep>,
    pub guards: Guards,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutStep {
    /// Both answer, and the champion's counts.
    Shadow { until: Until },
    /// Of that share of the keys the challenger's answer counts. Above 0, at most 1.
    Canary { share: f32, until: Until },
    /// A person says when it goes on.
    Pause,
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// So many labels have judged both arms.
    Labels(u64),
    /// So many records went through both arms.
    Records(u64),
    /// Milliseconds.
    Time(u64),
}

/// What aborts a rollout by itself; each is judged by the figures of the running step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Guards {
    /// Share of the records in whose call the challenger trapped, ran out of time or broke the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Guard>,
    /// Share of the records that the champion answers and the challenger rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Guard>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p99: Option<LatencyGuard>,
    /// Share of the records that both answer on which they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disagreement: Option<Guard>,
    /// Share of all records that became dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<Guard>,
}

/// Bounds of a share, 0..=1, which hold from so many records on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    pub records: u64,
}

/// A bound of the 99th percentile of how long the challenger's calls take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyGuard {
    pub above_ms: f64,
    pub records: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub guarantee: Guarantee,
    /// A transaction closes after this time,
    pub commit_interval: Duration,
    /// or this many records,
    pub max_records: usize,
    /// or this many bytes of output.
    pub max_bytes: usize,
    /// What one transaction may take from its first record to its commit. Less than `transaction_timeout`.
    pub budget: Duration,
    /// `transaction.timeout.ms`. Less than `max_poll_interval`.
    pub transaction_timeout: Duration,
    /// `max.poll.interval.ms`.
    pub max_poll_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Worker threads, each a consumer and a producer of its own.
    pub workers: usize,
    /// Memory of one plugin instance, bytes.
    pub plugin_memory: usize,
    /// What one plugin call may take.
    pub deadline: Duration,
    /// Records in one plugin call, at most 1,024.
    pub batch_records: usize,
    /// Values, keys and headers in one plugin call, bytes, at most 4 MiB.
    pub batch_bytes: usize,
    /// What the records of one plugin call may come to, bytes.
    pub output_bytes: usize,
    /// Bytes of the largest key.
    pub max_key: usize,
    /// How many headers a record may have, and of how many bytes together.
    pub max_headers: usize,
    pub max_header_bytes: usize,
    /// librdkafka's fetch queue, bytes per worker.
    pub fetch_queue: usize,
    /// Records in it.
    pub fetch_records: usize,
    /// librdkafka's producer queue, bytes per worker.
    pub producer_queue: usize,
    /// All of a worker's memory: the queues, a transaction's bytes and its plugins' instances must fit. Bytes.
    pub worker_memory: usize,
}
