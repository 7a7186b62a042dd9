//! `tap`: a place of a pipeline, record by record, as it is written: its input, its outputs, what goes wrong.
//!
//! Reads brokers and names from the pipeline's file, so no daemon is needed. Sees committed records only, belongs to
//! no group of the pipeline's and commits nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::plain::one_line;
use super::{Failure, Global, Outcome, Output};
use crate::config::plan::Plan;
use crate::kafka::properties;
use crate::kafka::reader::{Next, Partitions, ReadFrom, Reader, Record};
use crate::record::dead_letter::PREFIX;

/// Time for the brokers to say what there is.
const REQUEST: Duration = Duration::from_secs(5);
/// How often a wait for records is interrupted, to see whether the command was.
const NAP: Duration = Duration::from_millis(100);
/// How the answer that does not count begins.
const ARMS: [&[u8]; 2] = [b"\"challenger\":{", b"\"champion\":{"];

/// Follow a place of a pipeline until Ctrl-C.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sandpiper tap data/iris.toml --at output\n  sandpiper tap data/iris.toml --at dead-letters --from-start\n  \
    sandpiper tap data/iris.toml --at scores --count 10 -o json\n\n\
    A line is PARTITION@OFFSET KEY VALUE; of a dead letter also the stage, the reason and the message. A null is shown as -. \
    Only committed records are shown; nothing is committed, and the pipeline's groups are left alone."
)]
pub struct Tap {
    /// A pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to look.
    #[arg(long, value_enum, default_value_t = Place::Output)]
    at: Place,
    /// Everything that the topic still holds, not only what is written from now on.
    #[arg(long)]
    from_start: bool,
    /// End after so many records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Place {
    /// What comes in: `[input] topics`.
    Input,
    /// What the pipeline writes to `[output] topic`.
    #[value(alias = "predictions")]
    Output,
    /// Of that, the predictions that a challenger has made too.
    Challenger,
    /// Records that a stage could not take.
    DeadLetters,
    /// Joined and judged predictions.
    Scores,
}

impl Tap {
    pub fn run(self, global: &Global) -> Outcome {
        let plans = super::pipelines::load(std::slice::from_ref(&self.file))?;
        let plan = plans.first().context("the file holds no pipeline")?;
        let topics = topics(plan, self.at).map_err(Failure::Usage)?;
        let interrupted = super::interrupted()?;
        let mut readers: Vec<(&str, Reader)> =
            topics.iter().map(|topic| Ok((*topic, open(plan, topic, self.from_start)?))).collect::<Result<_>>()?;
        super::say(&format!("following {}; Ctrl-C ends", topics.join(", ")));
        // One topic is waited for as long as it takes; of several each has its turn.
        let nap = NAP / u32::try_from(readers.len().max(1)).unwrap_or(u32::MAX);
        let several = readers.len() > 1;
        let mut shown = 0;
        let mut turn = 0;
        while !interrupted.load(Ordering::Relaxed) && self.count.is_none_or(|count| shown < count) {
            turn = (turn + 1) % readers.len().max(1);
            let Some((topic, reader)) = readers.get_mut(turn) else { break };
            let record = match reader.next(nap).map_err(anyhow::Error::from)? {
                Next::Record(record) => record,
                // librdkafka goes on by itself as soon as the brokers are back.
                Next::Trouble(text) => {
                    super::say(&format!("warning: {}", one_line(&text.to_string())));
                    continue;
                }
                // A tap follows: the end that the topic had is no end of it.
                Next::Idle | Next::End => continue,
            };
            if self.at == Place::Challenger && !has_challenger(&record) {
                continue;
            }
            let line = match global.output {
                Output::Json => json(topic, &record).to_string(),
                Output::Text if several => format!("{topic}/{}", text(&record)),
                Output::Text => text(&record),
            };
            if !super::print(&(line + "\n"))? {
                break;
            }
            shown += 1;
        }
        Ok(())
    }
}

/// The topics where that is seen.
fn topics(plan: &Plan, at: Place) -> Result<Vec<&str>, String> {
    let (file, name) = (plan.file.display(), &plan.name);
    match at {
        Place::Input => Ok(plan.input.topics.iter().map(String::as_str).collect()),
        Place::Output => Ok(vec![&plan.output.topic]),
        Place::Challenger if plan.classify.is_none() => {
            Err(format!("{file}: pipeline {name} has no [classify], so no prediction has a challenger's beside it"))
        }
        Place::Challenger => Ok(vec![&plan.output.topic]),
        Place::DeadLetters => Ok(vec![&plan.errors.dead_letters]),
        Place::Scores => match &plan.feedback {
            Some(feedback) => Ok(vec![&feedback.scores]),
            None => Err(format!(
                "{file}: pipeline {name} has no [feedback], so nothing writes scores: --at output shows what it predicts"
            )),
        },
    }
}

/// Whether it is a prediction that a challenger has made too: of the two answers, the one that does not count stands in an object
/// by its arm's name.
fn has_challenger(record: &Record) -> bool {
    #[derive(Deserialize)]
    struct Prediction {
        challenger: Option<HashMap<String, IgnoredAny>>,
        champion: Option<HashMap<String, IgnoredAny>>,
    }
    let value = record.value.as_deref().unwrap_or_default();
    // Most have none, and a look at the bytes is cheaper than reading all of their JSON.
    let is_named = |name: &[u8]| value.windows(name.len()).any(|window| window == name);
    ARMS.iter().any(|arm| is_named(arm))
        && serde_json::from_slice::<Prediction>(value)
            .is_ok_and(|prediction| prediction.challenger.is_some() || prediction.champion.is_some())
}

/// A reader of every partition, from its start or from its end as it is now. The positions are fixed when this returns,
/// so that whatever is written after `following` appears is seen.
fn open(plan: &Plan, topic: &str, from_start: bool) -> Result<Reader> {
    let from = if from_start { ReadFrom::Beginning } else { ReadFrom::Now };
    Ok(Reader::open(&properties::reader(plan, "tap"), topic, &Partitions::All, &from, REQUEST)?)
}

fn json(topic: &str, record: &Record) -> Value {
    let headers: Vec<Value> = (record.headers.iter())
        .map(|(name, value)| serde_json::json!({ "name": name, "value": bytes(value.as_deref()) }))
        .collect();
    serde_json::json!({
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": bytes(record.key.as_deref()),
        "value": bytes(record.value.as_deref()),
        "headers": headers,
    })
}

fn text(record: &Record) -> String {
    let (key, value) = (shown(record.key.as_deref()), shown(record.value.as_deref()));
    let mut line = format!("{}@{} {key} {value}", record.partition, record.offset);
    if let (Some(reason), Some(message)) = (error(record, "reason"), error(record, "message")) {
        let stage = error(record, "stage").unwrap_or_default();
        line.push_str(&format!(" [{stage} {reason}: {message}]"));
    }
    line
}

/// What we say about a dead letter: the last header of that name is ours.
fn error(record: &Record, name: &str) -> Option<String> {
    let ours = |header: &&(String, Option<Vec<u8>>)| header.0.strip_prefix(PREFIX) == Some(name);
    record.headers.iter().rev().find(ours).map(|(_, value)| shown(value.as_deref()))
}

/// Text as a string, other bytes as `{"base64": "…"}`.
pub(super) fn bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => {
            serde_json::json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) })
        }
    }
}

/// On one line, and harmless to a terminal.
pub(super) fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "-".into() };
    one_line(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            partition: 3,
            offset: 1842,
            timestamp: Some(7),
            key: Some(b"f-1".to_vec()),
            value: Some(b"5.1,\x1b[31m\n".to_vec()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_line_is_one_line_and_cannot_colour_the_terminal() {
        assert_eq!(text(&record()), "3@1842 f-1 5.1,\\u{1b}[31m\\n");
        assert_eq!(text(&Record { key: None, value: None, ..record() }), "3@1842 - -");
    }

    #[test]
    fn a_dead_letter_says_why_and_an_older_letters_headers_do_not_count() {
        let mut record = record();
        for (name, value) in
            [("reason", "old"), ("stage", "parse"), ("reason", "missing-value"), ("message", "column `b` has no value")]
        {
            record.headers.push((format!("{PREFIX}{name}"), Some(value.as_bytes().to_vec())));
        }
        let text = text(&record);
        assert!(text.ends_with(" [parse missing-value: column `b` has no value]"), "{text}");
    }

    #[test]
    fn json_keeps_null_text_and_bytes_apart() {
        let record =
            Record { key: None, headers: vec![("h".into(), Some(vec![0xff])), ("n".into(), None)], ..record() };
        let json = json("iris.dead-letters", &record);
        assert!(json["key"].is_null());
        assert_eq!(json["value"], "5.1,\u{1b}[31m\n");
        assert_eq!(
            json["headers"],
            serde_json::json!([{ "name": "h", "value": { "base64": "/w==" } }, { "name": "n", "value": null }])
        );
        assert_eq!((&json["partition"], &json["offset"], &json["timestamp"]), (&3.into(), &1842.into(), &7.into()));
    }

    fn plan(name: &str) -> Plan {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name);
        crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap()
    }

    #[test]
    fn every_place_has_its_topic_and_what_a_pipeline_lacks_is_refused() {
        let (iris, route) = (plan("iris.toml"), plan("route.toml"));
        let mut several = iris.clone();
        several.input.topics.push("more".into());
        assert_eq!(topics(&several, Place::Input).unwrap(), ["iris.measurements", "more"]);
        for (at, topic) in [
            (Place::Output, "iris.predictions"),
            (Place::Challenger, "iris.predictions"),
            (Place::DeadLetters, "iris.dead-letters"),
            (Place::Scores, "iris.scores"),
        ] {
            assert_eq!(topics(&iris, at).unwrap(), [topic]);
        }
        let scores = topics(&route, Place::Scores).unwrap_err();
        assert!(scores.contains("pipeline route has no [feedback]") && scores.contains("--at output"), "{scores}");
        assert!(topics(&route, Place::Challenger).unwrap_err().contains("pipeline route has no [classify]"));
    }

    #[test]
    fn a_challenger_is_an_object_of_the_prediction_itself() {
        let has = |value: &str| has_challenger(&Record { value: Some(value.into()), ..record() });
        assert!(has(r#"{"id":"a","class":"x","challenger":{"class":"y","confidence":0.5}}"#));
        assert!(has(r#"{"id":"a","class":"y","role":"challenger","champion":{"class":"x","confidence":0.5}}"#));
        for without in [
            r#"{"id":"a","class":"x","role":"champion"}"#,
            r#"{"id":"\"challenger\"","class":"x"}"#,
            r#"{"id":"a","features":{"challenger":{"a":1}}}"#,
            r#"{"id":"a","challenger":null}"#,
            r#"{"id":"a","challenger":"x"}"#,
            r#"not JSON, with "challenger":{}"#,
        ] {
            assert!(!has(without), "{without}");
        }
        assert!(!has_challenger(&Record { value: None, ..record() }));
    }

    /// What a reader shows until there is nothing for a while.
    fn offsets(mut reader: Reader) -> Vec<i64> {
        let mut offsets = Vec::new();
        loop {
            match reader.next(Duration::from_secs(if offsets.is_empty() { 10 } else { 1 })).unwrap() {
                Next::Record(record) => offsets.push(record.offset),
                Next::End => {}
                Next::Idle => return offsets,
                Next::Trouble(text) => panic!("{text}"),
            }
        }
    }

    #[test]
    fn a_tap_starts_at_the_start_or_at_what_is_written_from_now_on() {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
        let producer: BaseProducer = rdkafka::ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
        let brokers = producer.client().mock_cluster().unwrap().bootstrap_servers();
        let mut plan = plan("iris.toml");
        plan.kafka.0.insert("bootstrap.servers".into(), brokers);
        producer.client().mock_cluster().unwrap().create_topic("iris.predictions", 1, 1).unwrap();
        let write = |value: &str| {
            producer.send(BaseRecord::<str, str>::to("iris.predictions").payload(value)).unwrap();
            producer.flush(REQUEST).unwrap();
        };
        write("a");
        write("b");
        let from_start = open(&plan, "iris.predictions", true).unwrap();
        let from_now = open(&plan, "iris.predictions", false).unwrap();
        write("c");
        assert_eq!(offsets(from_start), [0, 1, 2]);
        assert_eq!(offsets(from_now), [2]);
        let error = format!("{:#}", open(&plan, "iris.scores", true).err().unwrap());
        assert!(error.contains("iris.scores does not exist"), "{error}");
    }
}
