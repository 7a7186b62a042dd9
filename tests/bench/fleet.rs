//! From the deploy command to the answer that the last worker of three daemons runs the new revision.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::daemon::Daemon;
use crate::deploy::unique;
use crate::measure::{median, quantile};
use crate::options::Options;
use crate::rig::Rig;
use crate::stream::Stream;
use crate::support::flowers::ROW;
use crate::support::until_true;
use crate::table::{Figure, Goal, Table};

const KNOWN: &str = "fleet: command to last of 6 workers, known plugin, p99";
const NEW: &str = "fleet: command to last of 6 workers, new plugin, p99";
const JOINS: &str = "fleet: a new daemon's start to its first record";
pub const NAMES: &[&str] = &[KNOWN, NEW, JOINS];

const DAEMONS: usize = 3;
/// Records a second meanwhile.
const RATE: usize = 1_000;

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !NAMES.iter().any(|name| options.wants(name)) {
        return Ok(());
    }
    let (input, output) = ("fleet-in", "fleet-out");
    rig.create(input)?;
    rig.create(output)?;
    let file = rig.directory().join("fleet.toml");
    fs::write(&file, rig.pipeline("fleet", input, output, "[limits]\nworkers = 2\n"))?;
    let daemons = (0..DAEMONS).map(|at| start(rig, &file, at)).collect::<Result<Vec<_>>>()?;
    let stream = Stream::start(rig, input, RATE, RATE * 600, ROW)?;
    until_true("every worker has partitions", || {
        let mut owners = 0;
        for daemon in &daemons {
            let status = daemon.status()?;
            let workers = status["workers"].as_array().cloned().unwrap_or_default();
            owners += workers
                .iter()
                .filter(|worker| worker["partitions"].as_array().is_some_and(|all| !all.is_empty()))
                .count();
        }
        Ok(owners == DAEMONS * 2)
    })?;
    let mut turn = 0;
    let mut deploy = |stage: &[&str]| -> Result<f64> {
        // The stream settles between two deployments, and each daemon has its turn.
        std::thread::sleep(Duration::from_millis(300));
        turn += 1;
        let daemon = daemons.get(turn % DAEMONS).context("there are three")?;
        let started = Instant::now();
        let answer = daemon.command(&[&["deploy", "fleet", "--reason", "a benchmark"], stage].concat())?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        anyhow::ensure!(answer.get("not_yet_taken_by").is_none(), "{answer}");
        Ok(took)
    };
    let mut toggled = 0;
    let mut known = |deploy: &mut dyn FnMut(&[&str]) -> Result<f64>| {
        toggled += 1;
        let value = if toggled % 2 == 0 { "parse.missing=[\"\"]" } else { "parse.missing=[\"\", \"-\"]" };
        deploy(&["--config", value])
    };
    let mut sides = vec![Vec::new(); 3];
    for round in 0..options.sized(60, 3) {
        sides[0].push(known(&mut deploy)?);
        let path = unique(rig, "logistic", &format!("fleet{round}"))?;
        sides[1].push(deploy(&["--classify", &path.to_string_lossy()])?);
        sides[2].push(known(&mut deploy)?);
    }
    daemons.into_iter().try_for_each(Daemon::stop)?;
    // Nobody is in the group any more, and the newcomer knows nothing.
    let mut joins = Vec::new();
    for at in 0..options.sized(10, 2) {
        let started = Instant::now();
        let daemon = start(rig, &file, DAEMONS + at)?;
        until_true("the newcomer processes", || Ok(daemon.status()?["records"].as_u64() > Some(0)))?;
        joins.push(started.elapsed().as_secs_f64() * 1e3);
        daemon.stop()?;
    }
    stream.stop()?;
    let [first, new, again] = sides.as_slice() else { unreachable!("three sides") };
    for (name, side, goal, control) in [(KNOWN, first, 300.0, again), (NEW, new, 1_000.0, new)] {
        table.add(Figure {
            name,
            unit: "ms",
            measured: quantile(side, 0.99),
            goal: Goal::AtMost(goal),
            control: quantile(control, 0.99),
            detail: format!(
                "{} deployments at {DAEMONS} daemons of 2 workers in turn, median {:.0} ms, the command's own start in it; {RATE} \
                 records/s meanwhile",
                side.len(),
                median(side),
            ),
        });
    }
    let (odd, even): (Vec<_>, Vec<_>) = joins.iter().copied().enumerate().partition(|(at, _)| at % 2 == 1);
    let middle = |joins: &[(usize, f64)]| median(&joins.iter().map(|(_, took)| *took).collect::<Vec<_>>());
    table.add(Figure {
        name: JOINS,
        unit: "ms",
        measured: middle(&even),
        goal: Goal::AtMost(3_000.0),
        control: middle(&odd),
        detail: format!(
            "median of {}, slowest {:.0} ms; {turn} revisions and {} plugins were deployed before; an empty state directory and nothing \
             compiled",
            even.len(),
            joins.iter().copied().fold(0.0, f64::max),
            new.len(),
        ),
    });
    Ok(())
}

/// One of several daemons that share control topics.
fn start(rig: &Rig, pipeline: &Path, at: usize) -> Result<Daemon> {
    let file = rig.directory().join(format!("fleet-{at}.toml"));
    let brokers = rig.client().get("bootstrap.servers").context("no brokers")?.to_owned();
    fs::write(
        &file,
        format!(
            "pipelines = [{pipeline:?}]\ninstance = \"fleet-{at}\"\n[control]\ntopics = \"fleet\"\n[control.kafka]\nbootstrap.servers = {brokers:?}\n"
        ),
    )?;
    Daemon::start_by_file(&file)
}
