//! What pauses a pipeline: a release that fails, too many dead letters, a record to stop at, an operator.

use crate::support::daemon::Daemon;
use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use std::path::PathBuf;

crate::tests![
    a_bad_deploy_costs_no_record,
    a_first_release_that_fails_pauses_and_the_next_one_takes_its_records,
    dead_letters_above_their_share_pause_the_pipeline,
    a_record_to_stop_at_is_taken_by_the_release_that_can,
    a_pause_keeps_its_place_through_a_restart,
    a_partition_that_was_paused_here_and_went_away_is_read_when_it_comes_back,
];

const ROWS: usize = 60;

fn numbers() -> Vec<Record> {
    (0..ROWS).map(|at| record::value((100 + at).to_string()).on(0)).collect()
}

/// A pipeline of plugins that behave as long as their configuration says so.
fn hostile(scene: &Scene, parse: &str, more: &str) -> Result<PathBuf> {
    scene.create_usual(1)?;
    scene.pipeline(&scene.hostile_stages(parse, "do = \"nothing\"", more)?)
}

fn until_paused(scene: &Scene, daemon: &mut Daemon, cause: &str) -> Result<serde_json::Value> {
    let status = daemon.until_status(&scene.name, "the pipeline is paused", |status| {
        status["paused"]["cause"] == cause && status["state"] == "paused"
    })?;
    Ok(status["paused"].clone())
}

fn resume(scene: &Scene, daemon: &mut Daemon) -> Result<()> {
    let resumed = daemon.cli(&["resume", &scene.name])?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    Ok(())
}

/// Input offset and revision of each prediction.
fn predicted(scene: &Scene) -> Result<Vec<(i64, u64)>> {
    let facts = |prediction: &Record| {
        let value = prediction.json()?;
        let (_, offset) = record::origin(value["origin"].as_str().context("no origin")?)?;
        Ok((offset, value["revision"].as_u64().context("no revision")?))
    };
    scene.read("out")?.iter().map(facts).collect()
}

fn a_bad_deploy_costs_no_record(scene: &Scene) -> Result<()> {
    for bad in ["trap", "wrong-count", "error"] {
        let scene = scene.part(bad);
        let pipeline = hostile(&scene, "do = \"nothing\"", "")?;
        let mut daemon = scene.daemon(bad, &pipeline)?;
        scene.write("in", &numbers())?;
        scene.until_done(&mut [&mut daemon])?;
        assert_eq!(daemon.deploy(&scene.name, &["--config", &format!("parse.do={bad}")])?, 2);
        scene.write("in", &numbers())?;
        scene.until_done(&mut [&mut daemon])?;
        assert_eq!(scene.read("dead")?, [], "{bad}: nothing of a bad deploy reaches the dead letters");
        let expected: Vec<(i64, u64)> = (0..2 * ROWS).map(|at| (at as i64, if at < ROWS { 1 } else { 3 })).collect();
        assert_eq!(predicted(&scene)?, expected, "{bad}");
        let status = daemon.until_status(&scene.name, "revision 3 runs", |status| status["state"] == "running")?;
        assert_eq!(status["revision"], 3);
        let history = daemon.cli(&["history", &scene.name, "-o", "json"])?.json()?;
        let failed = history[1]["failed"].as_str().context("the history does not say that revision 2 failed")?;
        assert!(failed.contains("of one transaction"), "{failed}");
        assert!(history[2]["reason"].as_str().is_some_and(|reason| reason.contains("back to what revision 1 ran")));
    }
    Ok(())
}

fn a_first_release_that_fails_pauses_and_the_next_one_takes_its_records(scene: &Scene) -> Result<()> {
    let pipeline = hostile(scene, "do = \"trap\"", "")?;
    scene.write("in", &numbers())?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let paused = until_paused(scene, &mut daemon, "release")?;
    assert!(paused["advice"].as_str().is_some_and(|advice| advice.contains("sandpiper deploy")), "{paused}");
    assert_eq!(daemon.get("/readyz")?.map(|(code, _)| code), Some(503));
    assert_eq!(daemon.get("/livez")?.map(|(code, _)| code), Some(200), "a pause is no reason to be restarted");
    assert_eq!((scene.read("dead")?.len(), scene.read("out")?.len()), (0, 0));

    daemon.deploy(&scene.name, &["--config", "parse.do=nothing"])?;
    resume(scene, &mut daemon)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(predicted(scene)?, (0..ROWS).map(|at| (at as i64, 2)).collect::<Vec<_>>());
    assert_eq!(scene.read("dead")?, []);
    Ok(())
}

fn dead_letters_above_their_share_pause_the_pipeline(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let rows = |good: usize, bad: usize| {
        let good = std::iter::repeat_n(record::value(ROW).on(0), good);
        good.chain(std::iter::repeat_n(record::value("malformed").on(0), bad)).collect::<Vec<_>>()
    };
    scene.write("in", &rows(40, 40))?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let paused = until_paused(scene, &mut daemon, "breaker")?;
    assert!(paused["why"].as_str().is_some_and(|why| why.contains("pause_above = 0.2")), "{paused}");
    let metrics = daemon.get("/metrics")?.context("no metrics")?.1;
    assert!(metrics.contains(&format!("sandpiper_pipeline_paused{{pipeline=\"{}\"}} 1", scene.name)), "{metrics}");
    // What came before the pause is committed; what comes now waits.
    let before = scene.read("out")?.len();
    scene.write("in", &rows(5, 0))?;
    let again = daemon.cli(&["pause", &scene.name])?;
    assert!(again.code == Some(1) && again.err.contains("paused already"), "{again:?}");
    assert_eq!(scene.read("out")?.len(), before);
    resume(scene, &mut daemon)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!((scene.read("out")?.len(), scene.read("dead")?.len()), (45, 40));
    Ok(())
}

fn a_record_to_stop_at_is_taken_by_the_release_that_can(scene: &Scene) -> Result<()> {
    let parse = "do = \"trap\", on = \"130\"";
    scene.create_usual(1)?;
    let text = scene.hostile_stages(parse, "do = \"nothing\"", "")?;
    let pipeline = scene.pipeline(&text.replace("[errors]\n", "[errors]\nfailed = \"stop\"\n"))?;
    scene.write("in", &numbers())?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let paused = until_paused(scene, &mut daemon, "record")?;
    let at = format!("{}/0@30: parse says plugin-trap", scene.topic("in"));
    assert!(paused["why"].as_str().is_some_and(|why| why.starts_with(&at)), "{paused}");
    daemon.deploy(&scene.name, &["--config", "parse.do=nothing"])?;
    resume(scene, &mut daemon)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(predicted(scene)?.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    assert_eq!(scene.read("dead")?, []);
    Ok(())
}

fn a_pause_keeps_its_place_through_a_restart(scene: &Scene) -> Result<()> {
    let pipeline = hostile(scene, "do = \"nothing\"", "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let paused = daemon.cli(&["pause", &scene.name, "--reason", "the sensor is being replaced"])?;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    until_paused(scene, &mut daemon, "operator")?;
    scene.write("in", &numbers())?;
    daemon.sigterm()?;
    assert!(daemon.wait_exit()?.success());

    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let paused = until_paused(scene, &mut daemon, "operator")?;
    assert_eq!(paused["why"], "the sensor is being replaced");
    let text = daemon.cli(&["status"])?.out;
    assert!(text.contains("PAUSED since") && text.contains("sandpiper resume"), "{text}");
    resume(scene, &mut daemon)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(predicted(scene)?.len(), ROWS);
    let again = daemon.cli(&["resume", &scene.name])?;
    assert!(again.code == Some(1) && again.err.contains("is not paused"), "{again:?}");
    Ok(())
}

/// The client keeps a partition's pause when the partition goes.
fn a_partition_that_was_paused_here_and_went_away_is_read_when_it_comes_back(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    let pipeline = scene.pipeline(&scene.hostile_stages("do = \"nothing\"", "do = \"nothing\"", "")?)?;
    let mut here = scene.daemon("a", &pipeline)?;
    let paused = here.cli(&["pause", &scene.name, "--reason", "a test"])?;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    until_paused(scene, &mut here, "operator")?;
    let owns = |status: &serde_json::Value| status["workers"][0]["partitions"].as_array().map_or(0, Vec::len);
    let mut there = scene.daemon("b", &pipeline)?;
    there.until_status(&scene.name, "the other daemon has a partition", |status| owns(status) == 1)?;
    resume(scene, &mut here)?;
    there.sigterm()?;
    assert!(there.wait_exit()?.success());
    here.until_status(&scene.name, "both partitions are here", |status| owns(status) == 2)?;
    let numbers: Vec<Record> = (0..10).map(|at| record::value((100 + at).to_string()).on(at % 2)).collect();
    scene.write("in", &numbers)?;
    scene.until_done(&mut [&mut here])
}
