//! Three brokers, three replicas of everything, of which two must be in sync: one broker goes at a time.

use crate::kafka::{Kafka, Life};
use crate::load_test::LoadTest;
use crate::matrix::times;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};
use std::time::Duration;

crate::tests![one_of_three_brokers_goes];

const BROKERS: usize = 3;
/// How long it may take until records flow again when a broker goes: less than the minute that librdkafka waits by itself.
const BROKER_RECOVERY_LIMIT: Duration = Duration::from_secs(55);

fn one_of_three_brokers_goes(scene: &Scene) -> Result<()> {
    let kafka = Kafka::prepare(&scene.directory.join("kafka"), BROKERS, Life::Short)?;
    kafka.launch()?;
    let scene = scene.on(&kafka);
    leader_killed(&scene.part("killed"))?;
    rolling_restart(&scene.part("rolling"))?;
    coordinator_stopped(&scene.part("coordinator"))?;
    leader_stands_still(&scene.part("still"))
}

fn leader_killed(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    let kafka = scene.kafka;
    kafka.kill_one(kafka.leader(&scene.topic("out"), 0)?)?;
    let recovery = recovers(&test)?;
    restore(kafka)?;
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("leader killed, {}", within(recovery)))
}

fn rolling_restart(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("b")?;
    let mut slowest = Duration::ZERO;
    for broker in 0..BROKERS {
        test.until_all_progress()?;
        scene.kafka.stop_one(broker)?;
        slowest = slowest.max(recovers(&test)?);
        restore(scene.kafka)?;
    }
    test.assert_exactly_once(&mut [&mut daemon], &format!("three restarts, {}", within(slowest)))
}

/// Metadata is refreshed each second here: a client then forgets the broker that left, and may wait for it nevertheless.
fn coordinator_stopped(scene: &Scene) -> Result<()> {
    let stops = times(2, 10)?;
    let test = LoadTest::tuned(scene, "topic.metadata.refresh.interval.ms = 1000")?;
    let mut daemon = test.daemon("c")?;
    let mut slowest = Duration::ZERO;
    for _ in 0..stops {
        test.until_all_progress()?;
        scene.kafka.stop_one(scene.kafka.coordinator(&scene.group())?)?;
        slowest = slowest.max(recovers(&test)?);
        restore(scene.kafka)?;
    }
    test.assert_exactly_once(
        &mut [&mut daemon],
        &format!("the group's coordinator stopped {stops} times, {}", within(slowest)),
    )
}

/// A stopped process keeps its connections and answers nothing, as a machine whose disk hangs.
fn leader_stands_still(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("d")?;
    test.until_all_progress()?;
    let kafka = scene.kafka;
    let leader = kafka.leader(&scene.topic("out"), 0)?;
    kafka.signal_one(leader, libc::SIGSTOP)?;
    let recovery = test.until_all_progress();
    kafka.signal_one(leader, libc::SIGCONT)?;
    let recovery = recovery?;
    restore(kafka)?;
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("leader stopped and continued, {}", within(recovery)))
}

fn recovers(test: &LoadTest) -> Result<Duration> {
    let recovery = test.until_all_progress()?;
    ensure!(recovery <= BROKER_RECOVERY_LIMIT, "each partition went on only after {recovery:?}");
    Ok(recovery)
}

fn within(recovery: Duration) -> String {
    format!("each partition again within {:.1} s", recovery.as_secs_f64())
}

/// Starts the brokers that are down and waits until every replica is in sync: one broker's log is checked, and must be whole.
fn restore(kafka: &Kafka) -> Result<()> {
    kafka.launch()?;
    until_true("every replica is in sync", || Ok(kafka.in_sync()? == BROKERS))
}
