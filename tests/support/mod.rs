//! What the end-to-end tests share: a scene per test, daemons, Kafka clients, data.

#[allow(dead_code, reason = "for the end-to-end tests and the fault matrix")]
pub mod admin_client;
pub mod checker;
pub mod daemon;
pub mod flowers;
pub mod hostile;
pub mod java;
pub mod observe;
#[allow(dead_code, reason = "for the soak and the benchmarks")]
pub mod process;
pub mod record;
mod root;
pub mod scene;
pub mod topic;
pub mod transactions;

use crate::kafka::jars::target;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

pub use root::root;

/// How long a condition may take on a busy machine. Nothing is slow in itself but a rebalance after
/// a kill: the group waits out the dead member's session.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until there is an answer; an error ends the wait at once.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// As `until`, for a condition.
pub fn until_true(what: &str, mut ask: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, || Ok(ask()?.then_some(())))
}
