//! A release that does not fit is refused before it touches a record, and the old one keeps serving.

use crate::support::daemon::{Daemon, Printed, sandpiper};
use crate::support::flowers::{self, ROW};
use crate::support::hostile;
use crate::support::record;
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use std::path::Path;

crate::tests![
    what_is_no_component_is_refused,
    a_component_of_another_world_is_refused,
    a_model_that_does_not_fit_is_refused,
    a_surplus_import_is_refused_and_named,
    a_plugin_that_fails_to_open_is_refused,
    a_start_with_an_unfit_release_names_the_plugin,
    every_bad_stage_is_named_at_once_and_in_the_same_words_by_every_verb,
];

/// A running pipeline whose model predicts setosa for every flower.
fn start(scene: &Scene) -> Result<Daemon> {
    scene.create_usual(1)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    scene.daemon("a", &pipeline)
}

/// Deploys that file, checks that it is refused with an error that contains those words, and that the old release goes on.
fn ensure_refused(scene: &Scene, daemon: &mut Daemon, stage: &str, file: &Path, words: &[&str]) -> Result<()> {
    let before = daemon.pipeline(&scene.name)?["revision"].clone();
    let printed = daemon.cli(&["deploy", &scene.name, stage, &file.to_string_lossy(), "--reason", "a test"])?;
    assert!(printed.code.is_some_and(|code| code != 0), "{} was taken: {printed:?}", file.display());
    for word in words {
        assert!(printed.err.contains(word), "{word:?} is missing in: {}", printed.err);
    }
    let after = daemon.pipeline(&scene.name)?;
    assert_eq!((&after["revision"], after["state"].as_str()), (&before, Some("running")));

    let served = scene.read("out")?.len();
    scene.write("in", &[record::value(ROW)])?;
    scene.until_done(&mut [daemon])?;
    let predictions = scene.read("out")?;
    assert_eq!(predictions.len(), served + 1);
    let last = predictions.last().context("no prediction")?.json()?;
    assert_eq!((&last["class"], &last["revision"]), (&"setosa".into(), &before));
    assert_eq!(scene.read("dead")?, []);
    Ok(())
}

fn what_is_no_component_is_refused(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let text = scene.file("text.wasm", "not WebAssembly at all")?;
    ensure_refused(scene, &mut daemon, "--classify", &text, &["text", "component"])?;
    // The eight bytes of an empty core module.
    let core = scene.file("core.wasm", b"\0asm\x01\0\0\0")?;
    ensure_refused(scene, &mut daemon, "--classify", &core, &["core", "component"])?;
    let empty = scene.file("empty.wasm", "")?;
    ensure_refused(scene, &mut daemon, "--parse", &empty, &["empty", "component"])?;
    ensure_refused(scene, &mut daemon, "--parse", &scene.directory.join("absent.wasm"), &["absent.wasm"])
}

fn a_component_of_another_world_is_refused(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    ensure_refused(scene, &mut daemon, "--classify", &hostile::stock("csv")?, &["classifier", "parser"])
}

fn a_model_that_does_not_fit_is_refused(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let model = flowers::model_of("virginica");
    for (name, text, words) in [
        // The parser does not make that column.
        ("columns.json", model.replace("petal_width", "petal_area"), &["petal_area"][..]),
        ("classes.json", model.replace("\"versicolor\"", "\"setosa\""), &["setosa"]),
        ("broken.json", model.replace("\"mean\"", "\"means\""), &["means"]),
        ("text.json", "not a model".to_owned(), &["model"]),
    ] {
        ensure_refused(scene, &mut daemon, "--model", &scene.file(name, text)?, words)?;
    }
    Ok(())
}

fn a_surplus_import_is_refused_and_named(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let dialler = scene.file("dialler.wasm", hostile::importing("evil:net/dial"))?;
    ensure_refused(scene, &mut daemon, "--classify", &dialler, &["dialler", "evil:net/dial"])
}

fn a_plugin_that_fails_to_open_is_refused(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let pipeline = scene.pipeline(&scene.hostile_stages("do = \"nothing\"", "do = \"nothing\"", "")?)?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    for (config, word) in [
        ("classify.do=trap-in-open", "trap"),
        ("classify.do=panic-in-open", "trap"),
        ("classify.do=loop-in-open", "time"),
        ("classify.do=grow-in-open", "memory"),
        ("classify.do=error-in-open", "refuses to open as it was told to"),
        ("classify.do=one-class", "class"),
        ("classify.do=same-classes", "class"),
        ("classify.column_count=2", "x1"),
        ("parse.do=no-columns", "column"),
        ("parse.do=same-columns", "column"),
        ("parse.no_such_key=1", "no_such_key"),
    ] {
        let before = daemon.pipeline(&scene.name)?["revision"].clone();
        let printed = daemon.cli(&["deploy", &scene.name, "--config", config, "--reason", "a test"])?;
        assert!(printed.code.is_some_and(|code| code != 0), "{config} was taken: {printed:?}");
        assert!(printed.err.contains(word), "{config}: {word:?} is missing in: {}", printed.err);
        assert_eq!(daemon.pipeline(&scene.name)?["revision"], before, "{config}");
    }
    scene.write("in", &[record::value("1")])?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(scene.read("out")?.len(), 1, "the old release serves on");
    Ok(())
}

fn a_start_with_an_unfit_release_names_the_plugin(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let model = scene.file("columns.json", flowers::model_of("setosa").replace("petal_width", "petal_area"))?;
    let pipeline = scene.flower_pipeline("", &model, "")?;
    let mut daemon = scene.unready_daemon("a", &pipeline)?;
    let status = daemon.wait_exit()?;
    assert!(!status.success(), "{status}");
    let log = std::fs::read_to_string(&daemon.log)?;
    assert!(log.contains("classifier logistic") && log.contains("petal_area"), "{log}");
    Ok(())
}

/// What `plugin inspect` has against a component.
fn refusal(file: &Path) -> Result<String> {
    let printed = Printed::of(sandpiper().args(["plugin", "inspect", "-o", "json"]).arg(file))?;
    assert_eq!(printed.code, Some(1), "{printed:?}");
    match printed.out.trim() {
        "" => Ok(printed.err.trim().strip_prefix("error: ").context("no error")?.to_owned()),
        inspection => {
            let inspection: serde_json::Value = serde_json::from_str(inspection)?;
            Ok(inspection["refused"].as_str().context("not refused")?.to_owned())
        }
    }
}

fn every_bad_stage_is_named_at_once_and_in_the_same_words_by_every_verb(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let good = std::fs::read_to_string(scene.directory.join(format!("{}.toml", scene.name)))?;
    let parser = scene.file("dialler.wasm", hostile::importing("evil:net/dial"))?;
    let classifier = scene.file("core.wasm", b"\0asm\x01\0\0\0")?;
    let absent = scene.directory.join("absent.wasm");
    let (of_parser, of_classifier) = (refusal(&parser)?, refusal(&classifier)?);

    // The scorer is wrong as well: a parser is none.
    let (feedback, score) = (scene.topic("labels"), hostile::stock("csv")?);
    let bad = good
        .replace("[input]\n", "[input]\nid = \"key\"\n")
        .replace("plugin = \"csv\"", &format!("plugin = {parser:?}"))
        .replace("plugin = \"logistic\"", &format!("plugin = {classifier:?}"))
        + &format!("[feedback]\nlabels = {feedback:?}\nwait = \"1h\"\nscore = {{ plugin = {score:?} }}\n");
    let bad = scene.file("bad.toml", bad)?;
    let checked = Printed::of(sandpiper().arg("check").arg(&bad))?;
    let mut run = Daemon::spawn(&scene.directory, "b", &[&bad], &["--instance", "b"])?;
    assert!(!run.wait_exit()?.success());
    let ran = std::fs::read_to_string(&run.log)?;
    let deployed = daemon.cli(
        &[
            &["deploy", &scene.name, "--reason", "a test", "--parse", &parser.to_string_lossy()][..],
            &["--classify", &classifier.to_string_lossy()],
        ]
        .concat(),
    )?;
    for (verb, said) in [("check", &checked.err), ("run", &ran), ("deploy", &deployed.err)] {
        assert!(said.contains(&of_parser), "{verb} says of the parser what inspect says, {of_parser:?}: {said}");
        assert!(
            said.contains(&of_classifier),
            "{verb} says of the classifier what inspect says, {of_classifier:?}: {said}"
        );
    }
    for (said, parser, classifier, scorer) in [
        (&ran, "stage parse: ", "stage classify: ", "stage score: "),
        (&deployed.err, "stage parse: ", "stage classify: ", ""),
        (&checked.err, "[parse]: ", "[classify]: ", "[feedback] score: "),
    ] {
        assert!(said.contains(parser) && said.contains(classifier) && said.contains(scorer), "{said}");
    }

    let (absent, other) = (absent.to_string_lossy(), scene.directory.join("other.wasm"));
    let unread = daemon.cli(
        &[
            &["deploy", &scene.name, "--reason", "a test", "--parse", &absent][..],
            &["--classify", &other.to_string_lossy()],
        ]
        .concat(),
    )?;
    assert!(unread.err.contains("absent.wasm") && unread.err.contains("other.wasm"), "{unread:?}");
    Ok(())
}
