//! The figures of docs/benchmarks.md: what Sandpiper costs, measured on this machine against what it is compared with.
//!
//! `cargo bench -p sandpiper --bench figures [-- [--quick] [FILTER]]`. Every figure is a comparison within one run: the
//! sides take turns, and one side also stands against itself under a second name, which shows the noise.
//!
//! # Layout
//! - `measure`: clocks, medians, and sides that take turns
//! - `table`: a figure, and what is printed and kept of it
//! - `rig`: the broker, its topics, and a worker that is watched from inside
//! - `daemon`: the program itself, as a child
//! - `stream`: records at a steady rate, and their readers
//! - `safe`: reading and writing by rdkafka's safe calls
//! - `native`: the stock plugins' own code as stages of the host, without the sandbox
//! - `drain`, `shadow`, `backtest`, `swap`, `memory`, `deploy`, `fleet`, `rollouts`, `status`, `latency`: the figures
//!
//! The figures of the stages alone are the benchmark `stages`, which needs no Kafka.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that meets something unexpected has nothing to go on with"
)]

#[path = "../kafka/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod kafka;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

mod backtest;
mod daemon;
mod deploy;
mod drain;
mod fleet;
mod latency;
mod measure;
mod memory;
mod native;
mod options;
mod rig;
mod rollouts;
mod safe;
mod shadow;
mod status;
mod stream;
mod swap;
mod table;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use options::Options;
use rig::Rig;
use table::Table;

/// The product's own: librdkafka and the guests' host allocate through it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(&Options::from_args()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut table = Table::default();
    let on_kafka = [
        drain::NAMES,
        shadow::NAMES,
        backtest::NAMES,
        swap::NAMES,
        memory::NAMES,
        deploy::NAMES,
        fleet::NAMES,
        rollouts::NAMES,
        status::NAMES,
        latency::NAMES,
    ]
    .concat();
    if on_kafka.iter().any(|name| options.wants(name)) {
        let rig = Rig::start(options)?;
        drain::measure(options, &rig, &mut table)?;
        shadow::measure(options, &rig, &mut table)?;
        backtest::measure(options, &rig, &mut table)?;
        swap::measure(options, &rig, &mut table)?;
        memory::measure(options, &rig, &mut table)?;
        deploy::measure(options, &rig, &mut table)?;
        fleet::measure(options, &rig, &mut table)?;
        rollouts::measure(options, &rig, &mut table)?;
        status::measure(options, &rig, &mut table)?;
        latency::measure(options, &rig, &mut table)?;
        rig.stop()?;
    }
    table.finish(started.elapsed(), &kafka::jars::target()?.join("bench.json"))
}
