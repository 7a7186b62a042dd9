//! Values at JSON pointers (RFC 6901), read in one pass over a document that builds no tree of it.
//!
//! What no pointer leads to is skipped: only its syntax counts. So a lone surrogate, a number beyond any range or two
//! hundred arrays in each other are nothing to whoever asks for another field. Of equal keys the last counts, at every level:
//! `{"a":"abc","a":1}` has 1 at `/a`, and `{"s":{"b":5},"s":null}` has nothing at `/s/b`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod tree;
mod value;
mod walk;

pub use tree::Pointers;
pub use value::{Error, Pointer, Value};
pub use walk::{Reader, walk};

#[cfg(test)]
mod tests;
