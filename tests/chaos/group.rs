//! Members of the group come and go.

use crate::load_test::{LoadTest, until_owns, until_status_reports};
use crate::matrix::{SeededRandom, times};
use crate::support::daemon::{Daemon, Printed, sandpiper};
use crate::support::scene::Scene;
use crate::support::{until, until_true};
use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::{Duration, Instant};

crate::tests![
    rebalances_in_a_row,
    workers_that_stop_leave_their_group,
    two_daemons_of_the_same_instance,
    a_member_of_another_protocol,
];

fn rebalances_in_a_row(scene: &Scene) -> Result<()> {
    let rebalances = times(10, 50)?;
    let test = LoadTest::direct(scene, "")?;
    let mut a = test.daemon("a")?;
    for _ in 0..rebalances.div_ceil(2) {
        let mut b = test.daemon("b")?;
        until_owns(&mut b, &scene.name, |owned| owned > 0)?;
        test.until_commits(&mut b)?;
        b.sigterm()?;
        let status = b.wait_exit()?;
        ensure!(status.code() == Some(0), "{status}");
        test.until_all_progress()?;
    }
    test.assert_exactly_once(&mut [&mut a], &format!("{rebalances} rebalances"))
}

/// They are stopped while they ask to join, in the rebalance that the first of them begins, and once one of them owns a partition
/// and the others none. A worker that ended and is a member still would hold up every rebalance.
fn workers_that_stop_leave_their_group(scene: &Scene) -> Result<()> {
    let stops = times(8, 40)?;
    let mut random = SeededRandom::new(&scene.name)?;
    let test = LoadTest::direct(scene, "[limits]\nworkers = 3\n")?;
    let mut a = test.daemon("a")?;
    test.until_all_progress()?;
    let mut longest = Duration::ZERO;
    for stop in 0..stops {
        let mut b = test.scene.unready_daemon("b", &test.pipeline)?;
        let of_b = || -> Result<Vec<String>> {
            Ok(scene.members()?.into_iter().filter(|id| id.starts_with("sandpiper.b.")).collect())
        };
        match stop % 3 {
            0 => drop(b.address()?),
            1 => until_true("it is a member", || b.check_alive().and_then(|()| Ok(!of_b()?.is_empty())))?,
            _ => until_owns(&mut b, &scene.name, |owned| owned > 0)?,
        }
        // At any moment of these.
        std::thread::sleep(Duration::from_millis(random.below(400)));
        let signalled = Instant::now();
        b.sigterm()?;
        let status = b.wait_exit()?;
        longest = longest.max(signalled.elapsed());
        ensure!(status.code() == Some(0), "{status}");
        let left = of_b()?;
        ensure!(left.is_empty(), "it has ended and is a member still: {left:?}");
    }
    test.assert_exactly_once(
        &mut [&mut a],
        &format!("{stops} stops of three workers, within {:.1} s", longest.as_secs_f64()),
    )
}

/// Each fences the other's producer until one notices that its transactional id is taken over.
fn two_daemons_of_the_same_instance(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let spawn = |name| Daemon::spawn(&scene.directory, name, &[&test.pipeline], &["--instance", "twin", "--stay"]);
    let mut twins = [spawn("one")?, spawn("other")?];
    let stopped = until("one of the two gives up", || {
        for at in [0, 1] {
            if twins[at].pipeline(&scene.name)?["state"] == "failed" {
                return Ok(Some(at));
            }
        }
        Ok(None)
    })?;
    let id = format!("the transactional id {}.main.twin.0 was taken over twice", scene.name);
    let status = until_status_reports(&mut twins[stopped], &scene.name, "failed", &id)?;
    let error = status["last_error"].as_str().unwrap_or_default();
    for twin in &twins {
        let holder = format!("sandpiper.twin.{}-", twin.process());
        let hosts = |rest: &str| rest.split(',').next().is_some_and(|rest| rest.contains(" at 127.0.0.1"));
        ensure!(error.split(&holder).skip(1).any(hosts), "{holder} is not named with its host: {error}");
    }
    test.until_all_progress()?;
    let [one, other] = &mut twins;
    let runs = if stopped == 0 { other } else { one };
    ensure!(runs.pipeline(&scene.name)?["state"] == "running", "the other one runs on");
    test.assert_exactly_once(&mut [runs], "one stopped and named the id and both holders")
}

/// Another application's consumer has taken the group's name: the daemon waits until it is gone, and says who it is.
fn a_member_of_another_protocol(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", scene.bootstrap())
        .set("group.id", scene.group())
        .set("client.id", "their-app")
        .set("partition.assignment.strategy", "range")
        .create()?;
    other.subscribe(&[&scene.topic("in")])?;
    until_true("the other one has its partitions", || {
        drop(other.poll(Duration::from_millis(50)));
        Ok(other.assignment()?.count() > 0)
    })?;
    let check = || Printed::of(sandpiper().arg("check").arg(&test.pipeline).arg("--connect"));
    let found = check()?;
    ensure!(found.code == Some(1) && found.err.contains("their-app"), "{found:?}");
    let mut daemon = test.scene.unready_daemon("a", &test.pipeline)?;
    let status = until_status_reports(&mut daemon, &scene.name, "starting", "their-app at 127.0.0.1")?;
    ensure!(!daemon.is_ready()?, "it processes nothing");
    drop(other);
    daemon.until_ready()?;
    ensure!(check()?.code == Some(0), "nothing is in the way any more");
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &status["last_error"].to_string())
}
