//! Labels: each is joined to its prediction and judged, or counted as what else it is.

use crate::support::flowers::ROW;
use crate::support::record;
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

crate::tests![every_label_is_matched_or_counted_as_what_it_is, a_label_is_joined_once_through_a_restart];

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
        let text = |name: &str| score[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {score}"));
        let loss = score["loss"].as_f64().with_context(|| format!("no loss in {score}"))?;
        let before = scores.insert(text("id")?, (text("truth")?, loss));
        assert!(before.is_none(), "judged twice: {score}");
    }
    Ok(scores)
}

fn every_label_is_matched_or_counted_as_what_it_is(scene: &Scene) -> Result<()> {
    let pipeline = create(scene)?;
    let flower = |id: &str, at: i64| record::value(ROW).key(id).at(START + at);
    let label = |id: &str, class: &str, at: i64| record::value(class).key(id).at(START + at);
    let mut daemon = scene.daemon("a", &pipeline)?;
    // By time, since the side that is behind is read first.
    scene.write("labels", &[
        label("early", "setosa", -5),
        label("right", "setosa", 100),
        label("wrong", "virginica", 101),
        label("right", "setosa", 102),
        label("wrong", "versicolor", 103),
        label("nobody", "setosa", 104),
        // So late that whoever waits has waited enough.
        label("last", "setosa", 60_001),
    ])?;
    scene.write("in", &[flower("right", 0), flower("wrong", 1), flower("early", 2), flower("unlabelled", 3), flower("last", 60_000)])?;

    let what = "the last label is joined, and the one for nobody given up";
    let status = daemon.until_status(&scene.name, what, |status| labels(status, "unknown") > 0 && scores(scene).is_ok_and(|all| all.len() >= 4))?;
    let counts = ["matched", "early", "duplicate", "conflicting", "unknown"].map(|kind| (kind, labels(&status, kind)));
    assert_eq!(counts, [("matched", 4), ("early", 1), ("duplicate", 1), ("conflicting", 1), ("unknown", 1)], "{status:#}");
    let expected = [("early", "setosa", 0.0), ("last", "setosa", 0.0), ("right", "setosa", 0.0), ("wrong", "virginica", 1.0)];
    let expected = expected.map(|(id, truth, loss)| (id.to_owned(), (truth.to_owned(), loss)));
    assert_eq!(scores(scene)?, expected.into());
    Ok(())
}

fn a_label_is_joined_once_through_a_restart(scene: &Scene) -> Result<()> {
    let pipeline = create(scene)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.write("in", &[record::value(ROW).key("a").at(START), record::value(ROW).key("b").at(START + 1)])?;
    scene.write("labels", &[record::value("setosa").key("a").at(START + 2)])?;
    daemon.until_status(&scene.name, "the first label is joined", |status| labels(status, "matched") == 1)?;
    daemon.kill9()?;

    let mut daemon = scene.daemon("a", &pipeline)?;
    let late = [record::value("virginica").key("b").at(START + 3), record::value("setosa").key("a").at(START + 4)];
    scene.write("labels", &late)?;
    let what = "the prediction that was made before the restart is found";
    daemon.until_status(&scene.name, what, |_| scores(scene).is_ok_and(|all| all.len() == 2))?;
    let expected = [("a", "setosa", 0.0), ("b", "virginica", 1.0)];
    assert_eq!(scores(scene)?, expected.map(|(id, truth, loss)| (id.to_owned(), (truth.to_owned(), loss))).into());
    Ok(())
}
