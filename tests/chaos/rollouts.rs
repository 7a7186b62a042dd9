//! Rollouts while records flow: killed in the middle, one after the other, and told two things at once.

use crate::load_test::{LoadTest, MAX_GROWTH_MB};
use crate::matrix::{SeededRandom, times};
use crate::support::daemon::Daemon;
use crate::support::process::Usage;
use crate::support::scene::Scene;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

crate::tests![kills_while_rollouts_are_under_way, rollouts_under_load];

/// Rollouts before memory is measured: they fill caches that stay.
const WARM: u64 = 3;

const STEPS: &str = "[limits]\nworkers = 2\n[rollout]\nguards = { disagreement = { above = 1.0 } }\n\
    [[rollout.step]]\nshadow = \"300 records\"\n[[rollout.step]]\ncanary = 0.3\nhold = \"300 records\"\n";

fn deploy(test: &LoadTest, daemon: &mut Daemon, number: u64) -> Result<u64> {
    let model = test.scene.model_of(if number % 2 == 1 { "virginica" } else { "setosa" })?;
    daemon.deploy(&test.scene.name, &["--model", &model.to_string_lossy()])
}

fn until_passed(test: &LoadTest, daemon: &mut Daemon) -> Result<()> {
    daemon.until_status(&test.scene.name, "the steps are passed", |status| status["rollout"]["state"] == "passed")?;
    Ok(())
}

fn word(test: &LoadTest, daemon: &mut Daemon, word: &str) -> Result<()> {
    let printed = daemon.cli(&["rollout", word, &test.scene.name, "--reason", "a test"])?;
    ensure!(printed.code == Some(0), "{printed:?}");
    Ok(())
}

fn kills_while_rollouts_are_under_way(scene: &Scene) -> Result<()> {
    let cycles = times(4, 40)?;
    let mut random = SeededRandom::new(&scene.name)?;
    let test = LoadTest::direct(scene, STEPS)?;
    let mut daemon = test.daemon("a")?;
    let mut promoted = 0;
    for cycle in 0..cycles {
        test.until_progress()?;
        let id = deploy(&test, &mut daemon, promoted + 1)?;
        // So that the kill comes in any step, and between two.
        std::thread::sleep(Duration::from_millis(random.below(1_500)));
        daemon.kill9()?;
        daemon = test.daemon("a")?;
        let status = daemon.pipeline(&scene.name)?;
        ensure!(status["rollout"]["id"] == id, "the rollout is forgotten: {status:#}");
        until_passed(&test, &mut daemon)?;
        if cycle % 2 == 0 {
            word(&test, &mut daemon, "promote")?;
            promoted += 1;
        } else {
            word(&test, &mut daemon, "abort")?;
        }
    }
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("{cycles} kills, {promoted} promotions"))
}

fn rollouts_under_load(scene: &Scene) -> Result<()> {
    let rollouts = times(8, 100)? as u64;
    let test = LoadTest::direct(scene, STEPS)?;
    let mut daemon = test.daemon("a")?;
    let (mut before, mut promoted) = (0.0, 0);
    for rollout in 0..rollouts {
        if rollout == WARM {
            before = Usage::of(daemon.process())?.resident;
        }
        deploy(&test, &mut daemon, promoted + 1)?;
        until_passed(&test, &mut daemon)?;
        // Two people at once: one of them is told what the other did.
        let name = scene.name.as_str();
        let asked = ["promote", "abort"].map(|word| daemon.start_cli(&["rollout", word, name, "--reason", "at once"]));
        let mut accepted = 0;
        for asked in asked {
            let output = asked?.wait_with_output().context("a verb cannot be waited for")?;
            accepted += u64::from(output.status.success());
        }
        ensure!(accepted == 1, "{accepted} of two words were accepted");
        let status = daemon.pipeline(name)?;
        ensure!(status["rollout"].is_null(), "the rollout is over: {status:#}");
        let history = daemon.cli(&["history", name, "-o", "json"])?.json()?;
        // Behind it may stand the word that was refused.
        let lines = history.as_array().context("no history")?;
        let last = lines.iter().rfind(|line| line["revision"].is_u64()).context("no deployment")?;
        promoted += u64::from(last["reason"].as_str().is_some_and(|reason| reason.contains("promoted")));
    }
    test.until_commits(&mut daemon)?;
    let grown = Usage::of(daemon.process())?.resident - before;
    ensure!(grown <= MAX_GROWTH_MB, "resident memory grew by {grown:.0} MB");
    test.assert_exactly_once(
        &mut [&mut daemon],
        &format!("{rollouts} rollouts, {promoted} promoted; resident memory {grown:+.1} MB"),
    )
}
