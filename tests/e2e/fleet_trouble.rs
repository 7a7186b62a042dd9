//! Several daemons of one pipeline when something goes wrong beside a command: two rollouts at once, a daemon that comes in the
//! middle of one, an artifact that is lost.

use crate::fleet::Fleet;
use crate::support::flowers::{self, ROW};
use crate::support::record;
use crate::support::scene::Scene;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Child;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sandpiper::config::plan::Properties;
use sandpiper::control::fold::Artifact;
use sandpiper::control::journal::kafka::artifacts;
use sandpiper_sandbox::Digest;

crate::tests![
    of_two_rollouts_begun_at_once_one_is_accepted_and_of_two_words_at_once_too,
    a_daemon_that_joins_in_a_canary_keeps_every_keys_arm,
    a_lost_artifact_keeps_a_newcomer_out_until_the_file_is_deployed_again,
    an_artifact_comes_whole_or_not_at_all,
];

/// What of several commands was accepted, and what the others were told.
fn outcomes(commands: Vec<Child>) -> Result<(usize, String)> {
    let (mut accepted, mut refused) = (0, String::new());
    for command in commands {
        let output = command.wait_with_output()?;
        if output.status.success() {
            accepted += 1;
        } else {
            ensure!(output.status.code() == Some(1), "{output:?}");
            refused.push_str(&String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok((accepted, refused))
}

fn of_two_rollouts_begun_at_once_one_is_accepted_and_of_two_words_at_once_too(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 2, "[[rollout.step]]\nshadow = \"1h\"\n")?;
    fleet.until_all_run(1)?;
    let models = [scene.model_of("virginica")?, scene.model_of("versicolor")?];
    let mut begun = Vec::new();
    for (daemon, model) in fleet.daemons.iter_mut().zip(&models) {
        let model = model.to_string_lossy();
        begun.push(daemon.start_cli(&["deploy", &scene.name, "--model", &model, "--reason", "at once"])?);
    }
    let (accepted, refused) = outcomes(begun)?;
    ensure!(accepted == 1, "{accepted} of two were accepted: {refused}");
    let is_said = refused.contains("rollout abort") || refused.contains("became current while this one was on its way");
    ensure!(is_said, "{refused}");
    fleet.until_all_run(2)?;
    let mut rollouts = Vec::new();
    for daemon in &mut fleet.daemons {
        rollouts.push(daemon.pipeline(&scene.name)?["rollout"]["id"].clone());
    }
    assert_eq!(rollouts, [2, 2]);
    let mut words = Vec::new();
    for (daemon, word) in fleet.daemons.iter_mut().zip(["promote", "abort"]) {
        words.push(daemon.start_cli(&["rollout", word, &scene.name, "--reason", "at once"])?);
    }
    let (accepted, refused) = outcomes(words)?;
    ensure!(accepted == 1, "{accepted} of two words were accepted: {refused}");
    fleet.until_all_run(3)?;
    for daemon in &mut fleet.daemons {
        daemon.until_status(&scene.name, "the rollout is over", |status| status["rollout"].is_null())?;
    }
    fleet.send("after")?;
    fleet.one_history().map(drop)
}

/// Key → whose answer counted, of what was written after that many records.
fn arms(fleet: &Fleet, skip: usize) -> Result<Vec<(String, String)>> {
    let mut records = fleet.scene.read("out")?;
    records.sort_by_key(|record| record.timestamp);
    let mut found = Vec::new();
    for record in records.iter().skip(skip) {
        let value: Value = record.json()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned).context("a field is missing");
        found.push((text("id")?, text("role")?));
    }
    found.sort();
    Ok(found)
}

fn a_daemon_that_joins_in_a_canary_keeps_every_keys_arm(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 1, "[[rollout.step]]\ncanary = 0.5\nhold = \"1h\"\n")?;
    let canary = fleet.daemons[0].deploy(&scene.name, &["--model", &flowers::model().to_string_lossy()])?;
    fleet.until_all_run(canary)?;
    let row = |at: i32| record::value(ROW).key(format!("key-{at}")).on(at % 4);
    let rows: Vec<_> = (0..60).map(row).collect();
    scene.write("in", &rows)?;
    fleet.until_done()?;
    let before = arms(&fleet, 0)?;
    let late = fleet.spawn("late")?;
    fleet.daemons.push(late);
    fleet.daemons[1].until_ready()?;
    fleet.until_all_run(canary)?;
    fleet.daemons[1].until_status(&scene.name, "it has partitions", |status| {
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().any(|worker| worker["partitions"].as_array().is_some_and(|all| !all.is_empty()))
    })?;
    scene.write("in", &rows)?;
    fleet.until_done()?;
    let after = arms(&fleet, before.len())?;
    assert_eq!(before, after);
    assert!(before.iter().any(|(_, role)| role == "challenger") && before.iter().any(|(_, role)| role == "champion"));
    // It knows the rollout, and its word counts.
    fleet.cli(1, &["rollout", "abort", &scene.name, "--reason", "a test"])?;
    fleet.until_all_run(canary + 1)?;
    fleet.one_history().map(drop)
}

fn a_lost_artifact_keeps_a_newcomer_out_until_the_file_is_deployed_again(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 1, "")?;
    assert_eq!(fleet.deploy(0, "virginica")?, 2);
    fleet.send("before")?;
    scene.kafka.delete_topic(&scene.topic("control.artifacts"))?;
    scene.create(&[("control.artifacts", 1, &[("cleanup.policy", "compact")])])?;
    let late = fleet.spawn("late")?;
    fleet.daemons.push(late);
    fleet.daemons[1].until_status(&scene.name, "it says what it lacks", |status| {
        status["last_error"].as_str().is_some_and(|why| why.contains("deploy the file again"))
    })?;
    // The others are not held up.
    let rows: Vec<_> = (0..4).map(|at| record::value(ROW).key(format!("while-{at}")).on(at)).collect();
    scene.write("in", &rows)?;
    scene.until_done(&mut [&mut fleet.daemons[0]])?;
    let model = scene.model_of("virginica")?;
    let printed =
        fleet.daemons[0].cli(&["deploy", &scene.name, "--model", &model.to_string_lossy(), "--reason", "x"])?;
    ensure!(printed.err.contains("runs exactly this already"), "{printed:?}");
    fleet.daemons[1].until_ready()?;
    fleet.until_all_run(2)?;
    fleet.send("after")?;
    let predictions = fleet.predictions()?;
    assert_eq!(predictions.len(), 12);
    assert!(predictions.values().all(|(class, revision)| (class.as_str(), *revision) == ("virginica", 2)));
    Ok(())
}

/// Chunks of an upload, written by hand in a transaction that is committed or not.
fn write_chunks(scene: &Scene, upload: &str, chunks: &[&[u8]], commit: bool) -> Result<()> {
    let wait = Duration::from_secs(30);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", scene.bootstrap())
        .set("transactional.id", format!("{}.{upload}", scene.name))
        .create()?;
    producer.init_transactions(wait)?;
    producer.begin_transaction()?;
    for (at, chunk) in chunks.iter().enumerate() {
        let key = artifacts::key(upload, at as u32);
        producer
            .send(BaseRecord::to(&scene.topic("artifacts")).partition(0).key(&key).payload(*chunk))
            .map_err(|(error, _)| error)?;
    }
    producer.flush(wait)?;
    let ended = if commit { producer.commit_transaction(wait) } else { producer.abort_transaction(wait) };
    Ok(ended?)
}

fn an_artifact_comes_whole_or_not_at_all(scene: &Scene) -> Result<()> {
    scene.create(&[("artifacts", 1, &[("cleanup.policy", "compact")])])?;
    let topic = scene.topic("artifacts");
    let properties = |more: [(&str, String); 1]| {
        let all = more.into_iter().chain([("bootstrap.servers", scene.bootstrap())]);
        Properties(all.map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let writer = properties([("transactional.id", format!("{}.giver", scene.name))]);
    let reader = || properties([("group.id", scene.name.clone())]);
    // Two chunks and a half, and none.
    let large: Vec<u8> = (0..1_300_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    for bytes in [large.as_slice(), b""] {
        let digest = Digest::of(bytes);
        let artifact = artifacts::give(&writer, &topic, "iris", digest, bytes)?;
        assert_eq!((artifact.chunks, artifact.bytes), (if bytes.is_empty() { 1 } else { 3 }, bytes.len() as u64));
        assert_eq!(artifacts::take(&reader(), &topic, digest, &artifact)?, bytes);
    }
    let take = |upload: &str| {
        let artifact = Artifact { upload: upload.to_owned(), offset: 0, chunks: 2, bytes: 6, at: 0 };
        artifacts::take(&reader(), &topic, Digest::of(b"abcdef"), &artifact)
    };
    let refused = |upload: &str| take(upload).map(drop).unwrap_err().to_string();
    write_chunks(scene, "whole", &[b"abc", b"def"], true)?;
    assert_eq!(take("whole")?, b"abcdef");
    write_chunks(scene, "corrupt", &[b"abc", b"dxf"], true)?;
    let said = refused("corrupt");
    assert!(said.contains("is damaged") && said.contains("deploy the file again"), "{said}");
    write_chunks(scene, "short", &[b"abc"], true)?;
    let said = refused("short");
    assert!(said.contains("chunk 1 of 2 is missing"), "{said}");
    // Whoever wrote it died before it was whole.
    write_chunks(scene, "half", &[b"abc", b"def"], false)?;
    let said = refused("half");
    assert!(said.contains("chunk 0 of 2 is missing"), "{said}");
    Ok(())
}
