//! The fault matrix: the program, as built, on real Apache Kafka, while everything around it fails.
//!
//! A row is a fault under load and ends in the checker's verdict: nothing lost, doubled or out of order, no transaction
//! left open. docs/guarantees.md lists the rows.
//!
//! `cargo test --test chaos [FILTER]`; `SANDPIPER_CHAOS=long` for the long form, `SANDPIPER_CHAOS_SEED` for another course
//! of what is random.

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

mod brokers;
mod bugs;
mod clock;
mod course;
mod disk;
mod group;
mod kills;
mod network;
mod signals;
mod stage;
mod swaps;
mod topics;

pub(crate) use trial::tests;

use anyhow::{Context, Result};
use kafka::{Kafka, Life};
use proxy::Proxy;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

static PROXY: OnceLock<Mutex<Proxy>> = OnceLock::new();

/// The proxy before the broker that all rows share, for one row at a time, without a rule.
fn proxy() -> Result<MutexGuard<'static, Proxy>> {
    let proxy = PROXY.get().context("the broker was not started")?;
    let proxy = proxy.lock().unwrap_or_else(PoisonError::into_inner);
    // The row before may have failed.
    proxy.lift();
    Ok(proxy)
}

fn main() -> ExitCode {
    if let Err(error) = course::check() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let themes = [
        ("kills", kills::TESTS),
        ("bugs", bugs::TESTS),
        ("network", network::TESTS),
        ("signals", signals::TESTS),
        ("clock", clock::TESTS),
        ("group", group::TESTS),
        ("swaps", swaps::TESTS),
        ("brokers", brokers::TESTS),
        ("topics", topics::TESTS),
        ("disk", disk::TESTS),
    ];
    // Rows mostly wait for the group to miss a dead member.
    trial::main("sandpiper-chaos-", 2, &themes, start)
}

fn start(directory: &Path) -> Result<Kafka> {
    let proxy = Proxy::listen()?;
    let (kafka, hidden) = Kafka::start_behind(directory, Life::Short, &proxy.address.to_string())?;
    proxy.forward_to(hidden.parse()?);
    PROXY.get_or_init(|| Mutex::new(proxy));
    Ok(kafka)
}
