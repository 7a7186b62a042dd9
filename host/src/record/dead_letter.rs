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
    /// The record's place stands for a key that is null or left out, and a header says which.
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
    /// for them. `place` is what stands for the key.
    fn fit(&mut self, fits: usize, fixed: usize, place: Option<&str>, add: &mut impl FnMut(&str, String)) -> bool {
        let place = place.map_or(0, str::len);
        let mut size = fixed + self.sizes().iter().sum::<usize>() + if self.key.is_none() { place } else { 0 };
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
                size += place;
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
        let origin = facts.origin;
        // For whatever key would be null in the end: one that was, and one that is left out.
        let place = form.keyed.then(|| format!("{}/{}@{}", batch.rows.topic(origin), origin.partition, origin.offset));
        if place.is_some() && parts.key.is_none() {
            said.push((format!("{PREFIX}key-null"), Some(b"true".to_vec())));
        }
        if let Some(fits) = form.fits {
            let fixed = OVERHEAD + said.iter().map(|(name, value)| header_size(name, value.as_deref())).sum::<usize>();
            let mut add = |name: &str, value: String| said.push((format!("{PREFIX}{name}"), Some(value.into_bytes())));
            last_resort = parts.fit(fits, fixed, place.as_deref(), &mut add);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Origin, TopicIndex, Topics};

    /// The letter of a record with that key and value, and its headers by name.
    fn written(key: Option<&[u8]>, value: Option<&[u8]>, form: Form) -> (Outputs, Vec<String>) {
        let mut builder = BatchBuilder::new(Topics::new(["in"]));
        builder.push(Origin { topic: TopicIndex::FIRST, partition: 2, offset: 40 }, Some(7), key, value, None);
        let mut outputs = Outputs::default();
        let reason = Reason::of_host("parse", "null-value", "it has none");
        let letter = DeadLetter { reason: &reason, id: None, revision: None, form, time: 99 };
        let writer = DeadLetterWriter { pipeline: "iris".into(), instance: "here".into() };
        writer.write(&mut outputs, &builder.finish(), 0, &letter);
        let headers = outputs.records[0].headers.as_deref().unwrap().iter();
        let names = headers.filter_map(|(name, _)| Some(name.strip_prefix(PREFIX)?.to_owned())).collect();
        (outputs, names)
    }

    fn key(outputs: &Outputs) -> Option<&[u8]> {
        outputs.records[0].key.map(|key| outputs.bytes(key))
    }

    #[test]
    fn a_letter_for_a_compacted_topic_has_a_key_whatever_is_left_out() {
        let large = vec![b'k'; 20_000];
        for (record, value, fits) in [
            (None, Some(b"v".as_slice()), None),
            (None, None, Some(1_000)),
            (Some(large.as_slice()), None, Some(1_000)),
            (Some(large.as_slice()), Some(large.as_slice()), Some(1_000)),
            (Some(b"k".as_slice()), Some(b"v".as_slice()), Some(0)),
        ] {
            let (outputs, names) = written(record, value, Form { fits, undated: false, keyed: true });
            assert_eq!(key(&outputs), Some(b"in/2@40".as_slice()), "{names:?}");
            let says = |name: &str| names.iter().any(|said| said == name);
            assert_eq!((says("key-null"), says("key-size")), (record.is_none(), record.is_some()), "{names:?}");
            assert!(fits != Some(1_000) || outputs.written_size(&outputs.records[0]) <= 1_000, "{names:?}");
        }
        let (outputs, _) = written(Some(b""), None, Form { fits: Some(0), undated: false, keyed: true });
        assert_eq!(key(&outputs), Some(b"".as_slice()), "an empty key is a key");
        let (outputs, _) = written(Some(&large), None, Form { fits: Some(1_000), ..Form::default() });
        assert_eq!(key(&outputs), None, "a topic that takes null keys is given nothing in its place");
    }

    #[test]
    fn a_place_that_stands_for_a_key_costs_nothing_else_unless_it_must() {
        let fits = |key: Option<&[u8]>, fits| {
            let (outputs, _) = written(key, Some(&[b'v'; 500]), Form { fits: Some(fits), undated: false, keyed: true });
            (outputs.records[0].value.is_some(), outputs.written_size(&outputs.records[0]))
        };
        for key in [None, Some(b"seven b".as_slice())] {
            let (_, whole) = fits(key, 10_000);
            assert_eq!(fits(key, whole), (true, whole));
            assert!(!fits(key, whole - 1).0);
        }
    }
}
