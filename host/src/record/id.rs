//! What names a record: so that a label can find its prediction, and people a record.

use std::borrow::Cow;
use std::fmt;

use sandpiper_pointer::{Error, Value};

pub use sandpiper_pointer::Pointer;

use super::Batch;

/// What names a record, so that a label can find its prediction.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordId {
    /// The record's key, which must be UTF-8.
    Key,
    /// The value of the last header of that name.
    Header(String),
    /// A string or number at that JSON pointer (RFC 6901) in the value.
    Json(Pointer),
    /// `topic-partition-offset`.
    Position,
}

/// As it is written in a pipeline's file.
impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
            Self::Position => f.write_str("position"),
        }
    }
}

/// A record's id, or why it has none.
pub fn of<'a>(id: &RecordId, batch: &'a Batch, row: usize) -> Result<Cow<'a, str>, String> {
    let Some(facts) = batch.rows.get(row) else { return Err("the row does not exist".into()) };
    match id {
        RecordId::Key => match batch.rows.key(facts) {
            Some(key) => text(key, "the key"),
            None => Err("the key is null".into()),
        },
        RecordId::Header(name) => {
            let headers = facts.headers.iter().flat_map(|headers| headers.iter());
            match headers.rev().find(|(header, _)| header == name) {
                Some((_, Some(value))) => text(value, &format!("header {name}")),
                Some((_, None)) => Err(format!("header {name} is null")),
                None => Err(format!("there is no header {name}")),
            }
        }
        RecordId::Json(pointer) => pointed(pointer, batch.bytes(row).unwrap_or_default()).map(Cow::Owned),
        RecordId::Position => {
            let origin = facts.origin;
            Ok(Cow::Owned(format!("{}-{}-{}", batch.rows.topic(origin), origin.partition, origin.offset)))
        }
    }
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<Cow<'a, str>, String> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| format!("{what} is not UTF-8: {error}"))
}

/// The string at a JSON pointer, or the number in its own characters: `1.10` and `1.1` are two names.
pub fn pointed(pointer: &Pointer, value: &[u8]) -> Result<String, String> {
    let document =
        std::str::from_utf8(value).map_err(|error| format!("the value is not JSON: it is not UTF-8: {error}"))?;
    let found = pointer.value(document).map_err(|error| match error {
        Error::Document(error) => format!("the value is not JSON: {error}"),
        Error::Text(error) => format!("what stands at \"{pointer}\" is no text: {error}"),
    })?;
    match found {
        Some(Value::Text(text)) => Ok(text.into_owned()),
        Some(Value::Number(text)) => Ok(text.to_owned()),
        Some(_) => Err(format!("what stands at \"{pointer}\" is neither a string nor a number")),
        None => Err(format!("nothing stands at \"{pointer}\"")),
    }
}
