//! End-to-end tests: the program, as built, on real Apache Kafka.
//!
//! One broker serves every test that does not need to stop it. Each test has its own topics, group,
//! state and daemons, so they run side by side. What a failed test leaves is kept, and named.
//!
//! `cargo test --test e2e [FILTER]`; `SANDPIPER_E2E_RECORDS` sizes the long delivery test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../kafka/mod.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod kafka;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/trial.rs"]
mod trial;

mod admin;
mod backtest;
mod broker;
mod config;
mod delivery;
mod demo;
mod dlq;
mod feedback;
mod fleet;
mod fleet_trouble;
mod flowers;
mod harness;
mod membership;
mod memory;
mod passthrough;
mod pause;
mod reader;
mod records;
mod refusals;
mod rollouts;
mod routing;
mod sandbox;
mod scorers;
mod secrets;
mod secure;
mod shutdown;
mod swap;
mod tap;

pub(crate) use trial::tests;

use kafka::{Kafka, Life};
use std::process::ExitCode;

fn main() -> ExitCode {
    let themes = [
        ("harness", harness::TESTS),
        ("flowers", flowers::TESTS),
        ("fleet", fleet::TESTS),
        ("fleet_trouble", fleet_trouble::TESTS),
        ("delivery", delivery::TESTS),
        ("records", records::TESTS),
        ("passthrough", passthrough::TESTS),
        ("routing", routing::TESTS),
        ("config", config::TESTS),
        ("refusals", refusals::TESTS),
        ("sandbox", sandbox::TESTS),
        ("secrets", secrets::TESTS),
        ("secure", secure::TESTS),
        ("broker", broker::TESTS),
        ("shutdown", shutdown::TESTS),
        ("membership", membership::TESTS),
        ("reader", reader::TESTS),
        ("swap", swap::TESTS),
        ("rollouts", rollouts::TESTS),
        ("memory", memory::TESTS),
        ("pause", pause::TESTS),
        ("dlq", dlq::TESTS),
        ("backtest", backtest::TESTS),
        ("tap", tap::TESTS),
        ("feedback", feedback::TESTS),
        ("scorers", scorers::TESTS),
        ("admin", admin::TESTS),
        ("demo", demo::TESTS),
    ];
    // Tests wait far more than they compute.
    trial::main("sandpiper-e2e-", 6, &themes, |directory| Kafka::start(directory, Life::Short))
}
