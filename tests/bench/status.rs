//! What it takes to answer for many pipelines at once.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::daemon::Daemon;
use crate::measure::{median, quantile};
use crate::options::Options;
use crate::rig::Rig;
use crate::support::until_true;
use crate::table::{Figure, Goal, Table};

const STATUS: &str = "status: a request for 50 pipelines of 8 workers, p99";
pub const NAMES: &[&str] = &[STATUS];

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(STATUS) {
        return Ok(());
    }
    let pipelines = options.sized(50, 3);
    let input = "status-in";
    rig.create(input)?;
    let mut files: Vec<PathBuf> = Vec::new();
    for at in 0..pipelines {
        let name = format!("status-{at}");
        rig.create(&name)?;
        let file = rig.directory().join(format!("{name}.toml"));
        fs::write(&file, rig.pipeline(&name, input, &name, "[limits]\nworkers = 8\n"))?;
        files.push(file);
    }
    let file = rig.directory().join("status.toml");
    fs::write(&file, format!("pipelines = {files:?}\ninstance = \"status\"\n"))?;
    let daemon = Daemon::start_by_file(&file)?;
    until_true("every pipeline runs", || {
        let all = daemon.all_status()?;
        Ok(all.len() == pipelines && all.iter().all(|pipeline| pipeline["state"] == "running"))
    })?;
    let ask = |requests: usize| -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for _ in 0..requests {
            let started = Instant::now();
            daemon.status_text()?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    let requests = options.sized(1_000, 20);
    ask(requests / 10)?;
    let (first, size, second) = (ask(requests)?, daemon.status_text()?.len(), ask(requests)?);
    daemon.stop()?;
    table.add(Figure {
        name: STATUS,
        unit: "ms",
        measured: quantile(&first, 0.99),
        goal: Goal::AtMost(5.0),
        control: quantile(&second, 0.99),
        detail: format!(
            "median {:.2} ms, {requests} requests for {} kB, a connection each",
            median(&first),
            size / 1_000
        ),
    });
    Ok(())
}
