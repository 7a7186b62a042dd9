//! The configuration: which pointer fills which column.

use std::fmt;

use sandpiper_sdk::{Column, TextOr};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub columns: Columns,
}

/// The columns in the order of the text: an object from names to pointers, or an array of columns
/// with their names inside.
#[derive(Debug)]
pub struct Columns(pub Vec<Field>);

/// One column.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    pub pointer: String,
    /// None reads numbers.
    pub categories: Option<Vec<String>>,
    /// Whether a row without a value is refused.
    #[serde(default)]
    pub required: bool,
}

impl Field {
    pub fn column(&self) -> Column {
        Column::new(&self.name, self.categories.clone())
    }
}

/// A column that stands under its name. Its pointer alone is a column of numbers.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    pointer: String,
    categories: Option<Vec<String>>,
    #[serde(default)]
    required: bool,
}

impl From<String> for Described {
    fn from(pointer: String) -> Self {
        Self { pointer, categories: None, required: false }
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColumnsVisitor)
    }
}

struct ColumnsVisitor;

impl<'de> Visitor<'de> for ColumnsVisitor {
    type Value = Columns;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object from column names to JSON pointers, or an array of columns")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, TextOr(described))) = map.next_entry()? {
            let Described { pointer, categories, required } = described;
            fields.push(Field { name, pointer, categories, required });
        }
        Ok(Columns(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Columns, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = seq.next_element()? {
            fields.push(field);
        }
        Ok(Columns(fields))
    }
}
