//! Models change while records flow.

use crate::course::times;
use crate::stage::{GROWTH, Stage, until_owns};
use crate::support::process::Usage;
use crate::support::scene::Scene;
use anyhow::{Result, ensure};

crate::tests![swaps_under_load, swaps_while_a_rebalance_runs];

/// Swaps that fill caches which stay.
const WARM: u64 = 50;

fn swaps_under_load(scene: &Scene) -> Result<()> {
    let swaps = times(100, 1_000)? as u64;
    let stage = Stage::direct(scene, "[limits]\nworkers = 2\n")?;
    let mut daemon = stage.daemon("a")?;
    for revision in 2..=WARM {
        stage.swap(&mut [&mut daemon], revision)?;
    }
    stage.until_all_progress()?;
    let before = Usage::of(daemon.process())?.resident;
    for revision in WARM + 1..=swaps + 1 {
        stage.swap(&mut [&mut daemon], revision)?;
    }
    stage.until_serves(&mut daemon)?;
    let grown = Usage::of(daemon.process())?.resident - before;
    ensure!(grown <= GROWTH, "resident memory grew by {grown:.0} MB");
    stage.verdict(&mut [&mut daemon], &format!("{swaps} swaps; resident memory {grown:+.1} MB"))
}

fn swaps_while_a_rebalance_runs(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut a = stage.daemon("a")?;
    let mut b = stage.daemon("b")?;
    let mut revision = 1;
    for _ in 0..times(5, 50)? {
        for daemon in [&mut a, &mut b] {
            until_owns(daemon, &scene.name, |owned| owned > 0)?;
        }
        // It asks the others for their partitions, and waits with those whose revision it has not got yet.
        let mut c = stage.scene.unready_daemon("c", &stage.pipeline)?;
        c.address()?;
        revision += 1;
        stage.swap(&mut [&mut a, &mut b], revision)?;
        until_owns(&mut c, &scene.name, |owned| owned > 0)?;
        revision += 1;
        c.sigterm()?;
        stage.swap(&mut [&mut a, &mut b], revision)?;
        let status = c.wait_exit()?;
        ensure!(status.code() == Some(0), "{status}");
        stage.until_all_progress()?;
    }
    stage.verdict(&mut [&mut a, &mut b], &format!("{} swaps", revision - 1))
}
