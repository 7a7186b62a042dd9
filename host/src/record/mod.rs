//! What flows: records as they came, what names one of them, and what is written for it.
//!
//! The batch itself is the sandbox's: it is laid out once, as a plugin's call takes it.

pub mod comparison;
pub mod dead_letter;
pub mod id;
pub mod output;
pub mod prediction;
pub mod revision;
pub mod route;

pub use comparison::{Comparison, Role};
pub use id::{Pointer, RecordId};
pub use revision::Revision;
pub use route::{Route, Routes};
pub use sandpiper_sandbox::batch::{
    Batch, BatchBuilder, Excess, Headers, Origin, RawBatch, Row, Rows, TopicIndex, Topics,
};
