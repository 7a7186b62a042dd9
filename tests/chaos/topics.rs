//! Topics that are missing, are deleted or grow: the status names them, and the pipeline goes on where it can.

use crate::load_test::{LoadTest, PARTITIONS, until_status_reports};
use crate::matrix::{SeededRandom, record_result, times};
use crate::support::daemon::{Daemon, dead_letters};
use crate::support::flowers::ROW;
use crate::support::record;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};

crate::tests![
    missing_topic,
    deleted_output_topic,
    deleted_input_topic,
    deleted_input_topic_of_an_idle_daemon,
    grown_input_topic,
    outputs_that_the_broker_refuses,
];

/// The output topic's `max.message.bytes`, once the daemon runs.
const LIMIT: usize = 65_536;

fn missing_topic(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 2, &[]), ("dead", 2, &[])])?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let status = until_status_reports(&mut daemon, &scene.name, "starting", &scene.topic("out"))?;
    record_result(&scene.name, &status["last_error"].to_string());
    // The daemon waits for the topic.
    scene.create(&[("out", 2, &[])])?;
    scene.write("in", &[record::value(ROW).key("0").on(0)])?;
    scene.until_done(&mut [&mut daemon])
}

fn deleted_output_topic(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    scene.kafka.delete_topic(&scene.topic("out"))?;
    // Nothing else runs, so that whatever supervises the process has to see it.
    let status = daemon.wait_exit()?;
    ensure!(status.code() == Some(3), "{status}");
    let named = format!("{} does not exist", scene.topic("out"));
    ensure!(daemon.log_tail().contains(&named), "{}", daemon.log_tail());
    // Nor does it help to start it again, but it says why.
    let mut daemon = scene.unready_daemon("a", &test.pipeline)?;
    until_true("it is not ready and says why", || {
        Ok(daemon.get("/readyz")?.is_some_and(|(code, body)| code == 503 && body.contains(&named)))
    })?;
    record_result(&scene.name, &format!("ends with {status}: {named}"));
    Ok(())
}

fn deleted_input_topic(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let daemon = test.daemon("a")?;
    test.until_all_progress()?;
    // This also stops the load.
    drop(test);
    names_the_topic_and_waits(scene, daemon)
}

/// No transaction is open whose failure would show it.
fn deleted_input_topic_of_an_idle_daemon(scene: &Scene) -> Result<()> {
    let mut test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    test.drain(&mut [&mut daemon])?;
    names_the_topic_and_waits(scene, daemon)
}

fn names_the_topic_and_waits(scene: &Scene, mut daemon: Daemon) -> Result<()> {
    scene.kafka.delete_topic(&scene.topic("in"))?;
    let gone = format!("topic {} does not exist any more; create it again", scene.topic("in"));
    // It recovers where a transaction was open and could not commit.
    let status = daemon.until_status(&scene.name, "it waits for the topic and names it", |status| {
        (status["state"] == "starting" || status["state"] == "recovering")
            && status["last_error"].as_str().is_some_and(|error| error.contains(&gone))
    })?;
    record_result(&scene.name, &status["last_error"].to_string());
    until_true("the daemon is not ready", || Ok(!daemon.is_ready()?))?;
    scene.create(&[("in", PARTITIONS, &[])])?;
    let records: Vec<_> = (0..PARTITIONS).map(|at| record::value(ROW).key("0").on(at)).collect();
    scene.write("in", &records)?;
    scene.until_done(&mut [&mut daemon])?;
    daemon.until_ready()
}

fn grown_input_topic(scene: &Scene) -> Result<()> {
    // By default clients refresh their metadata only every five minutes.
    let test = LoadTest::tuned(scene, "topic.metadata.refresh.interval.ms = 2000")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    scene.kafka.grow_topic(&scene.topic("in"), 5)?;
    let status = until_status_reports(&mut daemon, &scene.name, "starting", "make them equal")?;
    ensure!(!daemon.is_ready()?, "what waits for a person is not ready");
    scene.kafka.grow_topic(&scene.topic("out"), 5)?;
    daemon.until_ready()?;
    test.until_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("{}, and then it goes on", status["last_error"]))
}

/// The topic's limit is lowered after the daemon has read it, so that it is the broker that refuses what is too large.
fn outputs_that_the_broker_refuses(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    scene.kafka.configure_topic(&scene.topic("out"), "max.message.bytes", &LIMIT.to_string())?;
    let refused = times(5, 50)?;
    let mut random = SeededRandom::new(&scene.name)?;
    for at in 0..refused {
        // The prediction carries its record's key, which no compression makes smaller; the dead letters' topic takes it.
        let key: String = (0..LIMIT).map(|_| char::from(b'0' + random.below(75) as u8)).collect();
        scene.write("in", &[record::value(ROW).key(key).on((at % 4) as i32)])?;
        test.until_all_progress()?;
    }
    let status = daemon.until_status(&scene.name, "each is a dead letter", |status| {
        dead_letters(status, "refused-by-broker") >= refused as u64
    })?;
    ensure!(dead_letters(&status, "refused-by-broker") == refused as u64, "{status}");
    test.assert_exactly_once(&mut [&mut daemon], &format!("{refused} dead letters"))
}
