//! Secrets of a pipeline's file: a plugin is given them, and nothing that the program prints or keeps shows them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::support::daemon::{Printed, sandpiper};
use crate::support::flowers;
use crate::support::hostile;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;

crate::tests![
    no_output_and_no_file_of_the_daemon_holds_a_secret,
    no_letter_holds_a_secret_that_a_plugin_repeats,
    a_test_of_a_letter_knows_the_secrets_of_the_transforms_before_and_does_not_hold_them,
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

/// Each stage repeats the secret in its own way, for a row of its own.
fn no_letter_holds_a_secret_that_a_plugin_repeats(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    scene.file("secret", format!("{SECRET}\n"))?;
    let stage = |name: &str, config: &str| -> Result<String> {
        Ok(format!("plugin = {:?}\nconfig = {{ {config} }}\n", hostile::hostile(name)?))
    };
    let pipeline = scene.pipeline(&format!(
        "{}[[transform]]\n{}[parse]\n{}[classify]\n{}",
        scene.head("").replace("[errors]\n", "[errors]\npause_above = 1.0\n"),
        stage("transform", "do = \"panic ${file:secret}\", on = \"1\"")?,
        stage("parser", "do = \"reject ${file:secret}\", on = \"2\"")?,
        stage("classifier", "do = \"error ${file:secret}\", on = 3.0")?,
    ))?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    // A transaction each, so that the rejection of the first row is of that row.
    for row in ["1", "2", "3"] {
        scene.write("in", &[record::value(row)])?;
        scene.until_done(&mut [&mut daemon])?;
    }
    let letters = scene.read("dead")?;
    let said = |letter: &Record| -> Result<(String, String)> {
        let message = letter.error("message")?.to_owned() + letter.error("log").unwrap_or_default();
        assert!(message.contains("[secret]"), "the plugin's words are there: {message}");
        Ok((letter.error("stage")?.to_owned(), letter.error("reason")?.to_owned()))
    };
    let causes = letters.iter().map(said).collect::<Result<Vec<_>>>()?;
    let wanted = [("transform[0]", "plugin-trap"), ("parse", "repeated"), ("classify", "plugin-error")];
    assert_eq!(causes, wanted.map(|(stage, reason)| (stage.to_owned(), reason.to_owned())));
    for letter in &letters {
        shows_none("a letter", format!("{letter:?}").as_bytes());
        for (name, value) in &letter.content.headers {
            shows_none(name, value.as_deref().unwrap_or_default());
        }
    }
    for shown in [&["dlq", "ls", "--each"][..], &["dlq", "show", "0@0"], &["dlq", "show", "0@0", "--as-test"]] {
        let file = pipeline.to_string_lossy();
        let printed = daemon.cli(&[&shown[..2], &[&file], &shown[2..]].concat())?;
        shows_none(&shown.join(" "), format!("{printed:?}").as_bytes());
    }
    let (_, status) = daemon.get("/v1/status")?.context("no answer")?;
    shows_none("status", status.as_bytes());
    shows_none("the log", &fs::read(&daemon.log)?);
    Ok(())
}

fn a_test_of_a_letter_knows_the_secrets_of_the_transforms_before_and_does_not_hold_them(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    scene.file("secret", format!("{SECRET}\n"))?;
    let pipeline = scene.pipeline(&format!(
        "{}[[transform]]\nplugin = {:?}\nconfig = {{ do = \"append ${{file:secret}}\" }}\n\
         [parse]\nplugin = \"csv\"\nconfig = {{ columns = {:?}, missing = [\"${{file:secret}}\"] }}\n\
         [classify]\nplugin = \"logistic\"\nmodel = {:?}\n",
        scene.head(""),
        hostile::hostile("transform")?,
        flowers::COLUMNS,
        scene.model_of("setosa")?
    ))?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.write("in", &[record::value("5.1,3.5,1.4,wide,")])?;
    scene.until_done(&mut [&mut daemon])?;
    let printed = daemon.cli(&["dlq", "show", &pipeline.to_string_lossy(), "0@0", "--as-test"])?;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    shows_none("the test", printed.out.as_bytes());
    assert!(printed.out.contains("b\"5.1,3.5,1.4,wide,[secret]\", &[0, 25]"), "as the parser saw it: {}", printed.out);
    assert!(
        printed.out.contains("${file:secret}"),
        "the parser's configuration is as the file has it: {}",
        printed.out
    );
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
