//! What a parser and a classifier cost in the sandbox, against the same code without it. Needs neither Kafka nor its client.
//!
//! `cargo bench -p sandpiper-sandbox --bench stages [-- [--quick] [FILTER]]`; measured as the other figures of
//! docs/benchmarks.md are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that meets something unexpected has nothing to go on with"
)]

#[path = "../support/flowers.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod flowers;
#[path = "../kafka/jars.rs"]
#[allow(dead_code, reason = "only the target folder is asked for")]
mod jars;
#[allow(dead_code, reason = "the figures on Kafka use the rest")]
mod measure;
#[allow(dead_code, reason = "the figures on Kafka use the rest")]
mod native;
#[allow(dead_code, reason = "the figures on Kafka use the rest")]
mod options;
#[path = "../support/root.rs"]
mod place;
mod stage;
#[allow(dead_code, reason = "the figures on Kafka use the rest")]
mod table;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use options::Options;
use place::root;
use table::Table;

/// The product's own: the guests' host allocates through it too.
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
    stage::measure(options, &mut table)?;
    table.finish(started.elapsed(), &jars::target()?.join("stages.json"))
}
