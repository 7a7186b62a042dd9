//! A broker that is not there, or goes away.

use crate::kafka::{Kafka, Life};
use crate::support::flowers::ROW;
use crate::support::record;
use crate::support::scene::Scene;
use crate::support::topic::Producer;
use crate::support::{until, until_true};
use anyhow::{Context, Result};

crate::tests![a_daemon_waits_for_a_broker_that_is_not_there_yet, a_broker_that_restarts_loses_and_doubles_nothing];

fn a_daemon_waits_for_a_broker_that_is_not_there_yet(scene: &Scene) -> Result<()> {
    let kafka = Kafka::prepare(&scene.directory.join("kafka"), 1, Life::Short)?;
    kafka.launch()?;
    let scene = scene.on(&kafka);
    scene.create_usual(2)?;
    kafka.stop()?;

    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let (code, body) = until("an answer to /readyz", || {
        daemon.check_alive()?;
        daemon.get("/readyz")
    })?;
    assert_eq!(code, 503, "nothing can be ready without a broker: {body}");
    assert_eq!(daemon.get("/livez")?.map(|(code, _)| code), Some(200), "waiting is no reason to be restarted");

    kafka.launch()?;
    daemon.until_ready()?;
    scene.write("in", &[record::value(ROW).on(0), record::value(ROW).on(1)])?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(scene.read("out")?.len(), 2);
    Ok(())
}

fn a_broker_that_restarts_loses_and_doubles_nothing(scene: &Scene) -> Result<()> {
    const RECORDS: usize = 20_000;
    let kafka = Kafka::start(&scene.directory.join("kafka"), Life::Short)?;
    let scene = scene.on(&kafka);
    scene.create_usual(2)?;
    // A broker that comes back while its old registration still counts has no leader for its own partitions, and then
    // drops the abort markers of transactions that time out (docs/operations.md). So none does before it is back.
    let pipeline =
        scene.flower_pipeline("", &scene.model_of("setosa")?, "[delivery]\ntransaction_timeout = \"29s\"\n")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let producer = Producer::new(&scene.bootstrap())?;
    for (part, restart) in [Kafka::stop as fn(&Kafka) -> Result<()>, Kafka::kill].into_iter().enumerate() {
        let before = committed(&scene)?;
        for at in 0..RECORDS / 2 {
            producer
                .send(&scene.topic("in"), &record::value(ROW).key(format!("{part}-{at}")).on(i32::try_from(at % 2)?))?;
        }
        until_true("something more is committed", || {
            daemon.check_alive()?;
            Ok(committed(&scene)? > before)
        })?;
        restart(&kafka)?;
        kafka.launch()?;
        producer.flush()?;
        scene.until_done(&mut [&mut daemon])?;
    }
    daemon.until_ready()?;

    let written = scene.read("in")?;
    assert_eq!(written.len(), RECORDS, "the input itself is whole");
    assert_eq!(scene.read("dead")?, []);
    let emitted = scene.read("out")?;
    let origins = |prediction: &record::Record| -> Result<(i32, i64)> {
        record::origin(prediction.json()?["origin"].as_str().context("no origin")?)
    };
    let origins: Vec<(i32, i64)> = emitted.iter().map(origins).collect::<Result<_>>()?;
    let expected: Vec<(i32, i64)> =
        written.iter().map(|record| (record.partition.unwrap_or(-1), record.offset)).collect();
    assert!(origins == expected, "{} predictions for {} records, or out of order", origins.len(), expected.len());
    Ok(())
}

fn committed(scene: &Scene) -> Result<i64> {
    Ok(scene.commits()?.iter().map(|commit| commit.offset.max(0)).sum())
}
