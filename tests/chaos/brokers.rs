//! Three brokers, three replicas of everything, of which two must be in sync: one goes at a time.

use crate::course::times;
use crate::kafka::{Kafka, Life};
use crate::stage::Stage;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};
use std::time::Duration;

crate::tests![one_of_three_brokers_goes];

const BROKERS: usize = 3;
/// Until records flow again when a broker goes.
const GOES_ON: Duration = Duration::from_secs(30);

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
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    let kafka = scene.kafka;
    kafka.kill_one(kafka.leader(&scene.topic("out"), 0)?)?;
    let again = goes_on(&stage)?;
    whole_again(kafka)?;
    stage.until_all_progress()?;
    stage.verdict(&mut [&mut daemon], &format!("leader killed, {}", within(again)))
}

fn rolling_restart(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("b")?;
    let mut slowest = Duration::ZERO;
    for broker in 0..BROKERS {
        stage.until_all_progress()?;
        scene.kafka.stop_one(broker)?;
        slowest = slowest.max(goes_on(&stage)?);
        whole_again(scene.kafka)?;
    }
    stage.verdict(&mut [&mut daemon], &format!("three restarts, {}", within(slowest)))
}

/// A client that looks at the cluster often forgets the broker that left, and may wait for it all the same.
fn coordinator_stopped(scene: &Scene) -> Result<()> {
    let stops = times(2, 10)?;
    let stage = Stage::tuned(scene, "topic.metadata.refresh.interval.ms = 1000")?;
    let mut daemon = stage.daemon("c")?;
    let mut slowest = Duration::ZERO;
    for _ in 0..stops {
        stage.until_all_progress()?;
        scene.kafka.stop_one(scene.kafka.coordinator(&scene.group())?)?;
        slowest = slowest.max(goes_on(&stage)?);
        whole_again(scene.kafka)?;
    }
    stage.verdict(&mut [&mut daemon], &format!("the group's coordinator stopped {stops} times, {}", within(slowest)))
}

/// It keeps its connections and answers nothing, as a machine does whose disk hangs.
fn leader_stands_still(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("d")?;
    stage.until_all_progress()?;
    let kafka = scene.kafka;
    let leader = kafka.leader(&scene.topic("out"), 0)?;
    kafka.signal_one(leader, libc::SIGSTOP)?;
    let again = stage.until_all_progress();
    kafka.signal_one(leader, libc::SIGCONT)?;
    let again = again?;
    whole_again(kafka)?;
    stage.until_all_progress()?;
    stage.verdict(&mut [&mut daemon], &format!("leader stopped and continued, {}", within(again)))
}

fn goes_on(stage: &Stage) -> Result<Duration> {
    let again = stage.until_all_progress()?;
    ensure!(again <= GOES_ON, "each partition went on only after {again:?}");
    Ok(again)
}

fn within(again: Duration) -> String {
    format!("each partition again within {:.1} s", again.as_secs_f64())
}

/// Brings back what is down, and waits until every replica is in sync: the log that is checked is one broker's.
fn whole_again(kafka: &Kafka) -> Result<()> {
    kafka.launch()?;
    until_true("every replica is in sync", || Ok(kafka.in_sync()? == BROKERS))
}
