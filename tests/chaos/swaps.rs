//! Models are swapped while records flow.

use crate::load_test::{LoadTest, MAX_GROWTH_MB, until_owns};
use crate::matrix::times;
use crate::support::process::Usage;
use crate::support::scene::Scene;
use anyhow::{Result, ensure};

crate::tests![swaps_under_load, swaps_while_a_rebalance_runs];

/// Swaps before memory is measured: they fill caches that stay.
const WARM: u64 = 50;

fn swaps_under_load(scene: &Scene) -> Result<()> {
    let swaps = times(100, 1_000)? as u64;
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let mut daemon = test.daemon("a")?;
    for revision in 2..=WARM {
        test.swap(&mut [&mut daemon], revision)?;
    }
    test.until_all_progress()?;
    let before = Usage::of(daemon.process())?.resident;
    for revision in WARM + 1..=swaps + 1 {
        test.swap(&mut [&mut daemon], revision)?;
    }
    test.until_commits(&mut daemon)?;
    let grown = Usage::of(daemon.process())?.resident - before;
    ensure!(grown <= MAX_GROWTH_MB, "resident memory grew by {grown:.0} MB");
    test.assert_exactly_once(&mut [&mut daemon], &format!("{swaps} swaps; resident memory {grown:+.1} MB"))
}

fn swaps_while_a_rebalance_runs(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut a = test.daemon("a")?;
    let mut b = test.daemon("b")?;
    let mut revision = 1;
    for _ in 0..times(5, 50)? {
        for daemon in [&mut a, &mut b] {
            until_owns(daemon, &scene.name, |owned| owned > 0)?;
        }
        // It takes over partitions from the others, and waits with those whose committed revision is newer than its own.
        let mut c = test.scene.unready_daemon("c", &test.pipeline)?;
        c.address()?;
        revision += 1;
        test.swap(&mut [&mut a, &mut b], revision)?;
        until_owns(&mut c, &scene.name, |owned| owned > 0)?;
        revision += 1;
        c.sigterm()?;
        test.swap(&mut [&mut a, &mut b], revision)?;
        let status = c.wait_exit()?;
        ensure!(status.code() == Some(0), "{status}");
        test.until_all_progress()?;
    }
    test.assert_exactly_once(&mut [&mut a, &mut b], &format!("{} swaps", revision - 1))
}
