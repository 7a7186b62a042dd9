//! Secrets of a pipeline's file: a plugin is given them, and nothing that the program prints or keeps shows them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::support::daemon::{Printed, sandpiper};
use crate::support::flowers;
use crate::support::scene::Scene;

crate::tests![
    no_output_and_no_file_of_the_daemon_holds_a_secret,
    a_plugin_that_repeats_a_secret_when_it_refuses_to_open_does_not_show_it,
    a_reference_over_the_admin_api_is_refused,
];

const SECRET: &str = "s3cret-of-the-stage";
const PASSWORD: &str = "passw0rd-of-the-broker";

fn pipeline(scene: &Scene, config: &str) -> Result<PathBuf> {
    scene.file("secret", format!("{SECRET}\n"))?;
    scene.file("password", PASSWORD)?;
    let columns = flowers::COLUMNS;
    let properties = "[kafka]\nsasl.password = \"${file:password}\"\nssl.key.password = \"${file:password}\"\n";
    let head = scene.head("").replace("[kafka]\n", properties);
    scene.pipeline(&format!(
        "{head}[parse]\nplugin = \"csv\"\nconfig = {{ columns = {columns:?}, {config} }}\n\
         [classify]\nplugin = \"logistic\"\nmodel = {:?}\n",
        scene.model_of("setosa")?
    ))
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[track_caller]
fn shows_none(what: &str, bytes: &[u8]) {
    for secret in [SECRET, PASSWORD] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{what} holds {secret}");
    }
}

fn no_output_and_no_file_of_the_daemon_holds_a_secret(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let pipeline = pipeline(scene, "missing = [\"${file:secret}\"]")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let model = scene.model_of("virginica")?;
    assert_eq!(daemon.deploy(&scene.name, &["--model", &model.to_string_lossy()])?, 2, "the reference goes on to work");
    for path in ["/v1/status", "/metrics", &format!("/v1/pipelines/{}/history", scene.name)] {
        let (status, body) = daemon.get(path)?.context("no answer")?;
        assert_eq!(status, 200, "{body}");
        shows_none(path, body.as_bytes());
    }
    shows_none("the log", &fs::read(&daemon.log)?);
    let kept = files(&daemon.state)?;
    let reference = b"${file:secret}";
    let mut has_reference = false;
    for file in &kept {
        let bytes = fs::read(file)?;
        shows_none(&file.display().to_string(), &bytes);
        has_reference |= bytes.windows(reference.len()).any(|part| part == reference);
    }
    assert!(has_reference, "the history keeps the reference: {kept:?}");
    Ok(())
}

fn a_plugin_that_repeats_a_secret_when_it_refuses_to_open_does_not_show_it(scene: &Scene) -> Result<()> {
    let pipeline = pipeline(scene, "delimiter = \"${file:secret}\"")?;
    let printed = Printed::of(sandpiper().arg("check").arg(&pipeline))?;
    assert_ne!(printed.code, Some(0), "{printed:?}");
    assert!(printed.err.contains("refuses to open") && printed.err.contains("[secret]"), "{printed:?}");
    shows_none("check", printed.err.as_bytes());
    shows_none("check", printed.out.as_bytes());
    Ok(())
}

fn a_reference_over_the_admin_api_is_refused(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let pipeline = pipeline(scene, "missing = [\"${file:secret}\"]")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    let config = "parse.delimiter=${file:/etc/hostname}";
    let refused = daemon.cli(&["deploy", &scene.name, "--config", config, "--reason", "a test"])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("config.delimiter") && refused.err.contains("pipeline's file"), "{refused:?}");
    Ok(())
}
