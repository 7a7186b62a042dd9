//! Deployments on a live stream: a new release, an undo, and the history of both.

use crate::support::daemon::Daemon;
use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};

crate::tests![
    a_deployed_model_serves_the_next_records,
    an_undo_is_a_new_revision_with_the_old_releases,
    a_deployment_survives_a_restart,
    a_deployment_without_a_reason_is_refused,
];

/// A running pipeline whose model predicts setosa for every flower.
fn start(scene: &Scene) -> Result<Daemon> {
    scene.create_usual(2)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    scene.daemon("a", &pipeline)
}

/// Sends one flower to each partition; returns the class and revision of each prediction.
fn predict(scene: &Scene, daemon: &mut Daemon) -> Result<Vec<(String, u64)>> {
    let before = scene.read("out")?.len();
    scene.write("in", &[record::value(ROW).on(0), record::value(ROW).on(1)])?;
    scene.until_done(&mut [daemon])?;
    let mut predictions = scene.read("out")?;
    predictions.sort_by_key(|record| record.offset);
    let new = predictions.split_off(before);
    new.iter().map(class_and_revision).collect()
}

fn class_and_revision(prediction: &Record) -> Result<(String, u64)> {
    let value = prediction.json()?;
    let class = value["class"].as_str().context("no class")?.to_owned();
    Ok((class, value["revision"].as_u64().context("no revision")?))
}

fn both(class: &str, revision: u64) -> Vec<(String, u64)> {
    vec![(class.to_owned(), revision); 2]
}

fn deploy_model(scene: &Scene, daemon: &mut Daemon, class: &str) -> Result<u64> {
    let model = scene.model_of(class)?;
    daemon.deploy(&scene.name, &["--model", &model.to_string_lossy()])
}

fn a_deployed_model_serves_the_next_records(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let first = daemon.pipeline(&scene.name)?["revision"].as_u64().context("no revision")?;
    assert_eq!(predict(scene, &mut daemon)?, both("setosa", first));

    let second = deploy_model(scene, &mut daemon, "virginica")?;
    assert!(second > first);
    let what = "every worker runs the new revision";
    daemon.until_status(&scene.name, what, |pipeline| {
        pipeline["revision"] == second
            && pipeline["workers"].as_array().is_some_and(|all| all.iter().all(|each| each["revision"] == second))
    })?;
    assert_eq!(predict(scene, &mut daemon)?, both("virginica", second));
    for commit in scene.commits()? {
        assert!(commit.metadata.starts_with(&format!("r{second}")), "{commit:?} does not name revision {second}");
    }
    let file = scene.directory.join(format!("{}.toml", scene.name)).to_string_lossy().into_owned();
    for (revision, offset) in [(first, 0), (second, 1)] {
        let range = |partition| serde_json::json!({ "topic": scene.topic("in"), "partition": partition, "first": offset, "last": offset });
        let affected = daemon.cli(&["history", &file, "--affected", &revision.to_string(), "-o", "json"])?.json()?;
        assert_eq!(affected["ranges"], serde_json::json!([range(0), range(1)]), "{affected}");
        assert_eq!(affected["unstamped"], 0);
    }
    Ok(())
}

fn an_undo_is_a_new_revision_with_the_old_releases(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let second = deploy_model(scene, &mut daemon, "virginica")?;
    let undone = daemon.cli(&["rollout", "undo", &scene.name, "--reason", "it was wrong"])?;
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let what = "a newer revision than the undone one";
    let status = daemon
        .until_status(&scene.name, what, |pipeline| pipeline["revision"].as_u64().is_some_and(|each| each > second))?;
    let third = status["revision"].as_u64().context("no revision")?;
    assert_eq!(predict(scene, &mut daemon)?, both("setosa", third));

    let history = daemon.cli(&["history", &scene.name, "-o", "json"])?.json()?.to_string();
    assert!(history.contains("a test") && history.contains("it was wrong"), "the reasons are missing in {history}");
    Ok(())
}

fn a_deployment_survives_a_restart(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let second = deploy_model(scene, &mut daemon, "virginica")?;
    daemon.sigterm()?;
    assert!(daemon.wait_exit()?.success());

    let pipeline = scene.directory.join(format!("{}.toml", scene.name));
    let mut daemon = scene.daemon("a", &pipeline)?;
    assert_eq!(daemon.pipeline(&scene.name)?["revision"], second);
    assert_eq!(
        predict(scene, &mut daemon)?,
        both("virginica", second),
        "the file still names the old model, and did not change"
    );
    Ok(())
}

fn a_deployment_without_a_reason_is_refused(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let before = daemon.pipeline(&scene.name)?["revision"].clone();
    let model = scene.model_of("virginica")?;
    let printed = daemon.cli(&["deploy", &scene.name, "--model", &model.to_string_lossy()])?;
    assert_eq!(printed.code, Some(2), "{printed:?}");
    assert!(printed.err.contains("--reason"), "{printed:?}");
    assert_eq!(daemon.pipeline(&scene.name)?["revision"], before);
    Ok(())
}
