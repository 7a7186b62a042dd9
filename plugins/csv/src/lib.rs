//! The stock parser `csv`: one line of CSV a record (RFC 4180), one cell a column.
//!
//! Allocates nothing for a good row. A row without quotes is read in one pass over its bytes; the
//! first quote hands the row to csv-core.
//!
//! - `field`: one column, and how a cell of it is read
//! - `quoted`: lines with quotes
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod field;
mod quoted;

use sandpiper_sdk::{Column, Parser, Record, Reject, Row, TextOr, check_columns, export_parser, leading, reject};
use serde::Deserialize;

use field::{Field, Missing};
use quoted::Quoted;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    columns: Vec<TextOr<Field>>,
    /// One ASCII character.
    #[serde(default = "comma")]
    delimiter: char,
    /// Cells that mean "missing".
    #[serde(default = "empty_cell")]
    missing: Vec<String>,
}

fn comma() -> char {
    ','
}

fn empty_cell() -> Vec<String> {
    vec![String::new()]
}

pub struct Csv {
    fields: Vec<Field>,
    delimiter: u8,
    missing: Missing,
    quoted: Quoted,
}

impl Parser for Csv {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        let delimiter = u8::try_from(config.delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n'))
            .ok_or("`delimiter` must be one ASCII character other than a quote or a line break")?;
        let fields: Vec<Field> = config.columns.into_iter().map(|column| column.0).collect();
        let columns: Vec<Column> = fields.iter().map(Field::column).collect();
        check_columns(&columns)?;
        Ok(Self {
            quoted: Quoted::new(delimiter, fields.len()),
            missing: Missing::new(config.missing),
            fields,
            delimiter,
        })
    }

    fn columns(&self) -> Vec<Column> {
        self.fields.iter().map(Field::column).collect()
    }

    fn parse(&mut self, record: &Record<'_>, cells: &mut [f32]) -> Result<Row, Reject> {
        let line = record.value();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(reject("empty", "the record holds no line"));
        }
        let mut rest = Some(line);
        for (found, (field, cell)) in self.fields.iter().zip(cells.iter_mut()).enumerate() {
            let Some(text) = rest else {
                return Err(self.column_count(found));
            };
            if text.first() == Some(&b'"') {
                return self.parse_quoted(line, cells);
            }
            let read = field.read_next(text, self.delimiter, &self.missing);
            let (value, after) = read.map_err(|refused| begun(line, refused))?;
            *cell = value;
            rest = after;
        }
        match rest {
            None => Ok(Row::Keep),
            Some(_) => Err(self.column_count(self.fields.len() + 1)),
        }
    }
}

impl Csv {
    fn parse_quoted(&mut self, line: &[u8], cells: &mut [f32]) -> Result<Row, Reject> {
        let found = self.quoted.read(line)?;
        if found != self.fields.len() {
            return Err(self.column_count(found));
        }
        for ((field, cell), text) in self.fields.iter().zip(cells).zip(self.quoted.cells()) {
            *cell = field.read(text, &self.missing)?;
        }
        Ok(Row::Keep)
    }

    /// `found` counts at most one surplus column.
    #[cold]
    fn column_count(&self, found: usize) -> Reject {
        let expected = self.fields.len();
        let message = match found > expected {
            true => format!("the line has more than {expected} columns"),
            false => format!("the line has {found} columns instead of {expected}"),
        };
        reject("column-count", message)
    }
}

/// Says what the line begins with, where that is why its cell could not be read.
#[cold]
fn begun(line: &[u8], refused: Reject) -> Reject {
    match leading(line) {
        Some(mark) => reject(refused.code(), format!("{mark}; {}", refused.message())),
        None => refused,
    }
}

export_parser!(Csv);

#[cfg(test)]
mod tests;
