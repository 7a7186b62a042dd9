//! The soak: one daemon under a steady load for as long as wanted, while faults come and go that it must survive.
//!
//! Rounds of a steady phase, a phase of faults and a recovery. Memory, open files, threads and latency are sampled each
//! second, drawn as a picture and kept as a table. It must not grow, and must not lose or duplicate a record.
//!
//! `cargo test -p sandpiper --test soak`; `SANDPIPER_SOAK_ROUNDS` and `SANDPIPER_SOAK_SECONDS` (of a phase) for another length,
//! `SANDPIPER_CHAOS_SEED` for other faults. docs/guarantees.md has the last results.
//!
//! # Layout
//! - `rounds`: the test, from the first record to the check
//! - `faults`: the faults that are applied
//! - `watch`: samples the daemon
//! - `figures`: what is computed from the samples; `picture`: the samples drawn

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../kafka/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kafka;
#[path = "../chaos/load_test.rs"]
#[allow(dead_code, reason = "the fault matrix uses the rest")]
mod load_test;
#[path = "../chaos/matrix.rs"]
#[allow(dead_code, reason = "the fault matrix uses the rest")]
mod matrix;
#[path = "../bench/measure.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod measure;
#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "the fault matrix uses the rest")]
mod proxy;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;
#[path = "../support/trial.rs"]
mod trial;

mod faults;
mod figures;
mod picture;
mod rounds;
mod watch;

pub(crate) use trial::tests;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = matrix::check_environment().and_then(|()| rounds::Length::from_environment().map(drop)) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    trial::main("sandpiper-soak-", 1, &[("soak", rounds::TESTS)], load_test::start)
}
