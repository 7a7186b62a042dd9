//! The wall clock is set while the daemon runs, as by hand, by NTP, or when a virtual machine is moved.

use crate::load_test::{LoadTest, RECOVERY_LIMIT, SESSION};
use crate::support::daemon::Daemon;
use crate::support::scene::Scene;
use crate::support::until_true;
use crate::wall_clock::WallClock;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

crate::tests![clock_steps_under_load, clock_steps_back_while_idle];

/// Seconds.
const HOUR: i64 = 3_600;

fn clock_steps_under_load(scene: &Scene) -> Result<()> {
    let clock = WallClock::new(&scene.directory)?;
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let mut daemon = test.daemon_with("a", &clock.environment())?;
    test.until_all_progress()?;
    let mut slowest = Duration::ZERO;
    for ahead in [HOUR, 0, -HOUR, 0] {
        let stepped = Instant::now();
        clock.set(ahead)?;
        ensure!(is_live(&mut daemon)?, "a step of the clock is no stuck worker");
        until_workers_report_time(&mut daemon, scene, ahead)?;
        test.until_all_progress()?;
        slowest = slowest.max(stepped.elapsed());
        ensure!(slowest <= RECOVERY_LIMIT, "a partition stood still for {slowest:?}");
        test.until_commits(&mut daemon)?;
    }
    let figures = format!("4 steps, each partition again within {:.1} s", slowest.as_secs_f64());
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}

/// No record comes in that would wake a thread that waits by the wall clock.
fn clock_steps_back_while_idle(scene: &Scene) -> Result<()> {
    let clock = WallClock::new(&scene.directory)?;
    let mut test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon_with("a", &clock.environment())?;
    test.until_all_progress()?;
    test.drain(&mut [&mut daemon])?;
    let before = scene.members()?;
    ensure!(before.len() == 1, "the only member: {before:?}");
    let stepped = Instant::now();
    clock.set(-HOUR)?;
    until_workers_report_time(&mut daemon, scene, -HOUR)?;
    let took = stepped.elapsed();
    // By then the group would have dropped a member that sends no heartbeats.
    std::thread::sleep(2 * SESSION);
    ensure!(scene.members()? == before, "it left its group");
    ensure!(is_live(&mut daemon)?, "a step of the clock is no stuck worker");
    let model = scene.model_of("virginica")?;
    daemon.deploy(&scene.name, &["--model", &model.to_string_lossy()])?;
    daemon.until_status(&scene.name, "the deployment is taken", |status| status["workers"][0]["revision"] == 2)?;
    let signalled = Instant::now();
    daemon.sigterm()?;
    let status = daemon.wait_exit()?;
    ensure!(
        status.code() == Some(0) && signalled.elapsed() <= RECOVERY_LIMIT,
        "{status} after {:?}",
        signalled.elapsed()
    );
    test.assert_exactly_once(&mut [], &format!("it reported {:.1} s after the step", took.as_secs_f64()))
}

fn is_live(daemon: &mut Daemon) -> Result<bool> {
    Ok(daemon.get("/livez")?.is_some_and(|(code, _)| code == 200))
}

/// Waits until every worker reports a time that is that far ahead of ours: the step has reached the daemon, and all of its
/// workers go on.
fn until_workers_report_time(daemon: &mut Daemon, scene: &Scene, ahead: i64) -> Result<()> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let from = now + ahead * 1_000;
    let is_there =
        |worker: &serde_json::Value| worker["at"].as_i64().is_some_and(|at| (0..HOUR * 500).contains(&(at - from)));
    until_true(&format!("every worker's clock is {ahead} s ahead"), || {
        daemon.check_alive()?;
        let status = daemon.pipeline(&scene.name)?;
        Ok(status["workers"].as_array().context("no workers")?.iter().all(is_there))
    })
    .with_context(|| daemon.log_tail())
}
