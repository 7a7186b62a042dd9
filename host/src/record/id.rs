//! What names a record: so that a label can find its prediction, and people a record.

use std::borrow::Cow;

use super::Batch;

/// What names a record, so that a label can find its prediction.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordId {
    /// The record's key, which must be UTF-8.
    Key,
    /// The value of the last header of that name.
    Header(String),
    /// A string or number at that JSON pointer (RFC 6901) in the value.
    Json(String),
    /// `topic-partition-offset`.
    Position,
}

/// A record's id, or why it has none.
pub fn of<'a>(id: &RecordId, batch: &'a Batch, row: usize) -> Result<Cow<'a, str>, String> {
    let Some(facts) = batch.rows.get(row) else { return Err("the row does not exist".into()) };
    match id {
        RecordId::Key => match batch.rows.key(facts) {
            Some(key) => text(key, "the key"),
            None => Err("the key is null, and [input] id = \"key\"".into()),
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

/// The string or number at a JSON pointer.
pub fn pointed(pointer: &str, value: &[u8]) -> Result<String, String> {
    let json: serde_json::Value =
        serde_json::from_slice(value).map_err(|error| format!("the value is not JSON: {error}"))?;
    match json.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(serde_json::Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("what stands at {pointer:?} is neither a string nor a number")),
        None => Err(format!("nothing stands at {pointer:?}")),
    }
}
