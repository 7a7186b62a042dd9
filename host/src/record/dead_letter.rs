//! A record that a stage could not take, with everything that is needed to understand and replay it.
//!
//! The original's key, value and headers stand byte for byte; what we say about it stands in headers behind them. What its
//! topic does not take is left out, and nothing else, so that a letter can always be delivered.

use std::borrow::Cow;

use crate::record::output::{OVERHEAD, Output, Outputs, header_size};
use crate::record::{Batch, Excess, Headers, Revision, Route, Row};
use sandpiper_sandbox::Digest;

/// What all our headers' names start with.
pub const PREFIX: &str = "__sandpiper.errors.";
/// What the names of every kind of header of ours start with.
const OURS: &str = "__sandpiper.";
/// Stands before the name of a record's own header that starts as ours do: nothing that a producer writes can be taken for
/// ours.
const OWN: &str = "__sandpiper.own.";

/// Characters of an id: one from inside a value may be of any length.
const ID: usize = 1_024;
/// Characters of a message, and of a plugin's log lines.
const TEXT: usize = 8_192;
/// What size and digest take that stand for a part, at most.
const STAND_IN: usize = 256;

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
    pub form: Form,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
}

/// What a letter leaves out, since it was refused with it before. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Form {
    /// Bytes that it may have, where it was refused for its size: size and digest stand for value, headers or key, the largest
    /// first, until it fits.
    pub fits: Option<usize>,
    /// It has the time of writing; the record's own stands in a header as ever.
    pub undated: bool,
    /// The record's place stands for a null key, and a header says so.
    pub keyed: bool,
}

impl Form {
    /// The least that can be written.
    pub const LEAST: Self = Self { fits: Some(0), undated: true, keyed: true };
}

/// The name under which a record's own header stands in a letter.
fn own_name(name: &str) -> Cow<'_, str> {
    if name.starts_with(OURS) { Cow::Owned(format!("{OWN}{name}")) } else { Cow::Borrowed(name) }
}

/// The record's own headers, of those that stand in its letter before ours.
pub fn own_headers(written: &[(String, Option<Vec<u8>>)]) -> Headers {
    let name = |name: &str| name.strip_prefix(OWN).unwrap_or(name).to_owned();
    written.iter().map(|(written, value)| (name(written), value.clone())).collect()
}

/// A record's bytes, as far as its letter carries them.
struct Parts<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [(String, Option<Vec<u8>>)],
}

impl<'a> Parts<'a> {
    fn of(batch: &'a Batch, row: usize, facts: &'a Row) -> Self {
        let headers = facts.headers.as_deref().map(Vec::as_slice).unwrap_or_default();
        Self { key: batch.rows.key(facts), value: batch.value(row), headers }
    }

    /// Bytes of value, headers and key.
    fn sizes(&self) -> [usize; 3] {
        let headers = self.headers.iter().map(|(name, value)| header_size(&own_name(name), value.as_deref())).sum();
        [self.value.map_or(0, <[u8]>::len), headers, self.key.map_or(0, <[u8]>::len)]
    }

    /// Leaves out the largest parts until `fixed` bytes and the rest fit; answers whether nothing is left, and adds what stands
    /// for them.
    fn fit(&mut self, fits: usize, fixed: usize, add: &mut impl FnMut(&str, String)) -> bool {
        let mut size = fixed + self.sizes().iter().sum::<usize>();
        while size > fits {
            let sizes = self.sizes();
            let Some(largest) = sizes.iter().copied().max().filter(|largest| *largest > 0) else { return true };
            size = size - largest + STAND_IN;
            if sizes[0] == largest {
                stand_in("value", self.value.take().unwrap_or_default(), add);
            } else if sizes[1] == largest {
                let bytes: Vec<u8> = (self.headers.iter())
                    .flat_map(|(name, value)| name.bytes().chain(value.iter().flatten().copied()))
                    .collect();
                add("headers-count", self.headers.len().to_string());
                stand_in("headers", &bytes, add);
                self.headers = &[];
            } else {
                stand_in("key", self.key.take().unwrap_or_default(), add);
            }
        }
        self.sizes() == [0; 3]
    }
}

fn stand_in(part: &str, bytes: &[u8], add: &mut impl FnMut(&str, String)) {
    add(&format!("{part}-size"), bytes.len().to_string());
    add(&format!("{part}-digest"), Digest::of(bytes).to_string());
}

fn clipped(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

impl DeadLetterWriter {
    /// Adds the dead letter of one row.
    pub fn write(&self, outputs: &mut Outputs, batch: &Batch, row: usize, letter: &DeadLetter<'_>) {
        let Some(facts) = batch.rows.get(row) else { return };
        let form = letter.form;
        let mut said = self.said(batch, facts, letter);
        let mut parts = Parts::of(batch, row, facts);
        let mut last_resort = false;
        let (origin, mut place) = (facts.origin, None);
        let mut add = |name: &str, value: String| said.push((format!("{PREFIX}{name}"), Some(value.into_bytes())));
        if form.keyed && parts.key.is_none() {
            add("key-null", "true".into());
            place = Some(format!("{}/{}@{}", batch.rows.topic(origin), origin.partition, origin.offset));
        }
        if let Some(fits) = form.fits {
            let fixed = OVERHEAD + said.iter().map(|(name, value)| header_size(name, value.as_deref())).sum::<usize>();
            let mut add = |name: &str, value: String| said.push((format!("{PREFIX}{name}"), Some(value.into_bytes())));
            last_resort = parts.fit(fits, fixed, &mut add);
        }
        let own = parts.headers.iter().map(|(name, value)| (own_name(name).into_owned(), value.clone()));
        let headers: Headers = own.chain(said).collect();
        let key = parts.key.or(place.as_deref().map(str::as_bytes)).map(|key| outputs.put(key));
        let value = parts.value.map(|value| outputs.put(value));
        outputs.records.push(Output {
            origin,
            route: Route::DeadLetters,
            key,
            value,
            timestamp: facts.timestamp.filter(|_| !form.undated),
            headers: Some(Box::new(headers)),
            last_resort,
        });
        outputs.counts.dead_letter(&letter.reason.code);
    }

    /// Our headers.
    fn said(&self, batch: &Batch, facts: &Row, letter: &DeadLetter<'_>) -> Headers {
        let (origin, reason) = (facts.origin, letter.reason);
        let mut headers = Headers::new();
        let mut add = |name: &str, value: String| headers.push((format!("{PREFIX}{name}"), Some(value.into_bytes())));
        add("topic", batch.rows.topic(origin).to_owned());
        add("partition", origin.partition.to_string());
        add("offset", origin.offset.to_string());
        if let Some(timestamp) = facts.timestamp {
            add("timestamp", timestamp.to_string());
        }
        if let Some(id) = letter.id {
            add("id", clipped(id, ID));
        }
        add("pipeline", self.pipeline.clone());
        add("stage", reason.stage.clone());
        if let Some(release) = &reason.release {
            add("release", release.clone());
        }
        if let Some(revision) = letter.revision {
            add("revision", revision.to_string());
        }
        add("reason", clipped(&reason.code, ID));
        add("message", clipped(&reason.message, TEXT));
        if !reason.log.is_empty() {
            add("log", clipped(&reason.log, TEXT));
        }
        add("attempts", "1".into());
        add("instance", self.instance.clone());
        add("time", letter.time.to_string());
        match facts.excess {
            Some(Excess::Headers { count, bytes }) => {
                add("headers-count", count.to_string());
                add("headers-size", bytes.to_string());
            }
            Some(Excess::Unread) => add("headers-unread", "true".into()),
            None => {}
        }
        headers
    }
}
