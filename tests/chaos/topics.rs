//! Topics that are not there, go, or grow: the status says so, and what can go on does.

use crate::course::{Dice, note, times};
use crate::stage::{PARTITIONS, Stage, until_says};
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

/// Of the output topic, once the daemon runs.
const LIMIT: usize = 65_536;

fn missing_topic(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 2, &[]), ("dead", 2, &[])])?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let status = until_says(&mut daemon, &scene.name, "starting", &scene.topic("out"))?;
    note(&scene.name, &status["last_error"].to_string());
    // It is waited for.
    scene.create(&[("out", 2, &[])])?;
    scene.write("in", &[record::value(ROW).key("0").on(0)])?;
    scene.until_done(&mut [&mut daemon])
}

fn deleted_output_topic(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    scene.kafka.delete_topic(&scene.topic("out"))?;
    let status = until_says(&mut daemon, &scene.name, "failed", &format!("{} does not exist", scene.topic("out")))?;
    note(&scene.name, &status["last_error"].to_string());
    until_true("the daemon is not ready", || Ok(!daemon.is_ready()?))
}

fn deleted_input_topic(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    // Its feeder, too.
    drop(stage);
    names_the_topic_and_waits(scene, daemon)
}

/// No transaction fails that would tell of it.
fn deleted_input_topic_of_an_idle_daemon(scene: &Scene) -> Result<()> {
    let mut stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    stage.rest(&mut [&mut daemon])?;
    names_the_topic_and_waits(scene, daemon)
}

fn names_the_topic_and_waits(scene: &Scene, mut daemon: Daemon) -> Result<()> {
    scene.kafka.delete_topic(&scene.topic("in"))?;
    let gone = format!("topic {} does not exist any more; create it again", scene.topic("in"));
    // A transaction that was open could not commit, and is recovered from.
    let status = daemon.until_status(&scene.name, "it waits for the topic and names it", |status| {
        (status["state"] == "starting" || status["state"] == "recovering")
            && status["last_error"].as_str().is_some_and(|error| error.contains(&gone))
    })?;
    note(&scene.name, &status["last_error"].to_string());
    until_true("the daemon is not ready", || Ok(!daemon.is_ready()?))?;
    scene.create(&[("in", PARTITIONS, &[])])?;
    let again: Vec<_> = (0..PARTITIONS).map(|at| record::value(ROW).key("0").on(at)).collect();
    scene.write("in", &again)?;
    scene.until_done(&mut [&mut daemon])?;
    daemon.until_ready()
}

fn grown_input_topic(scene: &Scene) -> Result<()> {
    // By default clients look after five minutes.
    let stage = Stage::tuned(scene, "topic.metadata.refresh.interval.ms = 2000")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    scene.kafka.grow_topic(&scene.topic("in"), 5)?;
    let status = until_says(&mut daemon, &scene.name, "failed", "make them equal")?;
    drop(daemon);
    scene.kafka.grow_topic(&scene.topic("out"), 5)?;
    let mut daemon = stage.daemon("a")?;
    stage.until_progress()?;
    stage.verdict(&mut [&mut daemon], &format!("{}, and then it goes on", status["last_error"]))
}

/// The daemon knows its topic's limit from before it was lowered, so that the broker finds what is too large.
fn outputs_that_the_broker_refuses(scene: &Scene) -> Result<()> {
    let stage = Stage::direct(scene, "")?;
    let mut daemon = stage.daemon("a")?;
    stage.until_all_progress()?;
    scene.kafka.configure_topic(&scene.topic("out"), "max.message.bytes", &LIMIT.to_string())?;
    let refused = times(5, 50)?;
    let mut dice = Dice::new(&scene.name)?;
    for at in 0..refused {
        // The prediction carries its record's key, which no compression makes smaller; the dead letters' topic takes it.
        let key: String = (0..LIMIT).map(|_| char::from(b'0' + dice.below(75) as u8)).collect();
        scene.write("in", &[record::value(ROW).key(key).on((at % 4) as i32)])?;
        stage.until_all_progress()?;
    }
    let status = daemon.until_status(&scene.name, "each is a dead letter", |status| {
        dead_letters(status, "refused-by-broker") >= refused as u64
    })?;
    ensure!(dead_letters(&status, "refused-by-broker") == refused as u64, "{status}");
    stage.verdict(&mut [&mut daemon], &format!("{refused} dead letters"))
}
