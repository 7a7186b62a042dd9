//! Labels: each is joined to its prediction and scored, or counted as early, duplicate, conflicting, unknown or expired.

use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

crate::tests![
    every_label_is_matched_or_counted_with_its_reason,
    a_label_is_scored_once_through_a_kill,
    labels_that_cannot_be_read_do_not_end_the_scoring
];

/// Stream time begins here.
const START: i64 = 1_700_000_000_000;

/// How many labels were of that kind.
fn labels(pipeline: &Value, kind: &str) -> u64 {
    pipeline["feedback"]["labels"][kind].as_u64().unwrap_or(0)
}

fn create(scene: &Scene) -> Result<std::path::PathBuf> {
    scene.create_usual(1)?;
    scene.create(&[("labels", 1, &[]), ("scores", 1, &[])])?;
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

    // So late in stream time that everything that waits has expired.
    scene.write("in", &[flower("last", 60_000)])?;
    scene.write("labels", &[label("last", "setosa", 60_001)])?;
    let what = "those that wait in vain expire";
    let status = daemon
        .until_status(&scene.name, what, |status| labels(status, "unknown") > 0 && labels(status, "expired") > 0)?;
    let status = match labels(&status, "matched") {
        3 => status,
        _ => daemon.until_status(&scene.name, "the last label is joined", |status| labels(status, "matched") == 3)?,
    };
    let kinds = [("matched", 3), ("early", 1), ("duplicate", 1), ("conflicting", 2), ("unknown", 1), ("expired", 1)];
    assert_eq!(kinds.map(|(kind, _)| (kind, labels(&status, kind))), kinds, "{status:#}");

    let expected =
        [("early", "setosa", 0.0), ("last", "setosa", 0.0), ("right", "setosa", 0.0), ("wrong", "virginica", 1.0)];
    assert_eq!(scores(scene)?, expected.map(|(id, truth, loss)| (id.to_owned(), (truth.to_owned(), loss))).into());
    let release = &status["releases"][0];
    assert_eq!((&release["scored"], &release["accuracy"], &release["loss"]), (&4.into(), &0.75.into(), &0.25.into()));
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
