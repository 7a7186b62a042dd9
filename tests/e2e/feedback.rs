//! Labels: each is joined to its prediction and scored, or counted as early, duplicate, conflicting, unknown or expired.

use crate::support::daemon::{Printed, sandpiper};
use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

crate::tests![
    every_label_is_matched_or_counted_with_its_reason,
    a_label_is_scored_once_through_a_kill,
    labels_that_cannot_be_read_do_not_end_the_scoring,
    labels_that_another_hash_has_placed_are_counted_and_named,
    records_of_any_time_meet_and_a_wrong_clock_ends_nothing,
];

/// Stream time begins here.
const START: i64 = 1_700_000_000_000;

/// How many labels were of that kind.
fn labels(pipeline: &Value, kind: &str) -> u64 {
    pipeline["feedback"]["labels"][kind].as_u64().unwrap_or(0)
}

fn create(scene: &Scene) -> Result<PathBuf> {
    scene.create_usual(1)?;
    scene.create(&[("labels", 1, &[]), ("scores", 1, &[])])?;
    pipeline(scene)
}

fn pipeline(scene: &Scene) -> Result<PathBuf> {
    let feedback = format!(
        "[feedback]\nlabels = {:?}\nscores = {:?}\nwait = \"10s\"\nscore = {{ plugin = \"loss\", config = {{ metric = \"error\" }} }}\n",
        scene.topic("labels"),
        scene.topic("scores"),
    );
    scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, &feedback)
}

/// Id → (truth, loss) of each score.
fn scores(scene: &Scene) -> Result<BTreeMap<String, (String, f64)>> {
    let mut scores = BTreeMap::new();
    for record in scene.read("scores")? {
        let score = record.json()?;
        let text =
            |name: &str| score[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {score}"));
        let loss = score["loss"].as_f64().with_context(|| format!("no loss in {score}"))?;
        let before = scores.insert(text("id")?, (text("truth")?, loss));
        assert!(before.is_none(), "judged twice: {score}");
    }
    Ok(scores)
}

fn flower(id: &str, at: i64) -> Record {
    record::value(ROW).key(id).at(START + at)
}

fn label(id: &str, class: &str, at: i64) -> Record {
    record::value(class).key(id).at(START + at)
}

fn every_label_is_matched_or_counted_with_its_reason(scene: &Scene) -> Result<()> {
    let pipeline = create(scene)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.write("labels", &[label("early", "setosa", -5)])?;
    daemon.until_status(&scene.name, "the early label waits", |status| status["feedback"]["waiting"] == 1)?;

    scene.write("in", &[flower("right", 0), flower("wrong", 1), flower("early", 2), flower("unlabelled", 3)])?;
    daemon.until_status(&scene.name, "the early label is joined", |status| labels(status, "early") == 1)?;
    daemon.until_status(&scene.name, "three predictions wait", |status| status["feedback"]["waiting"] == 4)?;

    scene.write(
        "labels",
        &[
            label("right", "setosa", 100),
            label("wrong", "virginica", 101),
            label("right", "setosa", 102),
            label("wrong", "versicolor", 103),
            label("right", "no such class", 104),
            label("nobody", "setosa", 105),
        ],
    )?;
    daemon.until_status(&scene.name, "two labels are joined", |status| labels(status, "matched") == 2)?;

    // So many that are so late in stream time that everything that waits has expired.
    let late: Vec<String> = (0..20).map(|at| format!("late-{at}")).collect();
    scene.write("in", &late.iter().map(|id| flower(id, 60_000)).collect::<Vec<_>>())?;
    scene.write("labels", &late.iter().map(|id| label(id, "setosa", 60_001)).collect::<Vec<_>>())?;
    scene.write("in", &[flower("last", 60_002)])?;
    scene.write("labels", &[label("last", "setosa", 60_003)])?;
    let what = "those that wait in vain expire";
    let status = daemon
        .until_status(&scene.name, what, |status| labels(status, "unknown") > 0 && labels(status, "expired") > 0)?;
    let status = match labels(&status, "matched") {
        23 => status,
        _ => daemon.until_status(&scene.name, "the last label is joined", |status| labels(status, "matched") == 23)?,
    };
    let kinds = [("matched", 23), ("early", 1), ("duplicate", 1), ("conflicting", 2), ("unknown", 1), ("expired", 1)];
    assert_eq!(kinds.map(|(kind, _)| (kind, labels(&status, kind))), kinds, "{status:#}");

    let expected =
        [("early", "setosa", 0.0), ("last", "setosa", 0.0), ("right", "setosa", 0.0), ("wrong", "virginica", 1.0)];
    let late = late.iter().map(|id| (id.as_str(), "setosa", 0.0));
    let expected = expected.into_iter().chain(late).map(|(id, truth, loss)| (id.to_owned(), (truth.to_owned(), loss)));
    assert_eq!(scores(scene)?, expected.collect());
    let release = &status["releases"][0];
    assert_eq!(
        (&release["scored"], &release["accuracy"], &release["loss"]),
        (&24.into(), &(23.0 / 24.0).into(), &(1.0 / 24.0).into())
    );
    Ok(())
}

fn a_label_is_scored_once_through_a_kill(scene: &Scene) -> Result<()> {
    let pipeline = create(scene)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.write("in", &[flower("a", 0)])?;
    scene.write("labels", &[label("a", "setosa", 1)])?;
    daemon.until_status(&scene.name, "the first label is joined", |status| labels(status, "matched") == 1)?;
    daemon.kill9()?;

    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.write("in", &[flower("b", 2)])?;
    scene.write("labels", &[label("a", "setosa", 3), label("b", "virginica", 4)])?;
    daemon.until_status(&scene.name, "the second label is joined", |status| labels(status, "matched") == 1)?;
    let expected = [("a", "setosa", 0.0), ("b", "virginica", 1.0)];
    assert_eq!(scores(scene)?, expected.map(|(id, truth, loss)| (id.to_owned(), (truth.to_owned(), loss))).into());
    Ok(())
}

/// Far more than the share of dead letters that pauses a pipeline: nobody could resume its feedback.
fn labels_that_cannot_be_read_do_not_end_the_scoring(scene: &Scene) -> Result<()> {
    let pipeline = create(scene)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let unreadable = (0..40).map(|at| record::value([0xff, 0xfe]).key(format!("bad{at}")).at(START + at));
    scene.write("labels", &unreadable.collect::<Vec<_>>())?;
    daemon.until_status(&scene.name, "the labels are dead letters", |status| {
        status["feedback"]["worker"]["dead_letters"]["malformed-label"] == 40
    })?;
    scene.write("in", &[flower("a", 100)])?;
    scene.write("labels", &[label("a", "setosa", 101)])?;
    daemon.until_status(&scene.name, "the label behind them is joined", |status| labels(status, "matched") == 1)?;
    Ok(())
}

/// Flowers as Java's clients place their keys, labels as librdkafka does unless it is told otherwise.
fn labels_that_another_hash_has_placed_are_counted_and_named(scene: &Scene) -> Result<()> {
    scene.create_usual(4)?;
    scene.create(&[("labels", 4, &[]), ("scores", 4, &[])])?;
    let pipeline = pipeline(scene)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let ids: Vec<String> = (0..200).map(|at| format!("flower-{at}")).collect();
    scene.write("in", &ids.iter().map(|id| record::value(ROW).key(id)).collect::<Vec<_>>())?;
    daemon.until_status(&scene.name, "the predictions wait", |status| status["feedback"]["waiting"] == 200)?;

    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", scene.bootstrap()).create()?;
    for id in &ids {
        let topic = scene.topic("labels");
        let label: BaseRecord<str, str> = BaseRecord::to(&topic).key(id.as_str()).payload("setosa");
        producer.send(label).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(30))?;
    let status = daemon.until_status(&scene.name, "each label is joined or counted", |status| {
        labels(status, "matched") + labels(status, "other-partition") == 200
    })?;
    let apart = labels(&status, "other-partition");
    assert!((100..200).contains(&apart), "about three of four: {apart}");
    let both = ["CRC32 (librdkafka's default) puts 200 of 200 keys", "murmur2 (Java's clients) puts 200 of 200 keys"];
    let said = status["feedback"]["misplaced"].as_str().context("status says nothing of it")?;
    assert!(both.iter().all(|hash| said.contains(hash)), "{said}");
    let text = daemon.cli(&["status"])?;
    assert!(text.out.contains(said), "{text:?}");

    let checked = Printed::of(sandpiper().arg("check").arg(&pipeline).arg("--connect"))?;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let stand_apart = format!("of 200 ids that the last records of both have, {apart} stand apart");
    assert!(both.iter().all(|hash| checked.err.contains(hash)) && checked.err.contains(&stand_apart), "{checked:?}");
    Ok(())
}

/// In milliseconds, seconds and microseconds, never set, none, old and in the future, on the input and on the labels.
fn records_of_any_time_meet_and_a_wrong_clock_ends_nothing(scene: &Scene) -> Result<()> {
    // Else the broker refuses what is more than an hour ahead.
    const ANY: &[(&str, &str)] = &[("message.timestamp.after.max.ms", "9223372036854775807")];
    let topics = ["in", "out", "dead", "labels", "scores"].map(|topic| (topic, 1, ANY));
    scene.create(&topics)?;
    let pipeline = pipeline(scene)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?;
    let hour = 3_600_000;
    let times = [-1, 1, now / 1_000, now - 30 * 24 * hour, now + 9 * hour, now * 1_000, i64::MAX];
    // Each wrong time stands among right ones.
    let mut flowers = Vec::new();
    let mut judged = Vec::new();
    for (number, time) in times.into_iter().enumerate() {
        for (kind, flower_at, label_at) in
            [("flower", time, now), ("label", now, time), ("both", time, time), ("neither", now, now)]
        {
            let id = format!("{kind}-{number}");
            flowers.push(record::value(ROW).key(&id).at(flower_at));
            flowers.extend((0..3).map(|beside| record::value(ROW).key(format!("{id}-{beside}")).at(now)));
            judged.push(record::value("setosa").key(&id).at(label_at));
            judged.extend((0..3).map(|beside| record::value("setosa").key(format!("{id}-{beside}")).at(now)));
        }
    }
    scene.write("in", &flowers)?;
    let waiting = flowers.len();
    daemon.until_status(&scene.name, "all predictions wait", |status| status["feedback"]["waiting"] == waiting)?;
    scene.write("labels", &judged)?;
    let status = daemon.until_status(&scene.name, "all labels are joined", |status| {
        labels(status, "matched") + labels(status, "early") == waiting as u64
    })?;
    assert_eq!(scores(scene)?.len(), waiting);
    let clocks = &status["feedback"]["clocks"];
    assert!(clocks["ahead"].as_u64() >= Some(12) && clocks["missing"].as_u64() >= Some(12), "{clocks}");
    assert!(scene.read("dead")?.is_empty());
    Ok(())
}
