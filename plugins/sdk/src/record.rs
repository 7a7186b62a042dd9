//! One record of the batch in hand, and the batch.

use crate::context;

/// The values of one call, checked against the contract once so that rows need no checks.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    payload: &'a [u8],
    offsets: &'a [u32],
}

impl<'a> Batch<'a> {
    /// `offsets` must start at 0, never decrease and end at the payload's length.
    pub fn new(payload: &'a [u8], offsets: &'a [u32]) -> Result<Self, String> {
        let starts_at_zero = offsets.first() == Some(&0);
        let ends_at_the_end = offsets.last().is_some_and(|end| *end as usize == payload.len());
        if starts_at_zero && ends_at_the_end && offsets.is_sorted() {
            Ok(Self { payload, offsets })
        } else {
            Err("the batch's offsets do not fit its payload".to_owned())
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The rows in their order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'a>> + use<'a> {
        let payload = self.payload;
        self.offsets.array_windows::<2>().enumerate().map(move |(row, [start, end])| Record {
            row: row as u32,
            value: payload.get(*start as usize..*end as usize).unwrap_or_default(),
        })
    }
}

/// Where a record was consumed.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A record's value at hand; everything else is asked of the host only when asked for here.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    row: u32,
    value: &'a [u8],
}

impl<'a> Record<'a> {
    /// The row's number in the batch.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// The value's bytes; empty for a null value too, see [`Record::is_null`].
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The key; none when it is null.
    pub fn key(&self) -> Option<Vec<u8>> {
        context::key(self.row)
    }

    /// The value of the last header of that name; none when there is none or it is null.
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        context::header(self.row, name)
    }

    /// Milliseconds since the Unix epoch; none when the record carries no timestamp.
    pub fn timestamp(&self) -> Option<i64> {
        context::timestamp(self.row)
    }

    /// Where the record was consumed.
    pub fn origin(&self) -> Position {
        context::origin(self.row)
    }

    /// Whether the value is null (a tombstone) rather than empty.
    pub fn is_null(&self) -> bool {
        self.value.is_empty() && context::is_null(self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_its_records_in_order() {
        let batch = Batch::new(b"abc", &[0, 1, 1, 3]).unwrap();
        let values: Vec<&[u8]> = batch.records().map(|record| record.value()).collect();
        assert_eq!(values, [&b"a"[..], b"", b"bc"]);
        assert_eq!(batch.rows(), 3);
    }

    #[test]
    fn an_empty_batch_has_no_rows() {
        assert_eq!(Batch::new(b"", &[0]).unwrap().rows(), 0);
    }

    #[test]
    fn offsets_that_do_not_fit_the_payload_are_refused() {
        for offsets in [&[][..], &[1, 3], &[0, 2], &[0, 4], &[0, 2, 1, 3]] {
            assert!(Batch::new(b"abc", offsets).is_err(), "{offsets:?}");
        }
    }
}
