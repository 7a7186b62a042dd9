//! The host's part in a plugin's native tests.
//!
//! ```
//! use sandpiper_sdk::testing::{set_context, Context};
//!
//! set_context(vec![Context {
//!     headers: vec![("kind".into(), Some(b"order".into()))],
//!     ..Context::default()
//! }]);
//! ```

use std::cell::RefCell;

use crate::Position;

/// What the host would answer about one row.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// None is a null key.
    pub key: Option<Vec<u8>>,
    /// None is a null value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    /// None is partition 0 of the topic `test`, at the row's number as the offset.
    pub origin: Option<Position>,
    /// Whether the value is null rather than empty.
    pub null: bool,
}

thread_local! {
    static ROWS: RefCell<Vec<Context>> = const { RefCell::new(Vec::new()) };
}

/// Sets what is answered about the rows of every later batch on this thread. A row beyond the list has no key, no
/// headers and no timestamp, and is not null.
pub fn set_context(rows: Vec<Context>) {
    ROWS.set(rows);
}

fn row(row: u32) -> Context {
    ROWS.with_borrow(|rows| rows.get(row as usize).cloned().unwrap_or_default())
}

pub(crate) fn key(of: u32) -> Option<Vec<u8>> {
    row(of).key
}

pub(crate) fn header(of: u32, name: &str) -> Option<Vec<u8>> {
    let headers = row(of).headers;
    headers.into_iter().rev().find(|header| header.0 == name).and_then(|header| header.1)
}

pub(crate) fn timestamp(of: u32) -> Option<i64> {
    row(of).timestamp
}

pub(crate) fn origin(of: u32) -> Position {
    row(of).origin.unwrap_or(Position { topic: "test".to_owned(), partition: 0, offset: i64::from(of) })
}

pub(crate) fn is_null(of: u32) -> bool {
    row(of).null
}
