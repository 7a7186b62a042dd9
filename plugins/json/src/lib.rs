//! The stock parser `json`: one JSON document a record, one cell a JSON pointer (RFC 6901).
//!
//! Builds no tree of the document, and allocates nothing for a good row. What a pointer leads to, and which of equal keys
//! counts, is the crate `sandpiper-pointer`'s to say, as it is for the host's ids and labels.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod cells;
mod config;

use sandpiper_pointer::Pointers;
use sandpiper_sdk::{Column, Parser, Record, Reject, Row, check_columns, export_parser, leading, reject};

use config::{Columns, Config, Field};

pub struct Json {
    fields: Vec<Field>,
    /// Of the fields, by column.
    pointers: Pointers,
}

impl Parser for Json {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        let Columns(fields) = config.columns;
        let columns: Vec<Column> = fields.iter().map(Field::column).collect();
        check_columns(&columns)?;
        let mut pointers = Pointers::default();
        for (column, field) in fields.iter().enumerate() {
            pointers.insert(&field.pointer, column).map_err(|what| format!("column `{}`: {what}", field.name))?;
        }
        Ok(Self { fields, pointers })
    }

    fn columns(&self) -> Vec<Column> {
        self.fields.iter().map(Field::column).collect()
    }

    fn parse(&mut self, record: &Record<'_>, cells: &mut [f32]) -> Result<Row, Reject> {
        let text = str::from_utf8(record.value())
            .map_err(|error| broken("invalid-utf8", record, format!("the record is not UTF-8: {error}")))?;
        let problem = cells::fill(text, &self.pointers, &self.fields, cells)
            .or_else(|_| {
                cells.fill(f32::NAN);
                cells::fill_with_the_last(text, &self.pointers, &self.fields, cells)
            })
            .map_err(|error| broken("invalid-json", record, format!("the record is not JSON: {error}")))?;
        if let Some(reject) = problem {
            return Err(reject);
        }
        let mut rows = self.fields.iter().zip(cells.iter());
        match rows.find(|(field, cell)| field.required && cell.is_nan()) {
            None => Ok(Row::Keep),
            Some((field, _)) => {
                let message = format!("column `{}` has no value at {:?}", field.name, field.pointer);
                Err(reject("missing", message))
            }
        }
    }
}

/// A document that cannot be read, and what it begins with where that is why.
#[cold]
fn broken(code: &'static str, record: &Record<'_>, message: String) -> Reject {
    match leading(record.value()) {
        Some(mark) => reject(code, format!("{mark}; {message}")),
        None => reject(code, message),
    }
}

export_parser!(Json);

#[cfg(test)]
mod tests;
