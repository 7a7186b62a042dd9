//! The daemon's memory while it drains a topic as fast as it can.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::Daemon;
use crate::measure::median;
use crate::options::Options;
use crate::rig::{INPUT, Rig};
use crate::table::{Figure, Goal, Table};

const RSS: &str = "daemon: memory at full rate, 2 workers";
pub const NAMES: &[&str] = &[RSS];

const PATIENCE: Duration = Duration::from_secs(120);

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(RSS) {
        return Ok(());
    }
    let first = drain(rig, "memory-0")?;
    let second = drain(rig, "memory-1")?;
    let largest = |sizes: &[f64]| sizes.iter().copied().fold(0.0, f64::max);
    table.add(Figure {
        name: RSS,
        unit: "MB RSS",
        measured: largest(&first),
        goal: Goal::AtMost(150.0),
        control: largest(&second),
        detail: format!("the largest of {} samples; median {:.0} MB", first.len(), median(&first)),
    });
    Ok(())
}

/// Megabytes, sampled until everything is processed.
fn drain(rig: &Rig, name: &str) -> Result<Vec<f64>> {
    rig.create(name)?;
    let file = rig.directory().join(format!("{name}.toml"));
    fs::write(&file, rig.pipeline(name, INPUT, name, "[limits]\nworkers = 2\n"))?;
    let daemon = Daemon::start(&file)?;
    let started = Instant::now();
    let mut sizes = Vec::new();
    loop {
        // The status is asked for seldom: only what the daemon does for the stream is to be seen.
        for _ in 0..20 {
            sizes.push(daemon.resident()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        if daemon.status()?["records"].as_u64().context("no records in the status")? >= rig.records as u64 {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "the daemon does not come to an end");
    }
    daemon.stop()?;
    rig.delete(name)?;
    Ok(sizes)
}
