//! A Kafka record as tests write and compare it: bytes kept exactly, null is not empty.

use anyhow::{Context, Result};
use std::fmt;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub content: Content,
    /// Written: `None` lets the producer choose by murmur2 of the key. Read: always there.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch. Written: `None` is now.
    pub timestamp: Option<i64>,
    /// Set when read.
    pub offset: i64,
}

/// What a dead letter repeats byte for byte.
#[derive(Clone, Default, PartialEq)]
pub struct Content {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

pub type Header = (String, Option<Vec<u8>>);

/// Bytes as text, for messages; null is no text.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or("null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
        };
        write!(f, "{} = {}", shown(&self.key), shown(&self.value))?;
        self.headers.iter().try_for_each(|(name, value)| write!(f, "\n    {name}: {}", shown(value)))
    }
}

/// A record of null key and that value.
pub fn value(value: impl AsRef<[u8]>) -> Record {
    let mut record = tombstone();
    record.content.value = Some(value.as_ref().to_vec());
    record
}

/// A record of null key and null value.
pub fn tombstone() -> Record {
    Record::default()
}

impl Record {
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Record {
        self.content.key = Some(key.as_ref().to_vec());
        self
    }

    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Record {
        self.content.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    pub fn on(mut self, partition: i32) -> Record {
        self.partition = Some(partition);
        self
    }

    pub fn at(mut self, timestamp: i64) -> Record {
        self.timestamp = Some(timestamp);
        self
    }

    /// The value as text.
    pub fn text(&self) -> Result<&str> {
        let bytes = self.content.value.as_deref().context("the value is null")?;
        std::str::from_utf8(bytes).context("the value is not UTF-8")
    }

    /// The value as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let text = self.text()?;
        serde_json::from_str(text).with_context(|| format!("the value is not JSON: {text}"))
    }

    /// The last header of that name, as text.
    pub fn header_text(&self, name: &str) -> Result<&str> {
        let header = self.content.headers.iter().rev().find(|(each, _)| each == name);
        let (_, value) = header.with_context(|| format!("no header {name} in {:?}", self.content))?;
        Ok(std::str::from_utf8(value.as_deref().with_context(|| format!("header {name} is null"))?)?)
    }
}

/// What our headers on a dead letter begin with.
pub const ERRORS: &str = "__sandpiper.errors.";

impl Record {
    /// A dead letter without what we added: the record that it was.
    pub fn original(&self) -> Content {
        let mut content = self.content.clone();
        content.headers.retain(|(name, _)| !name.starts_with(ERRORS));
        content
    }

    /// One of our headers on a dead letter.
    pub fn error(&self, name: &str) -> Result<&str> {
        self.header_text(&format!("{ERRORS}{name}"))
    }

    /// The input partition and offset that a dead letter came from.
    pub fn dead_letter_origin(&self) -> Result<(i32, i64)> {
        Ok((self.error("partition")?.parse()?, self.error("offset")?.parse()?))
    }
}

/// The partition and offset in `topic/3@1842`.
pub fn origin(text: &str) -> Result<(i32, i64)> {
    let split = || {
        let (place, offset) = text.rsplit_once('@')?;
        let (_, partition) = place.rsplit_once('/')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    split().with_context(|| format!("{text:?} is not topic/partition@offset"))
}
