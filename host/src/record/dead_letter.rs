//! A record that a stage could not take, with everything that is needed to understand and replay it.
//!
//! The original's key, value and headers stand byte for byte; what we say about it stands in headers behind them.

use crate::record::output::{Output, Outputs};
use crate::record::{Batch, Revision, Route};
use sandpiper_sandbox::Digest;

/// What all our headers' names start with.
pub const PREFIX: &str = "__sandpiper.errors.";

/// Characters of an id: one from inside a value may be of any length.
const ID: usize = 1_024;

/// Who did not take a record: `[errors]` says for each plugin's case what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blame {
    Host,
    /// A plugin rejected it.
    Rejected,
    /// A plugin failed on it.
    Failed,
}

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    pub blame: Blame,
    /// Stable and short: a metric's label.
    pub code: String,
    /// For people.
    pub message: String,
    /// The plugin's last log lines, where a plugin failed.
    pub log: String,
    /// `input`, `parse`, `classify`, `transform[0]` or `output`.
    pub stage: String,
    /// The release of that stage, where there is one.
    pub release: Option<String>,
}

impl Reason {
    /// The host's own reason, outside of any plugin.
    pub fn of_host(stage: &str, code: &str, message: impl Into<String>) -> Self {
        let (code, message, stage) = (code.into(), message.into(), stage.into());
        Self { blame: Blame::Host, code, message, log: String::new(), stage, release: None }
    }
}

/// Writes the dead letters of one worker.
#[derive(Clone, Debug)]
pub struct DeadLetterWriter {
    pub pipeline: String,
    /// The daemon's name.
    pub instance: String,
}

/// What is said about a record that becomes a dead letter.
pub struct DeadLetter<'a> {
    pub reason: &'a Reason,
    /// The record's, where it has one.
    pub id: Option<&'a str>,
    /// Of the deployment that took part, where one did.
    pub revision: Option<Revision>,
    /// False when the broker refused the dead letter for its size: then size and digest stand for the value, and the record's
    /// own headers are left out, so that a dead letter can always be delivered.
    pub with_value: bool,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
}

impl DeadLetterWriter {
    /// Adds the dead letter of one row.
    pub fn write(&self, outputs: &mut Outputs, batch: &Batch, row: usize, letter: &DeadLetter<'_>) {
        let Some(facts) = batch.rows.get(row) else { return };
        let (origin, reason, with_value) = (facts.origin, letter.reason, letter.with_value);
        // The last resort must fit: the record's own headers may be what is too large.
        let own = facts.headers.as_deref().filter(|_| with_value);
        let mut headers = own.cloned().unwrap_or_default();
        let mut add = |name: &str, value: String| headers.push((format!("{PREFIX}{name}"), Some(value.into_bytes())));
        add("topic", batch.rows.topic(origin).to_owned());
        add("partition", origin.partition.to_string());
        add("offset", origin.offset.to_string());
        if let Some(timestamp) = facts.timestamp {
            add("timestamp", timestamp.to_string());
        }
        if let Some(id) = letter.id {
            add("id", id.chars().take(ID).collect());
        }
        add("pipeline", self.pipeline.clone());
        add("stage", reason.stage.clone());
        if let Some(release) = &reason.release {
            add("release", release.clone());
        }
        if let Some(revision) = letter.revision {
            add("revision", revision.to_string());
        }
        add("reason", reason.code.clone());
        add("message", reason.message.clone());
        if !reason.log.is_empty() {
            add("log", reason.log.clone());
        }
        add("attempts", "1".into());
        add("instance", self.instance.clone());
        add("time", letter.time.to_string());
        let value = batch.value(row);
        if !with_value && let Some(value) = value {
            add("value-size", value.len().to_string());
            add("value-digest", Digest::of(value).to_string());
        }
        let key = batch.rows.key(facts).map(|key| outputs.put(key));
        let value = value.filter(|_| with_value).map(|value| outputs.put(value));
        outputs.records.push(Output {
            origin,
            route: Route::DeadLetters,
            key,
            value,
            // A time that its topic refuses is left out with the value.
            timestamp: facts.timestamp.filter(|_| with_value),
            headers: Some(Box::new(headers)),
            last_resort: !with_value,
        });
        outputs.counts.dead_letter(&reason.code);
    }
}
