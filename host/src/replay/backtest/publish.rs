//! A candidate's outputs written to a topic of its own, each marked with the revision that it corrects.
//!
//! Each transaction holds whole batches. What was committed before a failure stays, and the failure says where to go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::findings::Published;
use crate::config::plan::{Guarantee, Plan};
use crate::kafka::raw::{Client, Kind};
use crate::kafka::sink::{Holder, PartitionCounts, Placement, SinkSettings, SinkTopic};
use crate::kafka::{KafkaSink, properties, topics};
use crate::record::output::{Output, Outputs};
use crate::record::prediction::{Answered, position};
use crate::record::{Batch, Revision, Route, Routes, Topics};
use crate::stream::fault::Fault;
use crate::stream::sink::Sink as _;

/// A transaction is closed after this time, or after `[delivery] max_records` records.
const INTERVAL: Duration = Duration::from_secs(1);
/// What our headers' names start with.
const PREFIX: &str = "sandpiper.";

/// What is to be published, and how it is marked.
#[derive(Clone, Debug)]
pub struct Publish {
    pub topic: String,
    /// The revision that wrote what is corrected.
    pub corrects: Revision,
    /// Of the candidate, where it is a deployment.
    pub revision: Option<Revision>,
    /// Of the candidate.
    pub release: String,
}

/// Refuses a topic that a pipeline's records may not be published to.
///
/// # Errors
/// When it is one of the pipeline's, or does not exist; or no broker answers.
pub fn check(plan: &Plan, topic: &str) -> Result<()> {
    if topics::of(plan).contains(&topic) {
        bail!(
            "topic {topic} is one of pipeline {}'s: what is published there would be taken for its own; name another topic",
            plan.name
        );
    }
    let client = Client::new(Kind::Producer, &properties::client(plan), 0)?;
    let found = topics::partitions_by(&client, &[topic])?;
    if found.get(topic).copied().flatten().is_none() {
        let brokers = plan.kafka.0.get("bootstrap.servers").map_or("HOST:PORT", String::as_str);
        bail!(
            "topic {topic} does not exist; create it with: kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} \
             --partitions N"
        );
    }
    Ok(())
}

pub(super) struct Publisher {
    sink: KafkaSink,
    publish: Publish,
    /// Whether the candidate's values are predictions, with what was answered before them.
    predicts: bool,
    outputs: Outputs,
    /// When the transaction was opened, and its records so far.
    open: Option<(Instant, u64)>,
    most: usize,
    /// How long a transaction may take.
    patience: Duration,
    pub(super) published: Published,
    /// The first offset by topic and partition that is not published: as committed, and as in the open transaction.
    committed: BTreeMap<(String, i32), i64>,
    reached: BTreeMap<(String, i32), i64>,
}

impl Publisher {
    /// `starts` is where the range begins, by topic and partition.
    pub(super) fn open(
        plan: &Plan,
        publish: Publish,
        predicts: bool,
        starts: BTreeMap<(String, i32), i64>,
    ) -> Result<Self> {
        let mut plan = plan.clone();
        plan.delivery.guarantee = Guarantee::ExactlyOnce;
        // Where the topic has as many partitions as the input, a record keeps its partition's number.
        let topic = SinkTopic { name: publish.topic.clone(), placement: Placement::Folded };
        let id = format!("{}.backtest", plan.name);
        let sink = KafkaSink::new(SinkSettings {
            properties: properties::producer(&plan),
            // One for all: Kafka lets the last that asks go on, and ends what an earlier one has left open.
            transactional_id: Some(id.clone()),
            holder: Holder::Work,
            topics: Routes { output: topic.clone(), dead_letters: topic, named: Vec::new() },
            inputs: Topics::default(),
            group: id,
            counts: PartitionCounts::default(),
        });
        let published =
            Published { topic: publish.topic.clone(), corrects: publish.corrects, records: 0, transactions: 0 };
        Ok(Self {
            sink: sink.with_context(|| format!("topic {} cannot be written", publish.topic))?,
            publish,
            predicts,
            outputs: Outputs::default(),
            open: None,
            most: plan.delivery.max_records,
            patience: plan.delivery.transaction_timeout,
            published,
            committed: starts.clone(),
            reached: starts,
        })
    }

    /// Writes what the candidate made of a batch for the output's topic.
    pub(super) fn take(&mut self, batch: &Batch, made: &Outputs) -> Result<()> {
        self.try_take(batch, made).map_err(|fault| self.failed(&fault))
    }

    fn try_take(&mut self, batch: &Batch, made: &Outputs) -> Result<(), Fault> {
        self.outputs.clear();
        for output in made.records.iter().filter(|output| output.route == Route::Output) {
            self.copy(batch, made, output);
        }
        let records = self.outputs.records.len() as u64;
        if records > 0 {
            if self.open.is_none() {
                self.sink.begin()?;
                self.open = Some((Instant::now(), 0));
            }
            self.sink.send(&mut self.outputs, Instant::now() + self.patience)?;
        }
        let behind: BTreeMap<_, _> =
            batch.rows.iter().map(|row| ((row.origin.topic, row.origin.partition), row.origin.offset + 1)).collect();
        for ((topic, partition), offset) in behind {
            self.reached.insert((batch.rows.topics.name(topic).to_owned(), partition), offset);
        }
        if let Some((since, count)) = &mut self.open {
            *count += records;
            if *count >= self.most as u64 || since.elapsed() >= INTERVAL {
                self.end()?;
            }
        }
        Ok(())
    }

    /// Commits what is open.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.end().map_err(|fault| self.failed(&fault))
    }

    fn end(&mut self) -> Result<(), Fault> {
        if let Some((_, records)) = self.open {
            self.sink.commit_outputs(Instant::now() + self.patience)?;
            self.open = None;
            self.published.records += records;
            self.published.transactions += 1;
        }
        self.committed.clone_from(&self.reached);
        Ok(())
    }

    /// Nothing of the open transaction.
    pub(super) fn abort(&mut self) {
        if self.open.take().is_some()
            && let Err(fault) = self.sink.abort(Instant::now() + self.patience)
        {
            tracing::warn!(%fault, "the open transaction is left to the broker, which aborts it in its time");
        }
    }

    fn failed(&mut self, fault: &Fault) -> anyhow::Error {
        self.abort();
        anyhow!("publishing to {}: {fault}", self.publish.topic)
    }

    /// What is published, and where to go on.
    pub(super) fn rest(&self) -> String {
        let place = |((topic, partition), offset): (&(String, i32), &i64)| format!("{topic}/{partition}@{offset}");
        let from: Vec<String> = self.committed.iter().map(place).collect();
        format!("{} records are published; for the rest --from {}", self.published.records, from.join(","))
    }

    fn copy(&mut self, batch: &Batch, made: &Outputs, output: &Output) {
        let Publish { corrects, revision, release, .. } = &self.publish;
        let topic = batch.rows.topic(output.origin);
        let mut origin = Vec::new();
        position(&mut origin, topic, output.origin);
        let value = output.value.map(|value| made.bytes(value));
        let prediction = value
            .filter(|_| self.predicts)
            .and_then(Answered::read)
            .and_then(|given| given.prediction.strip_suffix(b"}"));
        let value = match (prediction, value) {
            (Some(open), _) => Some(self.outputs.write(|out| {
                out.extend_from_slice(open);
                out.extend_from_slice(b",\"origin\":\"");
                out.extend_from_slice(&origin);
                out.extend_from_slice(b"\",\"corrects\":");
                out.extend_from_slice(corrects.to_string().as_bytes());
                if let Some(revision) = revision {
                    out.extend_from_slice(b",\"revision\":");
                    out.extend_from_slice(revision.to_string().as_bytes());
                }
                out.extend_from_slice(b",\"release\":");
                out.extend_from_slice(serde_json::Value::from(release.as_str()).to_string().as_bytes());
                out.extend_from_slice(b",\"role\":\"correction\"}");
            })),
            (None, Some(value)) => Some(self.outputs.put(value)),
            (None, None) => None,
        };
        let mut headers = output.headers.as_deref().cloned().unwrap_or_default();
        let mut add = |name: &str, value: Vec<u8>| headers.push((format!("{PREFIX}{name}"), Some(value)));
        add("corrects", corrects.to_string().into_bytes());
        add("release", release.clone().into_bytes());
        add("origin", origin);
        let key = output.key.map(|key| self.outputs.put(made.bytes(key)));
        self.outputs.records.push(Output {
            origin: output.origin,
            route: Route::Output,
            key,
            value,
            timestamp: output.timestamp,
            headers: Some(Box::new(headers)),
            last_resort: false,
        });
    }
}
