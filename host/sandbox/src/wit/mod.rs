//! The WIT package as Rust, one module for each version. The rest of the host writes `latest` and names no version, so that a
//! second one can be added beside the first.

pub mod v0_1;

pub use v0_1 as latest;
