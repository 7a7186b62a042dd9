//! Fills the cells of a row while a document is read.

use std::fmt;

use sandpiper_pointer::{Pointers, Reader, walk};
use sandpiper_sdk::{Reject, reject};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::Field;

/// Fills the cells of a document; what it does not hold stays as it was. The error says why it is
/// not JSON; JSON whose values do not fit the columns answers the first that does not.
pub fn fill(
    text: &str,
    pointers: &Pointers,
    fields: &[Field],
    cells: &mut [f32],
) -> Result<Option<Reject>, serde_json::Error> {
    let mut row = RowCells { fields, cells, problems: Vec::new() };
    walk(text, pointers, &mut row)?;
    Ok(row.problems.into_iter().next().map(|(_, reject)| reject))
}

/// As `fill`, for a document that it could not read: a value that does not count may hold what no text can, half of a surrogate
/// pair, and any may be a number beyond f64. Only what stands last for a column is read.
#[cold]
pub fn fill_with_the_last(
    text: &str,
    pointers: &Pointers,
    fields: &[Field],
    cells: &mut [f32],
) -> Result<Option<Reject>, serde_json::Error> {
    let mut last = Last(Vec::new());
    walk(text, pointers, &mut last)?;
    let mut row = RowCells { fields, cells, problems: Vec::new() };
    for (column, value) in last.0 {
        match value.as_bytes().first() {
            Some(b'{') => row.refuse(column, &"an object"),
            Some(b'-' | b'0'..=b'9') if serde_json::from_str::<f64>(value).is_err() => row.refuse(column, &value),
            _ => Cell { column, row: &mut row }.deserialize(&mut serde_json::Deserializer::from_str(value))?,
        }
    }
    Ok(row.problems.into_iter().next().map(|(_, reject)| reject))
}

/// The text of what stands last for each column, in the order of the document.
struct Last<'a>(Vec<(usize, &'a str)>);

impl<'de> Reader<'de> for Last<'de> {
    fn read<D: Deserializer<'de>>(&mut self, column: usize, value: D) -> Result<(), D::Error> {
        self.forget(column);
        self.0.push((column, <&RawValue>::deserialize(value)?.get()));
        Ok(())
    }

    fn forget(&mut self, column: usize) {
        self.0.retain(|(read, _)| *read != column);
    }
}

/// The cells of the row that is being read.
struct RowCells<'a> {
    fields: &'a [Field],
    cells: &'a mut [f32],
    /// Columns whose value does not fit them, in the order of the document, at most one a column. The walk goes on after one:
    /// an equal key may overrule it, and JSON that is broken further on is reported instead.
    problems: Vec<(usize, Reject)>,
}

impl<'de> Reader<'de> for RowCells<'_> {
    #[inline]
    fn read<D: Deserializer<'de>>(&mut self, column: usize, value: D) -> Result<(), D::Error> {
        self.excuse(column);
        Cell { column, row: self }.deserialize(value)
    }

    fn forget(&mut self, column: usize) {
        self.excuse(column);
        self.set(column, f32::NAN);
    }
}

impl RowCells<'_> {
    /// What was found for the column before does not count.
    #[inline]
    fn excuse(&mut self, column: usize) {
        if !self.problems.is_empty() {
            self.problems.retain(|(refused, _)| *refused != column);
        }
    }

    fn set(&mut self, column: usize, value: f32) {
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = value;
        }
    }

    fn number(&mut self, column: usize, number: f64) {
        match self.fields.get(column) {
            Some(Field { categories: None, .. }) if (number as f32).is_finite() => {
                self.set(column, number as f32);
            }
            _ => self.refuse(column, &number),
        }
    }

    fn text(&mut self, column: usize, text: &str) {
        let categories = self.fields.get(column).and_then(|field| field.categories.as_ref());
        match categories.and_then(|all| all.iter().position(|category| category == text)) {
            Some(code) => self.set(column, code as f32),
            None => self.refuse(column, &format_args!("{text:?}")),
        }
    }

    #[cold]
    fn refuse(&mut self, column: usize, found: &dyn fmt::Display) {
        let Some(field) = self.fields.get(column) else {
            return;
        };
        let (name, pointer) = (&field.name, &field.pointer);
        let problem = match &field.categories {
            None => reject(
                "not-a-number",
                format!("column `{name}` finds {found} at {pointer:?}, which is not a finite number"),
            ),
            Some(categories) => reject(
                "unknown-category",
                format!("column `{name}` finds {found} at {pointer:?}, which is none of {categories:?}"),
            ),
        };
        self.problems.push((column, problem));
    }
}

/// One column's value.
struct Cell<'a, 'b> {
    column: usize,
    row: &'a mut RowCells<'b>,
}

impl<'de> DeserializeSeed<'de> for Cell<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.row.number(self.column, number);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.row.text(self.column, text);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.row.refuse(self.column, &value);
        Ok(())
    }

    /// A null is a missing value. It takes back an earlier value of the same key: the last one counts.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.row.set(self.column, f32::NAN);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.row.refuse(self.column, &"an object");
        // Nothing in it is looked at, nor its keys: they may be no text.
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.row.refuse(self.column, &"an array");
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
