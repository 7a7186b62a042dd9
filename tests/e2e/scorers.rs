//! Scorers as releases: deployed while labels come, undone, kept over a restart, taken back when they fail, and refused.

use crate::support::daemon::{Daemon, Printed, sandpiper};
use crate::support::flowers::ROW;
use crate::support::hostile;
use crate::support::record;
use crate::support::scene::Scene;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

crate::tests![
    a_scorer_is_exchanged_under_traffic_undone_and_no_label_is_lost_or_judged_twice,
    a_deployed_scorer_stays_until_the_file_asks_for_another,
    a_scorer_that_fails_goes_alone_and_its_labels_are_judged_by_the_one_before,
    a_scorer_that_does_not_fit_is_refused_with_the_fix,
];

fn pipeline(scene: &Scene, more: &str) -> Result<PathBuf> {
    scene.create_usual(1)?;
    scene.create(&[("labels", 1, &[]), ("scores", 1, &[])])?;
    let feedback = format!(
        "[feedback]\nlabels = {:?}\nscores = {:?}\nwait = \"1h\"\nscore = {{ plugin = \"loss\", config = {{ metric = \"error\" }} }}\n{more}",
        scene.topic("labels"),
        scene.topic("scores"),
    );
    scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, &feedback)
}

/// Flowers and a label for each, by names that are given once.
#[derive(Default)]
struct Traffic {
    sent: usize,
}

impl Traffic {
    fn send(&mut self, scene: &Scene, count: usize) -> Result<()> {
        let ids: Vec<String> = (self.sent..self.sent + count).map(|at| format!("flower-{at}")).collect();
        self.sent += count;
        scene.write("in", &ids.iter().map(|id| record::value(ROW).key(id)).collect::<Vec<_>>())?;
        scene.write("labels", &ids.iter().map(|id| record::value("virginica").key(id)).collect::<Vec<_>>())
    }

    /// Sends, and waits until there is a score for everything that was sent since the daemon started.
    fn judge(&mut self, scene: &Scene, daemon: &mut Daemon, count: usize) -> Result<()> {
        let before = joined(&daemon.pipeline(&scene.name)?);
        self.send(scene, count)?;
        until_joined(scene, daemon, before + count as u64)
    }
}

fn joined(status: &Value) -> u64 {
    ["matched", "early"].iter().filter_map(|kind| status["feedback"]["labels"][kind].as_u64()).sum()
}

fn until_joined(scene: &Scene, daemon: &mut Daemon, count: u64) -> Result<()> {
    daemon.until_status(&scene.name, "every label is joined", |status| joined(status) >= count).map(drop)
}

/// Waits until the feedback's worker runs that revision; its status.
fn until_scored_by(scene: &Scene, daemon: &mut Daemon, revision: u64) -> Result<Value> {
    daemon.until_status(&scene.name, &format!("revision {revision} scores"), |status| {
        status["feedback"]["worker"]["revision"] == revision
    })
}

/// Scorer and loss of each score, in their order; fails where one was judged twice or not at all.
fn scores(scene: &Scene, sent: usize) -> Result<Vec<(String, f64)>> {
    let mut records = scene.read("scores")?;
    records.sort_by_key(|record| record.offset);
    let (mut ids, mut all) = (BTreeSet::new(), Vec::new());
    for record in records {
        let score = record.json()?;
        let text =
            |name: &str| score[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {score}"));
        ensure!(ids.insert(text("id")?), "judged twice: {score}");
        all.push((text("scorer")?, score["loss"].as_f64().context("no loss")?));
    }
    ensure!(ids.len() == sent, "{} of {sent} have a score", ids.len());
    ensure!(scene.read("dead")?.is_empty(), "there are dead letters");
    Ok(all)
}

/// The scorers in the order in which they judged.
fn scorers(scores: &[(String, f64)]) -> Vec<&str> {
    let mut names: Vec<&str> = scores.iter().map(|(scorer, _)| scorer.as_str()).collect();
    names.dedup();
    names
}

fn history(scene: &Scene, daemon: &mut Daemon) -> Result<Vec<Value>> {
    let lines = daemon.cli(&["history", &scene.name, "-o", "json"])?.json()?;
    lines.as_array().cloned().context("no lines")
}

const BRIER: [&str; 4] = ["--score", "loss", "--config", "score.metric=brier"];

fn a_scorer_is_exchanged_under_traffic_undone_and_no_label_is_lost_or_judged_twice(scene: &Scene) -> Result<()> {
    let mut daemon = scene.daemon("a", &pipeline(scene, "")?)?;
    let mut traffic = Traffic::default();
    traffic.judge(scene, &mut daemon, 50)?;
    let commits = scene.commits()?;

    let arguments = ["deploy", &scene.name, "--reason", "judge probabilities", "-o", "json"];
    let mut deploying = daemon.start_cli(&[&arguments[..], &BRIER[..]].concat())?;
    while deploying.try_wait()?.is_none() {
        traffic.send(scene, 20)?;
    }
    ensure!(deploying.wait()?.success(), "the deployment was refused\n{}", daemon.log_tail());
    until_scored_by(scene, &mut daemon, 2)?;
    traffic.send(scene, 50)?;
    until_joined(scene, &mut daemon, traffic.sent as u64)?;
    let undone = daemon.cli(&["rollout", "undo", &scene.name, "--reason", "error was better"])?;
    ensure!(undone.code == Some(0), "{undone:?}");
    let status = until_scored_by(scene, &mut daemon, 3)?;
    traffic.send(scene, 50)?;
    until_joined(scene, &mut daemon, traffic.sent as u64)?;

    let scores = scores(scene, traffic.sent)?;
    let order = scorers(&scores);
    assert_eq!(order.len(), 3, "{order:?}");
    assert!(order[0] == order[2] && order[0] != order[1], "{order:?}");
    assert!(order.iter().all(|scorer| scorer.starts_with("loss@")), "{order:?}");
    for (scorer, loss) in &scores {
        let is_error = *loss == 1.0;
        assert_eq!(is_error, scorer == order[0], "{scorer} says {loss}");
    }
    // The feedback's group is not the main loop's, whose offsets name what makes predictions.
    let digest = |commits: &[crate::support::topic::Commit]| -> BTreeSet<String> {
        let metadata = commits.iter().filter(|commit| commit.metadata.starts_with('r'));
        metadata.filter_map(|commit| Some(commit.metadata.split_once(' ')?.1.to_owned())).collect()
    };
    assert_eq!(digest(&scene.commits()?), digest(&commits), "a scorer is no part of it");

    let releases = status["releases"].as_array().context("no releases")?.last().cloned().context("none")?;
    assert_eq!(releases["releases"]["score"], order[0], "{releases}");
    let lines = history(scene, &mut daemon)?;
    let metrics: Vec<&str> =
        lines.iter().filter_map(|line| line["releases"]["score"]["config"]["metric"].as_str()).collect();
    assert_eq!(metrics, ["error", "brier", "error"], "{lines:#?}");
    let text = daemon.cli(&["history", &scene.name])?;
    assert!(order.iter().all(|scorer| text.out.contains(&format!("score {scorer}"))), "{text:?}");
    Ok(())
}

fn check(daemon: &Daemon, pipeline: &Path) -> Result<Printed> {
    Printed::of(sandpiper().arg("check").arg(pipeline).arg("--state").arg(&daemon.state))
}

fn a_deployed_scorer_stays_until_the_file_asks_for_another(scene: &Scene) -> Result<()> {
    let pipeline = pipeline(scene, "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let virginica = scene.model_of("virginica")?;
    assert_eq!(daemon.deploy(&scene.name, &["--model", &virginica.to_string_lossy()])?, 2);
    assert_eq!(daemon.deploy(&scene.name, &BRIER)?, 3);
    let restart = |mut daemon: Daemon| -> Result<Daemon> {
        daemon.sigterm()?;
        assert!(daemon.wait_exit()?.success());
        scene.daemon("a", &pipeline)
    };
    let mut daemon = restart(daemon)?;
    let status = until_scored_by(scene, &mut daemon, 3)?;
    let asked = status["file_asks_for"].as_str().unwrap_or_default();
    assert!(asked.contains("score loss@"), "{asked:?}");
    let checked = check(&daemon, &pipeline)?;
    assert!(checked.code == Some(0) && checked.out.contains("score loss@"), "{checked:?}");
    let mut traffic = Traffic::default();
    traffic.judge(scene, &mut daemon, 20)?;
    let brier = scores(scene, traffic.sent)?;
    assert!(brier.iter().all(|(_, loss)| *loss < 0.1), "virginica is right, and brier says how right: {brier:?}");

    let text = std::fs::read_to_string(&pipeline)?;
    std::fs::write(&pipeline, text.replace("metric = \"error\"", "metric = \"log-loss\""))?;
    let mut daemon = restart(daemon)?;
    until_scored_by(scene, &mut daemon, 4)?;
    traffic.judge(scene, &mut daemon, 20)?;
    let lines = history(scene, &mut daemon)?;
    let last = lines.last().context("no line")?;
    assert_eq!(last["releases"]["score"]["config"]["metric"], "log-loss", "{last:#}");
    assert_eq!(last["releases"]["classify"], lines[2]["releases"]["classify"], "the model that was deployed stays");
    let scores = scores(scene, traffic.sent)?;
    assert_eq!(scorers(&scores).len(), 2, "{scores:?}");
    Ok(())
}

fn a_scorer_that_fails_goes_alone_and_its_labels_are_judged_by_the_one_before(scene: &Scene) -> Result<()> {
    let mut daemon = scene.daemon("a", &pipeline(scene, "")?)?;
    let mut traffic = Traffic::default();
    traffic.judge(scene, &mut daemon, 20)?;
    let bad = hostile::hostile("scorer")?;
    let bad = ["--score", &bad.to_string_lossy(), "--config", "score.do=\"trap\""];
    assert_eq!(daemon.deploy(&scene.name, &bad)?, 2);
    until_scored_by(scene, &mut daemon, 2)?;
    traffic.judge(scene, &mut daemon, 50)?;
    let status = until_scored_by(scene, &mut daemon, 3)?;
    assert!(status.get("paused").is_none(), "{status:#}");
    let scores = scores(scene, traffic.sent)?;
    assert_eq!(scorers(&scores).len(), 1, "what traps writes nothing: {scores:?}");
    let lines = history(scene, &mut daemon)?;
    assert!(lines[1]["failed"].as_str().is_some_and(|why| why.contains("plugin-trap")), "{lines:#?}");
    assert_eq!(lines[2]["releases"], lines[0]["releases"]);
    assert_eq!(status["workers"][0]["dead_letters"], serde_json::json!({}));
    Ok(())
}

fn a_scorer_that_does_not_fit_is_refused_with_the_fix(scene: &Scene) -> Result<()> {
    let steps = "[rollout]\n[[rollout.step]]\npause = true\n";
    let mut daemon = scene.daemon("a", &pipeline(scene, steps)?)?;
    let csv = hostile::stock("csv")?;
    let csv = csv.to_string_lossy();
    let virginica = scene.model_of("virginica")?;
    let virginica = virginica.to_string_lossy();
    let refusals: [(&[&str], &[&str]); 4] = [
        (&["--score", &csv], &["stage score: ", "cannot be a scorer"]),
        (&["--config", "score.metric=brie"], &["stage score: ", "brie"]),
        (&["--score", "los"], &["stage score: ", "loss"]),
        (&[&BRIER[..], &["--model", &virginica]].concat(), &["classify", "--now"]),
    ];
    for (arguments, words) in refusals {
        let printed = daemon.cli(&[&["deploy", &scene.name, "--reason", "a test"][..], arguments].concat())?;
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(words.iter().all(|word| printed.err.contains(word)), "{words:?}: {printed:?}");
    }
    assert_eq!(daemon.pipeline(&scene.name)?["revision"], 1);
    // Alone it waits for no step, and at once it comes with a candidate.
    assert_eq!(daemon.deploy(&scene.name, &BRIER)?, 2);
    assert!(daemon.pipeline(&scene.name)?.get("rollout").is_none());
    let both = ["--score", "loss", "--config", "score.metric=log-loss", "--model", &virginica, "--now"];
    assert_eq!(daemon.deploy(&scene.name, &both)?, 3);

    let other = scene.part("plain");
    other.create_usual(1)?;
    let mut daemon = other.daemon("b", &other.flower_pipeline("", &other.model_of("setosa")?, "")?)?;
    let printed = daemon.cli(&[&["deploy", &other.name, "--reason", "a test"][..], &BRIER[..]].concat())?;
    assert!(printed.code == Some(1) && printed.err.contains("no [feedback]"), "{printed:?}");
    Ok(())
}
