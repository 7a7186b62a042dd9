//! The fault matrix: the program, as built, on real Apache Kafka, while everything around it fails.
//!
//! A row is a fault under load, and ends with the checker's report: nothing lost, duplicated or out of order, no transaction
//! left open. docs/guarantees.md lists the rows.
//!
//! `cargo test --test chaos [FILTER]`; `SANDPIPER_CHAOS=long` for the long form, `SANDPIPER_CHAOS_SEED` for other random
//! choices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../kafka/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod kafka;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;
#[path = "../support/trial.rs"]
mod trial;
#[path = "../support/wall_clock.rs"]
mod wall_clock;

mod admin;
mod brokers;
mod bugs;
mod clock;
mod disk;
mod extremes;
mod fleet;
mod group;
mod kills;
mod load_test;
mod matrix;
mod mixed;
mod network;
mod replays;
mod rollouts;
mod signals;
mod state;
mod swaps;
mod topics;

pub(crate) use trial::tests;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = matrix::check_environment() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let themes = [
        ("kills", kills::TESTS),
        ("bugs", bugs::TESTS),
        ("network", network::TESTS),
        ("signals", signals::TESTS),
        ("admin", admin::TESTS),
        ("clock", clock::TESTS),
        ("group", group::TESTS),
        ("state", state::TESTS),
        ("mixed", mixed::TESTS),
        ("swaps", swaps::TESTS),
        ("rollouts", rollouts::TESTS),
        ("fleet", fleet::TESTS),
        ("brokers", brokers::TESTS),
        ("topics", topics::TESTS),
        ("disk", disk::TESTS),
        ("extremes", extremes::TESTS),
        ("replays", replays::TESTS),
    ];
    // Rows mostly wait for the group to drop a dead member.
    let code = trial::main("sandpiper-chaos-", 3, &themes, load_test::start);
    match matrix::write_report() {
        Ok(file) => eprintln!("report: {}", file.display()),
        Err(error) => eprintln!("no report: {error:#}"),
    }
    code
}
