//! Signals under load.

use crate::load_test::{LoadTest, SESSION, until_owns};
use crate::support::scene::Scene;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

crate::tests![told_to_stop_under_load, stopped_and_continued_after_its_session, stopped_twice_while_it_is_alone];

/// Longer than the broker leaves a transaction open: it ends the transaction itself, as if another producer had taken over.
const STALL: Duration = Duration::from_secs(13);

fn told_to_stop_under_load(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    let signalled = Instant::now();
    daemon.sigterm()?;
    let status = daemon.wait_exit()?;
    let took = signalled.elapsed();
    ensure!(status.code() == Some(0), "{status}");
    ensure!(took <= Duration::from_secs(10), "it took {took:?}");
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("ended after {:.1} s", took.as_secs_f64()))
}

/// As a machine that sleeps: the group goes on without the daemon, and the assignment that it wakes up with is out of date.
fn stopped_and_continued_after_its_session(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let (mut a, mut b) = (test.daemon("a")?, test.daemon("b")?);
    for daemon in [&mut a, &mut b] {
        until_owns(daemon, &scene.name, |owned| owned > 0)?;
        test.until_commits(daemon)?;
    }
    a.signal(libc::SIGSTOP)?;
    std::thread::sleep(2 * SESSION);
    until_owns(&mut b, &scene.name, |owned| owned == 4)?;
    test.until_all_progress()?;
    let continued = Instant::now();
    a.signal(libc::SIGCONT)?;
    until_owns(&mut b, &scene.name, |owned| owned < 4)?;
    test.until_commits(&mut a)?;
    let figures = format!("serves again {:.1} s after it was continued", continued.elapsed().as_secs_f64());
    test.assert_exactly_once(&mut [&mut a, &mut b], &figures)
}

/// The broker takes its transactional id away both times, and there is nobody else who holds it.
fn stopped_twice_while_it_is_alone(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    let mut slowest = Duration::ZERO;
    for _ in 0..2 {
        test.until_commits(&mut daemon)?;
        daemon.signal(libc::SIGSTOP)?;
        std::thread::sleep(STALL);
        daemon.signal(libc::SIGCONT)?;
        slowest = slowest.max(test.until_all_progress()?);
    }
    daemon.until_ready()?;
    let figures = format!("each partition again within {:.1} s of both", slowest.as_secs_f64());
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}
