//! Tests of the tests' own tools: a checker that finds nothing and a proxy that changes something prove nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../support/checker.rs"]
mod checker;
#[path = "../soak/figures.rs"]
mod figures;
#[path = "../bench/measure.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod measure;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/proxy.rs"]
mod proxy;

mod grown;
mod planted;
mod relayed;
