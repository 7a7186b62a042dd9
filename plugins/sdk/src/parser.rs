//! Bytes to a matrix of named columns.

use serde::de::DeserializeOwned;

use crate::types::Rejection;
use crate::{Batch, Column, Record, Reject, config};

/// Turns a record's value into cells. A null value never gets here.
pub trait Parser: Sized + 'static {
    /// The plugin's configuration. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned;

    /// The error is a sentence for the person who wrote the configuration.
    fn open(config: Self::Config) -> Result<Self, String>;

    /// At least one column, names all different, the same at each call.
    fn columns(&self) -> Vec<Column>;

    /// Fills one row: a cell a column, all missing (NaN) when the call begins.
    fn parse(&mut self, record: &Record<'_>, cells: &mut [f32]) -> Result<Row, Reject>;

    /// Fills all rows. Override it where one pass over the batch is faster than one over each row.
    fn parse_batch(&mut self, batch: &Batch<'_>, answer: &mut Parsed) {
        let width = answer.columns.max(1);
        let rows = answer.values.chunks_exact_mut(width);
        for (record, cells) in batch.records().zip(rows) {
            match self.parse(&record, cells) {
                Ok(Row::Keep) => {}
                Ok(Row::Drop) => answer.dropped.push(record.row()),
                Err(reject) => answer.rejected.push(reject.of_row(record.row())),
            }
        }
    }
}

/// Whether a parsed row goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row {
    Keep,
    /// The row leaves the pipeline without a trace but a count.
    Drop,
}

/// The answer to one batch.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// How many cells a row has.
    pub columns: usize,
    /// rows × `columns`, row-major. The cells of a rejected or dropped row mean nothing.
    pub values: Vec<f32>,
    pub rejected: Vec<Rejection>,
    /// Ascending.
    pub dropped: Vec<u32>,
}

/// A parser with its configuration, driven batch by batch: in a component by the host, natively by
/// tests and benchmarks.
pub struct OpenParser<P> {
    parser: P,
    columns: Vec<Column>,
}

impl<P: Parser> OpenParser<P> {
    /// `config` is a JSON object as text.
    pub fn open(config: &str) -> Result<Self, String> {
        let parser = P::open(config::read(config)?)?;
        let columns = parser.columns();
        Ok(Self { parser, columns })
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// `payload[offsets[i]..offsets[i + 1]]` is row i's value.
    pub fn parse(&mut self, payload: &[u8], offsets: &[u32]) -> Result<Parsed, String> {
        let batch = Batch::new(payload, offsets)?;
        let columns = self.columns.len();
        let mut answer = Parsed {
            columns,
            values: vec![f32::NAN; batch.rows() * columns],
            rejected: Vec::new(),
            dropped: Vec::new(),
        };
        self.parser.parse_batch(&batch, &mut answer);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of a value; refuses `bad`, drops what is empty, leaves a `?` missing.
    struct Length;

    impl Parser for Length {
        type Config = serde_json::Map<String, serde_json::Value>;

        fn open(_: Self::Config) -> Result<Self, String> {
            Ok(Self)
        }

        fn columns(&self) -> Vec<Column> {
            vec![Column::number("length")]
        }

        fn parse(&mut self, record: &Record<'_>, cells: &mut [f32]) -> Result<Row, Reject> {
            match record.value() {
                b"" => return Ok(Row::Drop),
                b"bad" => return Err(crate::reject("bad", "it says so")),
                b"?" => {}
                value => cells.fill(value.len() as f32),
            }
            Ok(Row::Keep)
        }
    }

    #[test]
    fn each_row_is_kept_dropped_or_rejected_on_its_own() {
        let mut parser = OpenParser::<Length>::open("{}").unwrap();
        let parsed = parser.parse(b"abad?", &[0, 1, 1, 4, 5]).unwrap();
        assert_eq!(parsed.values.first(), Some(&1.0));
        assert!(parsed.values.last().unwrap().is_nan());
        assert_eq!(parsed.dropped, [1]);
        assert_eq!(parsed.rejected.len(), 1);
        assert_eq!((parsed.rejected[0].row, parsed.rejected[0].code.as_str()), (2, "bad"));
    }

    #[test]
    fn a_batch_whose_offsets_do_not_fit_is_an_error() {
        let mut parser = OpenParser::<Length>::open("{}").unwrap();
        assert!(parser.parse(b"abc", &[0, 4]).is_err());
    }
}
