//! Records to records.

use serde::de::DeserializeOwned;

use crate::types::Rejection;
use crate::{Batch, Record, Reject, config};

/// Turns each record into none, one or many, each to a named output.
pub trait Transform: Sized + 'static {
    /// The plugin's configuration. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned;

    fn open(config: Self::Config) -> Result<Self, String>;

    /// At least one name, all different, the same at each call. The first is where a record goes
    /// that nobody routes.
    fn outputs(&self) -> Vec<String>;

    /// Emits what comes of one record; a record that nothing comes of is dropped. What was emitted
    /// before a rejection is taken back.
    fn transform(&mut self, record: &Record<'_>, out: &mut Emitter) -> Result<(), Reject>;
}

/// Takes what a record turns into.
#[derive(Debug, Default)]
pub struct Emitter {
    /// The row in hand.
    row: u32,
    /// The values of the emissions, end to end.
    payload: Vec<u8>,
    emitted: Vec<Emission>,
}

impl Emitter {
    /// Sends `value` to the output of that index in [`Transform::outputs`]. The record keeps its
    /// key, headers, timestamp and partition unless the [`Emission`] is told otherwise.
    pub fn emit(&mut self, output: usize, value: &[u8]) -> &mut Emission {
        self.payload.extend_from_slice(value);
        self.push(output, false)
    }

    /// Sends a null value: a tombstone.
    pub fn emit_null(&mut self, output: usize) -> &mut Emission {
        self.push(output, true)
    }

    fn push(&mut self, output: usize, tombstone: bool) -> &mut Emission {
        let emission = Emission {
            row: self.row,
            output: output as u32,
            key: Key::Input,
            headers: Vec::new(),
            tombstone,
            end: self.payload.len() as u32,
        };
        self.emitted.push_mut(emission)
    }

    fn begin(&mut self, row: u32) {
        self.row = row;
    }

    /// Forgets what the row in hand emitted.
    fn take_back(&mut self) {
        while self.emitted.pop_if(|emission| emission.row == self.row).is_some() {}
        let end = self.emitted.last().map_or(0, |emission| emission.end);
        self.payload.truncate(end as usize);
    }
}

/// One record that goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    pub(crate) row: u32,
    pub(crate) output: u32,
    pub(crate) key: Key,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) tombstone: bool,
    /// Where its value ends in the payload; it begins where the one before it ends.
    pub(crate) end: u32,
}

/// The key of an emission: that of the row, or another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Input,
    Null,
    Bytes(Vec<u8>),
}

impl Emission {
    /// Replaces the record's key; None is a null key.
    pub fn key(&mut self, key: Option<&[u8]>) -> &mut Self {
        self.key = key.map_or(Key::Null, |key| Key::Bytes(key.to_vec()));
        self
    }

    /// Adds a header behind those of the record; None is a null value.
    pub fn header(&mut self, name: impl Into<String>, value: Option<&[u8]>) -> &mut Self {
        self.headers.push((name.into(), value.map(<[u8]>::to_vec)));
        self
    }

    /// The index of its output in [`Transform::outputs`].
    pub fn output(&self) -> usize {
        self.output as usize
    }

    /// The number of the row that it comes from.
    pub fn source_row(&self) -> u32 {
        self.row
    }

    /// Whether its value is null: a tombstone.
    pub fn is_null(&self) -> bool {
        self.tombstone
    }
}

/// The answer to one batch.
#[derive(Debug, Default)]
pub struct Transformed {
    /// The values of the emissions, end to end.
    pub payload: Vec<u8>,
    /// One more entry than `emitted` has; emission i's value is `payload[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<u32>,
    /// Ascending by source row.
    pub emitted: Vec<Emission>,
    pub rejected: Vec<Rejection>,
    /// Ascending.
    pub dropped: Vec<u32>,
}

/// A transform with its configuration, driven batch by batch: in a component by the host, natively by tests.
pub struct OpenTransform<T> {
    transform: T,
    outputs: Vec<String>,
}

impl<T: Transform> OpenTransform<T> {
    /// `config` is a JSON object as text.
    pub fn open(config: &str) -> Result<Self, String> {
        let transform = T::open(config::read(config)?)?;
        let outputs = transform.outputs();
        Ok(Self { transform, outputs })
    }

    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// `payload[offsets[i]..offsets[i + 1]]` is row i's value.
    pub fn transform(&mut self, payload: &[u8], offsets: &[u32]) -> Result<Transformed, String> {
        let batch = Batch::new(payload, offsets)?;
        let mut out =
            Emitter { row: 0, payload: Vec::with_capacity(payload.len()), emitted: Vec::with_capacity(batch.rows()) };
        let mut rejected = Vec::new();
        let mut dropped = Vec::new();
        for record in batch.records() {
            let row = record.row();
            out.begin(row);
            if let Err(reject) = self.transform.transform(&record, &mut out) {
                out.take_back();
                rejected.push(reject.of_row(row));
            } else if out.emitted.last().is_none_or(|emission| emission.row != row) {
                dropped.push(row);
            }
        }
        let ends = out.emitted.iter().map(|emission| emission.end);
        Ok(Transformed {
            offsets: std::iter::once(0).chain(ends).collect(),
            payload: out.payload,
            emitted: out.emitted,
            rejected,
            dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Emits each byte of the value; refuses at an `!`.
    struct Split;

    impl Transform for Split {
        type Config = serde_json::Map<String, serde_json::Value>;

        fn open(_: Self::Config) -> Result<Self, String> {
            Ok(Self)
        }

        fn outputs(&self) -> Vec<String> {
            vec!["bytes".to_owned()]
        }

        fn transform(&mut self, record: &Record<'_>, out: &mut Emitter) -> Result<(), Reject> {
            for byte in record.value() {
                if *byte == b'!' {
                    return Err(crate::reject("shouting", "an exclamation mark"));
                }
                out.emit(0, &[*byte]).key(None).header("h", Some(b"v"));
            }
            Ok(())
        }
    }

    #[test]
    fn a_record_becomes_none_one_or_many() {
        let mut split = OpenTransform::<Split>::open("{}").unwrap();
        let answer = split.transform(b"abc", &[0, 2, 2, 3]).unwrap();
        assert_eq!(answer.payload, b"abc");
        assert_eq!(answer.offsets, [0, 1, 2, 3]);
        let rows: Vec<u32> = answer.emitted.iter().map(Emission::source_row).collect();
        assert_eq!(rows, [0, 0, 2]);
        assert_eq!(answer.dropped, [1]);
        assert_eq!(answer.emitted[0].key, Key::Null);
    }

    #[test]
    fn a_rejected_row_emits_nothing() {
        let mut split = OpenTransform::<Split>::open("{}").unwrap();
        let answer = split.transform(b"axy!b", &[0, 1, 4, 5]).unwrap();
        assert_eq!(answer.payload, b"ab");
        assert_eq!(answer.offsets, [0, 1, 2]);
        assert_eq!(answer.rejected[0].row, 1);
        assert!(answer.dropped.is_empty());
    }
}
