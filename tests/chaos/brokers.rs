//! Three brokers, three replicas of everything, of which two must be in sync: one goes at a time.

use crate::kafka::{Kafka, Life};
use crate::stage::Stage;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::Result;
use std::time::Duration;

crate::tests![one_of_three_brokers_goes];

const BROKERS: usize = 3;

fn one_of_three_brokers_goes(scene: &Scene) -> Result<()> {
    let kafka = Kafka::prepare(&scene.directory.join("kafka"), BROKERS, Life::Short)?;
    kafka.launch()?;
    leader_killed(&scene.on(&kafka).part("killed"), &kafka)?;
    rolling_restart(&scene.on(&kafka).part("rolling"), &kafka)
}

fn leader_killed(scene: &Scene, kafka: &Kafka) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    kafka.kill_one(kafka.leader(&scene.topic("out"))?)?;
    let again = stage.until_all_progress()?;
    whole_again(kafka)?;
    stage.until_all_progress()?;
    stage.verdict(
        &mut [&mut daemon],
        &format!("leader killed, each partition again within {:.1} s", again.as_secs_f64()),
    )
}

fn rolling_restart(scene: &Scene, kafka: &Kafka) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("b")?;
    let mut slowest = Duration::ZERO;
    for broker in 0..BROKERS {
        stage.until_all_progress()?;
        kafka.stop_one(broker)?;
        slowest = slowest.max(stage.until_all_progress()?);
        whole_again(kafka)?;
    }
    let figures = format!("three restarts, each partition again within {:.1} s", slowest.as_secs_f64());
    stage.verdict(&mut [&mut daemon], &figures)
}

/// Brings back what is down, and waits until every replica is in sync: the log that is checked is one broker's.
fn whole_again(kafka: &Kafka) -> Result<()> {
    kafka.launch()?;
    until_true("every replica is in sync", || Ok(kafka.in_sync()? == BROKERS))
}
