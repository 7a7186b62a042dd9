//! The state directory is lost: what the daemon ran has a number in its group that it does not know any more.

use crate::load_test::{LoadTest, until_owns};
use crate::support::daemon::Daemon;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Result, ensure};

crate::tests![wiped_state_of_a_lone_daemon, wiped_state_beside_another_daemon];

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
