//! Exactly once, through a rebalance, swaps and a kill.

use crate::support::checker::check;
use crate::support::daemon::{Daemon, sum};
use crate::support::flowers::ROW;
use crate::support::observe::observe;
use crate::support::record;
use crate::support::scene::Scene;
use crate::support::topic::Producer;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

crate::tests![nothing_is_lost_or_doubled_through_a_rebalance_five_swaps_and_a_kill];

const PARTITIONS: i32 = 6;
/// One row in this many is malformed.
const MALFORMED: usize = 997;
/// Time between two portions of the input: several go into one transaction, so that a swap within a transaction would show.
const PACE: Duration = Duration::from_millis(20);
/// Each portion is this fraction of what is left, so that the load outlasts everything that happens to the daemons.
const PORTION: usize = 1_500;

/// 300,000 unless `SANDPIPER_E2E_RECORDS` says otherwise.
fn size() -> Result<usize> {
    match std::env::var("SANDPIPER_E2E_RECORDS") {
        Ok(text) => text.parse().with_context(|| format!("SANDPIPER_E2E_RECORDS is {text:?} and not a number")),
        Err(_) => Ok(300_000),
    }
}

fn nothing_is_lost_or_doubled_through_a_rebalance_five_swaps_and_a_kill(scene: &Scene) -> Result<()> {
    let total = size()?;
    scene.create_usual(PARTITIONS)?;
    let models = [scene.model_of("virginica")?, scene.model_of("setosa")?];
    let pipeline = scene.flower_pipeline("", &models[1], "[limits]\nworkers = 2\n")?;

    let stop_pacing = AtomicBool::new(false);
    let (mut a, mut b, revision) = std::thread::scope(|threads| {
        let feeder = threads.spawn(|| feed(scene, total, &stop_pacing));
        let daemons = run_daemons(scene, &pipeline, &models);
        stop_pacing.store(true, Ordering::Relaxed);
        let fed = feeder.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the feeder panicked")));
        fed.and(daemons)
    })?;
    scene.until_done(&mut [&mut a, &mut b])?;

    let observed = observe(scene)?;
    let report = check(&observed);
    ensure!(report.is_clean(), "{report}");
    assert_eq!(report.records, total);
    let letters = observed.outputs.iter().filter(|output| output.topic == "dead").count();
    assert_eq!(letters, total.div_ceil(MALFORMED), "dead letters");
    for output in &observed.outputs {
        assert_eq!(output.at.0, output.origin.0, "an output keeps its input's partition");
    }
    let revisions: BTreeSet<u64> = observed.outputs.iter().map(|output| output.revision).collect();
    assert_eq!(revisions, (1..=revision).collect(), "each revision served under load");
    check_model_of_each_revision(scene)
}

/// Odd revisions predict setosa, even ones virginica.
fn check_model_of_each_revision(scene: &Scene) -> Result<()> {
    for record in scene.read("out")? {
        let value = record.json()?;
        let odd = value["revision"].as_u64().context("no revision")? % 2 == 1;
        assert_eq!(value["class"], if odd { "setosa" } else { "virginica" }, "{value}");
    }
    Ok(())
}

/// Writes the input at a steady pace, and all that is left at once when `stop_pacing` is set.
fn feed(scene: &Scene, total: usize, stop_pacing: &AtomicBool) -> Result<()> {
    let producer = Producer::new(&scene.bootstrap())?;
    let topic = scene.topic("in");
    let mut at = 0;
    while at < total {
        let left = total - at;
        let portion = if stop_pacing.load(Ordering::Relaxed) { left } else { (left / PORTION).max(1) };
        for at in at..at + portion {
            let row = if at % MALFORMED == 0 { "malformed" } else { ROW };
            let partition = i32::try_from(at % PARTITIONS.unsigned_abs() as usize)?;
            producer.send(&topic, &record::value(row).key(at.to_string()).on(partition))?;
        }
        at += portion;
        std::thread::sleep(PACE);
    }
    producer.flush()
}

/// Starts, swaps, kills and restarts daemons while the input is written. Returns both daemons and the last revision.
fn run_daemons(scene: &Scene, pipeline: &Path, models: &[PathBuf; 2]) -> Result<(Daemon, Daemon, u64)> {
    let mut a = scene.daemon("a", pipeline)?;
    until_commits(scene, &mut a)?;
    let mut b = scene.daemon("b", pipeline)?;
    let mut revision = 1;
    for swap in 1..=5 {
        until_commits(scene, &mut a)?;
        until_commits(scene, &mut b)?;
        revision += 1;
        let model = models[usize::try_from(revision % 2)?].to_string_lossy();
        for daemon in [&mut a, &mut b] {
            assert_eq!(daemon.deploy(&scene.name, &["--model", &model])?, revision);
        }
        if swap == 3 {
            until_commits(scene, &mut a)?;
            a.kill9()?;
            a = scene.daemon("a", pipeline)?;
        }
    }
    until_commits(scene, &mut a)?;
    until_commits(scene, &mut b)?;
    Ok((a, b, revision))
}

/// Waits until a daemon has committed records under the revision that is deployed now.
fn until_commits(scene: &Scene, daemon: &mut Daemon) -> Result<()> {
    let before = sum(&daemon.pipeline(&scene.name)?, "transactions");
    // The first transaction to end may have begun under the revision before.
    daemon.until_status(&scene.name, "the daemon commits", |status| sum(status, "transactions") > before + 4).map(drop)
}
