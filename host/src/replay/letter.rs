//! A dead letter, told apart into the record as it was and what is said about it.

use crate::record::dead_letter::{PREFIX, own_headers};
use crate::record::{Headers, Revision};

/// The only header of the note that a letter was replayed, whose value is null; its own value is the letter's place, `3@1842`.
/// A letter has other headers beside whatever its record came with, so it is no note.
pub const REPLAYED: &str = "__sandpiper.replayed";

/// A record of a dead-letter topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Letter(Box<Letter>),
    /// The letter at that partition and offset was replayed.
    Replayed(Place),
    /// Written by another program, or by a version that this one does not understand: why.
    Foreign(String),
}

/// Partition and offset in the dead-letter topic.
pub type Place = (i32, i64);

#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub at: Place,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The record's own.
    pub headers: Headers,
    pub facts: Facts,
}

/// What the headers say: docs/operations.md.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Facts {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub pipeline: String,
    pub stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// `None` where no deployment wrote it, as a feedback loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    pub reason: String,
    pub message: String,
    pub log: String,
    pub attempts: u32,
    pub instance: String,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// Bytes of the value, where it was left out since the letter would have been too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// Bytes of the key, where it was left out too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_left_out: Option<u64>,
    /// Whether the record's headers were left out: there were too many, or the letter would have been too large.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub headers_left_out: bool,
}

impl Facts {
    /// Whether the letter carries the record as it was: only then can it be processed once more.
    pub fn is_whole(&self) -> bool {
        self.left_out.is_none() && self.key_left_out.is_none() && !self.headers_left_out
    }
}

impl Found {
    pub fn read(at: (i32, i64), key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) -> Self {
        if let ([(name, place)], None) = (headers.as_slice(), value)
            && name == REPLAYED
        {
            let place = place.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(place_of);
            return place.map_or_else(|| Self::Foreign(format!("its {REPLAYED} is no place")), Self::Replayed);
        }
        match facts(headers) {
            Ok(Read { facts, own, key_is_null }) => Self::Letter(Box::new(Letter {
                at,
                key: key.filter(|_| !key_is_null && facts.key_left_out.is_none()).map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                headers: own_headers(headers.get(..own).unwrap_or_default()),
                facts,
            })),
            Err(why) => Self::Foreign(why),
        }
    }
}

/// `3@1842`.
pub(super) fn place_of(text: &str) -> Option<(i32, i64)> {
    let (partition, offset) = text.split_once('@')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

struct Read {
    facts: Facts,
    /// How many headers are not ours.
    own: usize,
    /// The letter's key stands for none.
    key_is_null: bool,
}

/// What is ours. A record that was a dead letter before carries older ones in front.
fn facts(headers: &Headers) -> Result<Read, String> {
    let first = format!("{PREFIX}topic");
    let own =
        headers.iter().rposition(|(name, _)| *name == first).ok_or_else(|| format!("it has no header {first}"))?;
    let ours = headers.get(own..).unwrap_or_default();
    let text = |name: &str| {
        let found = ours.iter().find(|(header, _)| header.strip_prefix(PREFIX) == Some(name));
        found.and_then(|(_, value)| Some(String::from_utf8_lossy(value.as_deref()?).into_owned()))
    };
    let needed = |name: &str| text(name).ok_or_else(|| format!("it has no header {PREFIX}{name}"));
    fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
        text.parse().map_err(|_| format!("its header {PREFIX}{name} is {text:?} and no number"))
    }
    let numbered = |name: &str| text(name).map(|text| number(name, &text)).transpose();
    let facts = Facts {
        topic: needed("topic")?,
        partition: number("partition", &needed("partition")?)?,
        offset: number("offset", &needed("offset")?)?,
        timestamp: numbered("timestamp")?,
        id: text("id"),
        pipeline: needed("pipeline")?,
        stage: needed("stage")?,
        release: text("release"),
        revision: text("revision").map(|text| number("revision", &text)).transpose()?.and_then(Revision::new),
        reason: needed("reason")?,
        message: needed("message")?,
        log: text("log").unwrap_or_default(),
        attempts: number("attempts", &needed("attempts")?)?,
        instance: text("instance").unwrap_or_default(),
        time: number("time", &needed("time")?)?,
        left_out: text("value-size").map(|text| number("value-size", &text)).transpose()?,
        key_left_out: text("key-size").map(|text| number("key-size", &text)).transpose()?,
        headers_left_out: text("headers-size").is_some() || text("headers-unread").is_some(),
    };
    Ok(Read { facts, own, key_is_null: text("key-null").is_some() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::dead_letter::{Blame, DeadLetter, DeadLetterWriter, Form, Reason};
    use crate::record::output::Outputs;
    use crate::record::{BatchBuilder, Origin, TopicIndex, Topics};

    /// The headers of a letter as the pipeline writes it, for a record with those headers of its own.
    pub fn written(own: Headers, stage: &str) -> Headers {
        written_as(own, stage, Form::default())
    }

    fn written_as(own: Headers, stage: &str, form: Form) -> Headers {
        let mut builder = BatchBuilder::new(Topics::new(["in"]));
        let headers = if own.is_empty() { None } else { Some(Box::new(own)) };
        builder.push(
            Origin { topic: TopicIndex::FIRST, partition: 2, offset: 40 },
            Some(7),
            Some(b"k"),
            Some(b"value"),
            headers,
        );
        let mut outputs = Outputs::default();
        let reason = Reason {
            blame: Blame::Rejected,
            code: "bad-number".into(),
            message: "x is no number".into(),
            log: "a line".into(),
            stage: stage.into(),
            release: Some("csv@0c1d".into()),
        };
        let writer = DeadLetterWriter { pipeline: "iris".into(), instance: "here".into() };
        let (id, revision) = (Some("k"), Revision::new(17));
        let letter = DeadLetter { reason: &reason, id, revision, form, time: 99 };
        writer.write(&mut outputs, &builder.finish(), 0, &letter);
        *outputs.records.remove(0).headers.unwrap()
    }

    #[test]
    fn a_letter_reads_back_as_it_was_written() {
        let own = vec![("h".to_owned(), None), ("h".into(), Some(b"1".to_vec()))];
        let headers = written(own.clone(), "parse");
        let Found::Letter(letter) = Found::read((3, 9), Some(b"k"), Some(b"value"), &headers) else { panic!() };
        assert_eq!((letter.at, &letter.headers, letter.value.as_deref()), ((3, 9), &own, Some(b"value".as_slice())));
        let facts = &letter.facts;
        assert_eq!((facts.topic.as_str(), facts.partition, facts.offset, facts.timestamp), ("in", 2, 40, Some(7)));
        assert_eq!(
            (facts.stage.as_str(), facts.reason.as_str(), facts.revision),
            ("parse", "bad-number", Revision::new(17))
        );
        assert_eq!((facts.attempts, facts.time, facts.left_out, facts.log.as_str()), (1, 99, None, "a line"));
    }

    #[test]
    fn the_last_letter_counts_and_an_older_ones_headers_are_the_records_own() {
        let older = written(Vec::new(), "classify");
        let Found::Letter(letter) = Found::read((0, 0), None, None, &written(older.clone(), "parse")) else { panic!() };
        assert_eq!((letter.facts.stage.as_str(), &letter.headers), ("parse", &older));
    }

    #[test]
    fn a_value_that_was_left_out_is_known() {
        let headers = written_as(vec![("h".into(), Some(b"1".to_vec()))], "parse", Form::LEAST);
        let Found::Letter(letter) = Found::read((0, 0), Some(b"in/2@40"), None, &headers) else { panic!() };
        assert_eq!(letter.key, None, "what stands for a key is none");
        let facts = &letter.facts;
        assert_eq!((facts.left_out, facts.key_left_out, facts.headers_left_out), (Some(5), Some(1), true));
        assert!(!facts.is_whole() && letter.headers.is_empty(), "{letter:?}");
    }

    #[test]
    fn no_header_of_a_record_makes_its_letter_a_note_or_speaks_for_us() {
        for (name, value) in [
            (REPLAYED, "3@1842"),
            ("__sandpiper.errors.topic", "other"),
            ("__sandpiper.errors.reason", "none"),
            ("__sandpiper.own.x", "1"),
            ("__sandpiper.own.__sandpiper.replayed", "3@1842"),
            ("__sandpiper.", ""),
        ] {
            let own = vec![(name.to_owned(), Some(value.as_bytes().to_vec())), ("plain".into(), None)];
            let headers = written(own.clone(), "parse");
            assert!(
                headers.iter().take(1).all(|(written, _)| written.starts_with("__sandpiper.own.__")),
                "{headers:?}"
            );
            // A record with a null value, too.
            let Found::Letter(letter) = Found::read((0, 0), None, None, &headers) else { panic!("{name}") };
            assert_eq!(
                (letter.headers, letter.facts.topic, letter.facts.reason),
                (own, "in".into(), "bad-number".into())
            );
        }
    }

    #[test]
    fn a_letter_of_an_older_version_with_a_header_that_reads_as_a_note_is_a_letter() {
        let mut headers = vec![(REPLAYED.to_owned(), Some(b"3@1842".to_vec()))];
        headers.extend(written(Vec::new(), "parse"));
        assert!(matches!(Found::read((0, 0), None, None, &headers), Found::Letter(_)));
    }

    #[test]
    fn a_letter_without_a_revision_reads_as_one_without_and_so_does_one_of_an_older_version() {
        for value in [None, Some("0")] {
            let mut headers = written(Vec::new(), "parse");
            headers.retain(|(name, _)| !name.ends_with(".revision"));
            headers.extend(value.map(|value| (format!("{PREFIX}revision"), Some(value.as_bytes().to_vec()))));
            let Found::Letter(letter) = Found::read((0, 0), None, None, &headers) else { panic!() };
            assert_eq!(letter.facts.revision, None);
        }
    }

    #[test]
    fn a_note_of_a_replay_names_its_letter() {
        let note = |place: &str| vec![(REPLAYED.to_owned(), Some(place.as_bytes().to_vec()))];
        assert_eq!(Found::read((0, 0), None, None, &note("3@1842")), Found::Replayed((3, 1842)));
        assert!(matches!(Found::read((0, 0), None, None, &note("there")), Found::Foreign(_)));
    }

    #[test]
    fn what_somebody_else_wrote_says_what_it_lacks() {
        let Found::Foreign(why) = Found::read((0, 0), None, Some(b"x"), &Vec::new()) else { panic!() };
        assert_eq!(why, "it has no header __sandpiper.errors.topic");
        let mut headers = written(Vec::new(), "parse");
        headers.retain(|(name, _)| !name.ends_with(".attempts"));
        let Found::Foreign(why) = Found::read((0, 0), None, Some(b"x"), &headers) else { panic!() };
        assert_eq!(why, "it has no header __sandpiper.errors.attempts");
    }
}
