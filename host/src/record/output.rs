//! What goes out: records laid out flat, each tied to the input row that it came from.

use std::collections::BTreeMap;

use crate::record::{Comparison, Headers, Origin, Route};
use sandpiper_sandbox::batch::size_of_headers;

/// A batch's header and a record's own fields, at most.
pub(super) const OVERHEAD: usize = 61 + 25;

/// What a header takes in a record, at most.
pub(super) fn header_size(name: &str, value: Option<&[u8]>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + 10
}

/// Bytes in an `Outputs` buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    start: usize,
    end: usize,
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
    /// Whether it is a letter that leaves out all that can be left out: nothing smaller can be written.
    pub last_resort: bool,
}

/// Reasons that are counted by their own code. A plugin chooses its codes, and each is a metric's label.
const CODES: usize = 200;
/// Where the others are counted.
const OTHER_CODES: &str = "other";

/// What became of records, by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Input records whose outcome is fixed: emitted + dropped + dead-lettered.
    pub records: u64,
    /// Input records that were emitted at least once.
    pub emitted: u64,
    pub dropped: u64,
    /// Input records by the reason's code; beyond 200 codes they are `other`.
    pub dead_letters: BTreeMap<String, u64>,
    /// Input records that a plugin failed on, whatever became of them.
    pub failed: u64,
    /// Of the champion and its challenger, where there is one.
    pub comparison: Option<Box<Comparison>>,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.emitted += other.emitted;
        self.dropped += other.dropped;
        self.failed += other.failed;
        if let Some(comparison) = &other.comparison {
            self.comparison.get_or_insert_default().add(comparison);
        }
        for (code, count) in &other.dead_letters {
            self.count_code(code, *count);
        }
    }

    pub fn dead_letter(&mut self, code: &str) {
        self.records += 1;
        self.count_code(code, 1);
    }

    fn count_code(&mut self, code: &str, more: u64) {
        if let Some(count) = self.dead_letters.get_mut(code) {
            *count += more;
            return;
        }
        let code = if self.dead_letters.len() < CODES { code } else { OTHER_CODES };
        *self.dead_letters.entry(code.to_owned()).or_default() += more;
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
    /// The batch comes to more than it may. Nothing of it stands here, and it is to be processed in halves; a batch of one
    /// record never sets this.
    pub overflowed: bool,
}

impl Outputs {
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.records.clear();
        self.counts = Counts::default();
        self.kept = 0;
        self.halt = None;
        self.overflowed = false;
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        self.buffer.get(span.start..span.end).unwrap_or_default()
    }

    /// Bytes of keys and values, and what headers take in memory.
    pub fn size(&self) -> usize {
        let headers = self.records.iter().filter_map(|output| output.headers.as_deref());
        self.buffer.len() + headers.map(size_of_headers).sum::<usize>()
    }

    /// Bytes of a batch that holds this record alone, at most.
    pub fn written_size(&self, output: &Output) -> usize {
        let span = |span: Option<Span>| span.map_or(0, |span| self.bytes(span).len());
        let headers = output.headers.iter().flat_map(|headers| headers.iter());
        let headers: usize = headers.map(|(name, value)| header_size(name, value.as_deref())).sum();
        OVERHEAD + span(output.key) + span(output.value) + headers
    }

    pub fn put(&mut self, bytes: &[u8]) -> Span {
        self.write(|buffer| buffer.extend_from_slice(bytes))
    }

    /// What `write` appends, as a span.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.buffer.len();
        write(&mut self.buffer);
        Span { start, end: self.buffer.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_a_row_makes_no_more_labels_than_there_may_be() {
        let (mut counts, mut sum) = (Counts::default(), Counts::default());
        for row in 0..1_000 {
            counts.dead_letter(&format!("code-{row}"));
        }
        assert_eq!((counts.dead_letters.len(), counts.dead_letters["other"], counts.records), (CODES + 1, 800, 1_000));
        for batch in 0..10 {
            let codes = (0..150).map(|row| (format!("code-{batch}-{row}"), 1)).collect();
            sum.add(&Counts { dead_letters: codes, ..Counts::default() });
        }
        assert_eq!((sum.dead_letters.len(), sum.dead_letters["other"]), (CODES + 1, 1_300));
    }
}
