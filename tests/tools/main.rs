//! Tests of the tests' own tools: a checker that finds no defect, or a proxy that changes a byte, would prove nothing.

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

mod planted_defects;
mod proxy_rules;
mod soak_figures;
