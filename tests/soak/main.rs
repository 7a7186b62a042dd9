//! The soak: one daemon under a steady load for as long as is wanted, while faults come and go that it survives.
//!
//! Rounds of a steady phase, a phase of faults and a recovery. Memory, open files, threads and latency are sampled each
//! second, drawn as a picture and kept as a table. What it must not do is grow, or lose or double a record.
//!
//! `cargo test -p sandpiper --test soak`; `SANDPIPER_SOAK_ROUNDS` and `SANDPIPER_SOAK_SECONDS` (of a phase) for another length,
//! `SANDPIPER_CHAOS_SEED` for other faults. docs/guarantees.md says what came of it.
//!
//! # Layout
//! - `rounds`: the course of it, from the first record to the verdict
//! - `faults`: what is done to the daemon
//! - `watch`: the samples
//! - `figures`: what comes of them; `picture`: how they look

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../chaos/course.rs"]
#[allow(dead_code, reason = "the fault matrix uses the rest")]
mod course;
#[path = "../kafka/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kafka;
#[path = "../bench/measure.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod measure;
#[path = "../support/proxy.rs"]
#[allow(dead_code, reason = "the fault matrix uses the rest")]
mod proxy;
#[path = "../chaos/stage.rs"]
#[allow(dead_code, reason = "the fault matrix uses the rest")]
mod stage;
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
    if let Err(error) = course::check().and_then(|()| rounds::Length::asked().map(drop)) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    trial::main("sandpiper-soak-", 1, &[("soak", rounds::TESTS)], stage::start)
}
