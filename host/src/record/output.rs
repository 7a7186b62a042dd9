//! What goes out: records laid out flat, each tied to the input row that it came from.

use std::collections::BTreeMap;

use crate::record::{Headers, Origin, Route};

/// Bytes in an `Outputs` buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// One record to be written.
#[derive(Clone, Debug)]
pub struct Output {
    /// The record that it came from; its partition number is the input's.
    pub origin: Origin,
    pub route: Route,
    /// `None` is a null key.
    pub key: Option<Span>,
    /// `None` is a null value.
    pub value: Option<Span>,
    /// Milliseconds since the Unix epoch; `None` is the time of writing.
    pub timestamp: Option<i64>,
    pub headers: Option<Box<Headers>>,
    /// Whether this is the last resort: when it too is refused, nothing is left to be tried.
    pub last_resort: bool,
}

/// What became of records, by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Input records whose outcome is fixed: emitted + dropped + dead-lettered.
    pub records: u64,
    /// Input records that were emitted at least once.
    pub emitted: u64,
    pub dropped: u64,
    /// Input records by the reason's code.
    pub dead_letters: BTreeMap<String, u64>,
    /// Input records that a plugin failed on, whatever became of them.
    pub failed: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.emitted += other.emitted;
        self.dropped += other.dropped;
        self.failed += other.failed;
        for (code, count) in &other.dead_letters {
            *self.dead_letters.entry(code.clone()).or_default() += count;
        }
    }

    pub fn dead_letter(&mut self, code: &str) {
        self.records += 1;
        match self.dead_letters.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.dead_letters.insert(code.to_owned(), 1)),
        }
    }
}

/// Why a batch must not be committed, and the pipeline not go on as it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Halt {
    /// The release failed, not its records.
    #[error("{0}")]
    Release(String),
    /// A record that `[errors]` says to stop at.
    #[error("{0}")]
    Record(String),
}

/// The outputs of one batch, in the order of its rows.
#[derive(Default)]
pub struct Outputs {
    buffer: Vec<u8>,
    pub records: Vec<Output>,
    pub counts: Counts,
    /// Bytes that the process keeps of this batch in memory until the commit: they count in the transaction.
    pub kept: usize,
    /// When set, nothing of the transaction may be committed.
    pub halt: Option<Halt>,
}

impl Outputs {
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.records.clear();
        self.counts = Counts::default();
        self.kept = 0;
        self.halt = None;
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        self.buffer.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Bytes of keys and values.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    pub fn put(&mut self, bytes: &[u8]) -> Span {
        self.write(|buffer| buffer.extend_from_slice(bytes))
    }

    /// What `write` appends, as a span.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.buffer.len() as u32;
        write(&mut self.buffer);
        Span { start, end: self.buffer.len() as u32 }
    }
}
