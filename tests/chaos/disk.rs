//! The disk of the state directory is full, or takes no writes: no deployment is accepted, and records flow on.

use crate::load_test::LoadTest;
use crate::support::scene::Scene;
use crate::trial::Lacks;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

crate::tests![full_state_directory, read_only_state_directory];

fn full_state_directory(scene: &Scene) -> Result<()> {
    refuses_to_deploy(
        scene,
        |disk| {
            // The copy ends with an error when there is no room left, as intended.
            let mut filler = std::fs::File::create(disk.join("filler"))?;
            let full = std::io::copy(&mut std::io::repeat(0), &mut filler);
            ensure!(full.is_err(), "a disk without end");
            Ok(())
        },
        |disk| Ok(std::fs::remove_file(disk.join("filler"))?),
    )
}

fn read_only_state_directory(scene: &Scene) -> Result<()> {
    // A file system with a file open for writing cannot be remounted read-only, but a bind mount of it can.
    let view = |disk: &Path| {
        let bound = run(Command::new("mount").arg("--bind").args([disk, disk]));
        let closed = bound && run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(disk));
        closed.then_some(()).context("the state directory could not be mounted read-only")
    };
    let umount = |disk: &Path| run(Command::new("umount").arg(disk)).then_some(()).context("it could not be unmounted");
    refuses_to_deploy(scene, view, umount)
}

fn refuses_to_deploy(
    scene: &Scene,
    fault: impl Fn(&Path) -> Result<()>,
    repair: impl Fn(&Path) -> Result<()>,
) -> Result<()> {
    let disk = Disk::mount(scene.directory.join("a"))?;
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    fault(&disk.0)?;
    let model = scene.model_of("virginica")?;
    let deploy = ["deploy", &scene.name, "--model", &model.to_string_lossy(), "--reason", "a test", "-o", "json"];
    let refused = daemon.cli(&deploy)?;
    ensure!(refused.code != Some(0), "deployed on a disk that takes nothing: {refused:?}");
    test.until_all_progress()?;
    repair(&disk.0)?;
    let deployed = daemon.cli(&deploy)?.json()?;
    ensure!(deployed["revision"] == 2, "{deployed}");
    test.until_commits(&mut daemon)?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("refused: {}", refused.err.trim().replace('\n', " ")))
}

/// A small file system in memory for the state directory.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Disk> {
        std::fs::create_dir_all(&path)?;
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&path));
        if !mounted {
            bail!(Lacks("this user may not mount a file system".to_owned()));
        }
        Ok(Disk(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Once for the bind mount over it, and once for the file system.
        while run(Command::new("umount").arg("-l").arg(&self.0)) {}
    }
}

fn run(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
