//! The WIT package as Rust, a module a version. The rest of the host says `latest` and names no version, so that a
//! second one can stand beside the first.

pub mod v0_1;

pub use v0_1 as latest;
