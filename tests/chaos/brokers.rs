//! Three brokers, three replicas of everything, of which two must be in sync: one goes at a time.

use crate::kafka::{Kafka, Life};
use crate::stage::Stage;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::Result;
use std::time::{Duration, Instant};

crate::tests![leader_killed, rolling_restart];

const BROKERS: usize = 3;

fn leader_killed(scene: &Scene) -> Result<()> {
    let kafka = start(scene)?;
    let scene = scene.on(&kafka);
    let stage = Stage::direct(&scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    kafka.kill_one(kafka.leader(&scene.topic("out"))?)?;
    let killed = Instant::now();
    stage.until_all_progress()?;
    let again = killed.elapsed();
    whole_again(&kafka)?;
    stage.until_all_progress()?;
    stage.verdict(&mut [&mut daemon], &format!("each partition again within {:.1} s", again.as_secs_f64()))
}

fn rolling_restart(scene: &Scene) -> Result<()> {
    let kafka = start(scene)?;
    let scene = scene.on(&kafka);
    let stage = Stage::direct(&scene, "")?;
    let mut daemon = stage.daemon("a")?;
    let mut slowest = Duration::ZERO;
    for broker in 0..BROKERS {
        stage.until_all_progress()?;
        kafka.stop_one(broker)?;
        slowest = slowest.max(stage.until_all_progress()?);
        whole_again(&kafka)?;
    }
    stage.verdict(&mut [&mut daemon], &format!("each partition again within {:.1} s", slowest.as_secs_f64()))
}

fn start(scene: &Scene) -> Result<Kafka> {
    let kafka = Kafka::prepare(&scene.directory.join("kafka"), BROKERS, Life::Short)?;
    kafka.launch()?;
    Ok(kafka)
}

/// Brings back what is down, and waits until every replica is in sync: the log that is checked is one broker's.
fn whole_again(kafka: &Kafka) -> Result<()> {
    kafka.launch()?;
    until_true("every replica is in sync", || Ok(kafka.in_sync()? == BROKERS))
}
