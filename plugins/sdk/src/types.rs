//! The shapes that cross the boundary between plugin and host.
//!
//! They mirror the WIT interface `sandpiper:plugin/types` field by field, because the generated
//! bindings lift and lower these very types: a field that moves there moves here.

/// n values laid end to end; value i is `payload[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RawBatch {
    pub payload: Vec<u8>,
    pub offsets: Vec<u32>,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A real number.
    Number,
    /// One of the listed categories; a cell holds the category's index in this list.
    Category(Vec<String>),
}

/// A named column. Parser and classifier are matched by name, never by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

impl Column {
    /// Of numbers where there are no categories to choose from.
    pub fn new(name: impl Into<String>, categories: Option<Vec<String>>) -> Self {
        Self { name: name.into(), kind: categories.map_or(Kind::Number, Kind::Category) }
    }

    pub fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: Kind::Number }
    }

    pub fn category(name: impl Into<String>, categories: Vec<String>) -> Self {
        Self { name: name.into(), kind: Kind::Category(categories) }
    }
}

/// n × `columns` cells, row-major. NaN means missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub columns: u32,
    pub values: Vec<f32>,
}

/// A row that a plugin refuses, as the host sees it. Plugins answer a [`Reject`](crate::Reject).
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    pub row: u32,
    pub code: String,
    pub message: String,
}

/// What a classifier expects and answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// The columns in the order in which `classify` reads them.
    pub columns: Vec<Column>,
    /// The classes in the order of the scores. At least two, all different.
    pub classes: Vec<String>,
}

impl Signature {
    /// That of a classifier whose columns all hold numbers.
    pub fn of_numbers(columns: &[String], classes: &[String]) -> Self {
        Self { columns: columns.iter().map(Column::number).collect(), classes: classes.to_vec() }
    }

    /// The columns' names, for a learner that takes only numbers: a column of categories is an error.
    pub fn number_columns(&self, plugin: &str) -> Result<Vec<String>, String> {
        match self.columns.iter().find(|column| column.kind != Kind::Number) {
            None => Ok(self.columns.iter().map(|column| column.name.clone()).collect()),
            Some(column) => Err(format!("column `{}` holds categories, {plugin} takes only numbers", column.name)),
        }
    }
}
