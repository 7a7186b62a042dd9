//! Tests of the tests' own tools: a checker that finds nothing and a proxy that changes something prove nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../support/checker.rs"]
mod checker;
#[path = "../support/proxy.rs"]
mod proxy;

mod planted;
mod relayed;
