//! `check`: mistakes are reported all at once, by file, line and key, before anything runs.

use crate::support::daemon::{Daemon, Printed, sandpiper};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use std::path::Path;

crate::tests![
    a_right_pipeline_passes_the_check,
    every_mistake_is_named_at_once,
    a_daemon_refuses_a_wrong_pipeline_as_the_check_does,
    a_daemon_runs_the_pipelines_of_its_own_file,
    a_missing_topic_is_named_with_the_command_that_creates_it,
    unequal_partition_counts_are_named,
];

fn check(pipeline: &Path, options: &[&str]) -> Result<Printed> {
    Printed::of(sandpiper().arg("check").arg(pipeline).args(options))
}

fn a_right_pipeline_passes_the_check(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    for options in [&[][..], &["--connect"]] {
        let printed = check(&pipeline, options)?;
        assert_eq!(printed.code, Some(0), "{options:?}: {printed:?}");
    }
    Ok(())
}

/// A pipeline file of twelve lines with `MISTAKES`.
fn file_with_mistakes(scene: &Scene) -> Result<std::path::PathBuf> {
    scene.pipeline(
        "name = \"wrong\"\n\
         [kafka]\n\
         bootstrap.servers = \"127.0.0.1:1\"\n\
         enable.auto.commit = \"true\"\n\
         [input]\n\
         topics = [\"in\"]\n\
         strat = \"earliest\"\n\
         tombstones = \"bury\"\n\
         [parse]\n\
         plugin = \"cvs\"\n\
         [limits]\n\
         workers = 0\n",
    )
}

/// Line number and key of each mistake in that file.
const MISTAKES: [(&str, &str); 6] = [
    (":4:", "[kafka] enable.auto.commit"),
    (":7:", "[input] strat"),
    (":8:", "[input] tombstones"),
    (":10:", "[parse] plugin"),
    (":12:", "[limits] workers"),
    ("", "[output] topic"),
];

fn every_mistake_is_named_at_once(scene: &Scene) -> Result<()> {
    let printed = check(&file_with_mistakes(scene)?, &[])?;
    assert_eq!(printed.code, Some(2), "{printed:?}");
    assert_names_all(&printed);
    assert!(printed.err.contains("\"csv\""), "the nearest plugin is suggested: {}", printed.err);

    let json = check(&file_with_mistakes(scene)?, &["-o", "json"])?;
    assert_eq!(json.code, Some(2), "{json:?}");
    let value: serde_json::Value = serde_json::from_str(&json.out).with_context(|| format!("{json:?}"))?;
    for (_, key) in MISTAKES {
        assert!(value.to_string().contains(key), "{key} is missing in {value}");
    }
    Ok(())
}

fn assert_names_all(printed: &Printed) {
    for (line, key) in MISTAKES {
        let found = printed.err.lines().any(|text| text.contains(line) && text.contains(key));
        assert!(found, "no line names {key} at {line:?}:\n{}", printed.err);
    }
}

fn a_daemon_refuses_a_wrong_pipeline_as_the_check_does(scene: &Scene) -> Result<()> {
    let state = scene.directory.join("state");
    let printed = Printed::of(
        sandpiper().arg("run").arg(file_with_mistakes(scene)?).args(["--admin", "127.0.0.1:0", "--state"]).arg(state),
    )?;
    assert_eq!(printed.code, Some(2), "{printed:?}");
    assert_names_all(&printed);
    Ok(())
}

fn a_daemon_runs_the_pipelines_of_its_own_file(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let pipeline = format!("{}.toml", scene.name);
    let file = scene.file("daemon.toml", format!("pipelines = [{pipeline:?}]\ninstance = \"own\"\n"))?;
    let file = file.to_string_lossy();
    let printed = Printed::of(sandpiper().args(["check", "--daemon", &file]))?;
    assert!(printed.code == Some(0) && printed.out.contains("daemon.toml: ok"), "{printed:?}");
    let mut daemon = Daemon::spawn(&scene.directory, "a", &[], &["--daemon", &file])?;
    daemon.until_ready()?;
    assert_eq!(daemon.status()?["instance"], "own");
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running");
    Ok(())
}

fn a_missing_topic_is_named_with_the_command_that_creates_it(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 3, &[]), ("dead", 3, &[])])?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let printed = check(&pipeline, &["--connect"])?;
    assert_ne!(printed.code, Some(0), "{printed:?}");
    let text = format!("{}{}", printed.out, printed.err);
    let missing = scene.topic("out");
    let command = text.lines().find(|line| line.contains("kafka-topics") && line.contains(&missing));
    let command = command.with_context(|| format!("no line creates {missing}: {text}"))?;
    assert!(
        command.contains("--create") && command.contains("--partitions 3"),
        "as many partitions as the input has: {command}"
    );
    assert!(command.contains(&scene.bootstrap()), "{command}");
    Ok(())
}

fn unequal_partition_counts_are_named(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 3, &[]), ("out", 2, &[]), ("dead", 3, &[])])?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let printed = check(&pipeline, &["--connect"])?;
    assert_ne!(printed.code, Some(0), "{printed:?}");
    let text = format!("{}{}", printed.out, printed.err);
    assert!(text.contains(&scene.topic("out")) && text.contains("partition"), "{text}");
    Ok(())
}
