//! Whether labels stand where their predictions do: a sample of both topics, by id and by the hash that placed their keys.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::config::plan::{Feedback, Plan};
use crate::feedback::classes::ClassLists;
use crate::feedback::message;
use crate::feedback::placement::{Placement, differ, explain};
use crate::kafka::properties;
use crate::kafka::reader::{Next, Partitions, ReadFrom, Reader, Record};
use crate::record::{BatchBuilder, Origin, RecordId, TopicIndex, Topics, id};
use crate::stream::fault::Fault;

/// The last offsets of each partition that are looked at.
const LAST: i64 = 200;
/// Records of one topic, at most, and how long they may take to come.
const RECORDS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a sample tells of one topic.
#[derive(Default)]
struct Sample {
    keys: Placement,
    /// Id → partition.
    ids: HashMap<String, i32>,
}

/// Why labels will not meet their predictions, as far as the last records tell.
///
/// # Errors
/// When a topic cannot be read.
pub(super) fn problem(plan: &Plan, feedback: &Feedback) -> Result<Option<String>, Fault> {
    let labels = sample(plan, &feedback.labels, |record| label_id(record, feedback))?;
    let predictions = sample(plan, &plan.output.topic, |record| {
        let prediction = message::prediction(record.value.as_deref()?, &mut ClassLists::default())?;
        Some(prediction.id.to_string())
    })?;
    let both: Vec<bool> =
        (labels.ids.iter()).filter_map(|(id, partition)| Some(predictions.ids.get(id)? != partition)).collect();
    let apart = both.iter().filter(|apart| **apart).count();
    if apart == 0 && !differ(&labels.keys, &predictions.keys) {
        return Ok(None);
    }
    let why = explain((&feedback.labels, &labels.keys), (&plan.output.topic, &predictions.keys));
    Ok(Some(format!("{why} (of {} ids that the last records of both have, {apart} stand apart)", both.len())))
}

fn sample(plan: &Plan, topic: &str, id: impl Fn(&Record) -> Option<String>) -> Result<Sample, Fault> {
    let properties = properties::reader(plan, "check");
    let mut reader = Reader::open(&properties, topic, &Partitions::All, &ReadFrom::Last(LAST), PATIENCE)?;
    let partitions = reader.partitions() as i32;
    let (mut sample, deadline) = (Sample::default(), Instant::now() + PATIENCE);
    while sample.ids.len() < RECORDS && Instant::now() < deadline {
        match reader.next(deadline.saturating_duration_since(Instant::now()))? {
            Next::Record(record) => {
                let Some(id) = id(&record) else { continue };
                // Another key says nothing about where a record of that id is to stand.
                if let Some(key) = record.key.as_deref().filter(|key| *key == id.as_bytes()) {
                    sample.keys.add(key, record.partition, partitions);
                }
                sample.ids.insert(id, record.partition);
            }
            Next::End | Next::Idle => break,
            Next::Trouble(_) => {}
        }
    }
    Ok(sample)
}

fn label_id(record: &Record, feedback: &Feedback) -> Option<String> {
    if feedback.id == RecordId::Key {
        return String::from_utf8(record.key.clone()?).ok();
    }
    let mut batch = BatchBuilder::new(Topics::new([feedback.labels.as_str()]));
    let origin = Origin { topic: TopicIndex::FIRST, partition: record.partition, offset: record.offset };
    let headers = Some(Box::new(record.headers.clone()));
    batch.push(origin, record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    id::of(&feedback.id, &batch.finish(), 0).ok().map(|id| id.into_owned())
}
