//! Signals under load.

use crate::load_test::{LoadTest, SESSION, until_owns};
use crate::support::daemon::Daemon;
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
    // A transaction is open nearly all the time, and when the daemon stops.
    let test = LoadTest::direct(scene, "[delivery]\ncommit_interval = \"1s\"\n")?;
    let mut daemon = test.daemon("a")?;
    let taken_over = |daemon: &Daemon| -> Result<usize> {
        Ok(std::fs::read_to_string(&daemon.log)?.matches(" was taken over: ").count())
    };
    let (mut slowest, mut stalls) = (Duration::ZERO, 0);
    while taken_over(&daemon)? < 2 {
        ensure!(stalls < 6, "the broker took nothing away in {stalls} stalls");
        stalls += 1;
        test.until_commits(&mut daemon)?;
        // In the middle of the transaction that follows.
        std::thread::sleep(Duration::from_millis(300));
        daemon.signal(libc::SIGSTOP)?;
        std::thread::sleep(STALL);
        daemon.signal(libc::SIGCONT)?;
        slowest = slowest.max(test.until_all_progress()?);
    }
    daemon.until_ready()?;
    let figures = format!("{stalls} stalls, each partition again within {:.1} s", slowest.as_secs_f64());
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}
