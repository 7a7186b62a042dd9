//! The state directory is lost: what the daemon ran has a number in its group that it does not know any more.

use crate::load_test::{LoadTest, PARTITIONS, until_owns};
use crate::support::daemon::Daemon;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};
use std::path::PathBuf;

crate::tests![
    wiped_state_of_a_lone_daemon,
    wiped_state_beside_another_daemon,
    another_file_under_the_same_number,
    two_files_at_once_under_one_number,
];

/// Nobody in the group runs what was committed by: the daemon goes above it and processes on.
fn wiped_state_of_a_lone_daemon(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let mut a = test.daemon("a")?;
    test.swap(&mut [&mut a], 2)?;
    test.until_all_progress()?;
    wipe(scene, "a", &mut a)?;
    let mut a = test.daemon("a")?;
    until_runs(&mut a, scene, 3)?;
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut a], "from revision 2 to 3, since the file asks for something else")
}

/// The same releases take the number that they have in the group; others wait, out of the group and not ready, and say for
/// what and who has it.
fn wiped_state_beside_another_daemon(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut a = test.daemon("a")?;
    test.swap(&mut [&mut a], 2)?;
    test.swap(&mut [&mut a], 3)?;
    test.until_all_progress()?;
    // Revision 3 is what the file asks for, and a new daemon's first.
    let mut b = test.daemon("b")?;
    until_runs(&mut b, scene, 3)?;
    until_owns(&mut b, &scene.name, |owned| owned > 0)?;
    test.until_commits(&mut b)?;
    wipe(scene, "b", &mut b)?;
    test.swap(&mut [&mut a], 4)?;
    test.until_all_progress()?;
    let mut b = test.scene.unready_daemon("b", &test.pipeline)?;
    until_owns(&mut b, &scene.name, |owned| owned > 0)?;
    until_true("it is not ready and names the revision", || unready_says(&mut b, "waits for revision 4"))?;
    let holder = format!("sandpiper.a.{}-", a.process());
    until_true("it is not ready and names who has it", || {
        Ok(unready_says(&mut b, "revision 4")? && unready_says(&mut b, &holder)?)
    })?;
    // It has left its partitions to whoever can process them.
    test.until_all_progress()?;
    let model = scene.model_of("virginica")?;
    b.deploy(&scene.name, &["--model", &model.to_string_lossy()])?;
    b.until_ready()?;
    until_runs(&mut b, scene, 4)?;
    until_owns(&mut b, &scene.name, |owned| owned > 0)?;
    test.until_commits(&mut b)?;
    test.assert_exactly_once(&mut [&mut a, &mut b], "the same releases took the group's number, others waited")
}

/// A new daemon whose file asks for something else has a revision 1 of its own. It waits, says for what and who has it, and
/// takes no partition; when the other has gone it goes above it.
fn another_file_under_the_same_number(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut a = test.daemon("a")?;
    test.until_all_progress()?;
    let mut b = scene.unready_daemon("b", &edited(&test)?)?;
    let holder = format!("sandpiper.a.{}-", a.process());
    until_true("it is not ready, and names the revision and who has it", || {
        Ok(unready_says(&mut b, "by revision 1, of the same number")? && unready_says(&mut b, &holder)?)
    })?;
    test.until_all_progress()?;
    until_owns(&mut a, &scene.name, |owned| owned == PARTITIONS as usize)?;
    a.sigterm()?;
    a.wait_exit()?;
    until_runs(&mut b, scene, 2)?;
    b.until_ready()?;
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut b], "the second waited until it was alone, and went on as revision 2")
}

/// Each starts with partitions of its own, on which nothing of the other's stands.
fn two_files_at_once_under_one_number(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let edited = edited(&test)?;
    let (mut a, mut b) = (scene.unready_daemon("a", &test.pipeline)?, scene.unready_daemon("b", &edited)?);
    // By revision 1, or by 2: both may have gone above it when neither was in the group.
    let names = "of the same number, which runs something else";
    until_true("one of them waits and names the revision, and the other runs it", || {
        Ok((unready_says(&mut a, names)? && b.is_ready()?) || (unready_says(&mut b, names)? && a.is_ready()?))
    })?;
    let other = if a.is_ready()? { &mut a } else { &mut b };
    until_owns(other, &scene.name, |owned| owned == PARTITIONS as usize)?;
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [other], "one of the two waits, the other goes on")
}

/// The pipeline's file with another model.
fn edited(test: &LoadTest) -> Result<PathBuf> {
    let (ours, other) = (test.scene.model_of("setosa")?, test.scene.model_of("virginica")?);
    let text = std::fs::read_to_string(&test.pipeline)?;
    let path = test.scene.directory.join("edited.toml");
    std::fs::write(&path, text.replace(&*ours.to_string_lossy(), &other.to_string_lossy()))?;
    Ok(path)
}

fn wipe(scene: &Scene, name: &str, daemon: &mut Daemon) -> Result<()> {
    daemon.sigterm()?;
    let status = daemon.wait_exit()?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(std::fs::remove_dir_all(scene.directory.join(name))?)
}

fn until_runs(daemon: &mut Daemon, scene: &Scene, revision: u64) -> Result<()> {
    let runs = |worker: &serde_json::Value| worker["revision"] == revision;
    daemon
        .until_status(&scene.name, &format!("every worker runs revision {revision}"), |status| {
            status["workers"].as_array().is_some_and(|workers| workers.iter().all(runs))
        })
        .map(drop)
}

fn unready_says(daemon: &mut Daemon, what: &str) -> Result<bool> {
    Ok(daemon.get("/readyz")?.is_some_and(|(code, body)| code == 503 && body.contains(what)))
}
