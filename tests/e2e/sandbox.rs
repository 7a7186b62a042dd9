//! Plugins that misbehave: the row that causes it becomes a dead letter, and the rows around it are predicted as ever.

use crate::support::daemon::Daemon;
use crate::support::hostile;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::PathBuf;

crate::tests![
    a_row_that_breaks_the_parser_is_the_only_dead_letter,
    a_row_that_breaks_the_classifier_is_the_only_dead_letter,
    a_record_that_a_transform_makes_too_much_of_is_the_only_dead_letter,
    a_plugin_that_floods_its_log_is_held_back_and_serves_on,
    a_daemon_whose_compiled_code_is_damaged_compiles_it_anew_and_says_so,
];

/// A misbehaviour, and the reason of the dead letter that it must make.
type Case = (&'static str, &'static str);

/// One of each kind of failure; `tests/hostile_corpus` has all misbehaviours, without Kafka.
const IN_THE_PARSER: [Case; 5] = [
    ("trap", "plugin-trap"),
    ("loop", "plugin-deadline"),
    ("grow", "plugin-memory"),
    ("error", "plugin-error"),
    ("wrong-count", "plugin-answer"),
];

const IN_THE_CLASSIFIER: [Case; 4] =
    [("exit", "plugin-trap"), ("loop", "plugin-deadline"), ("nan", "plugin-answer"), ("huge-answer", "plugin-answer")];

/// For `grow` so little memory that it is used up before the deadline; the other cases need the default, to make an answer that
/// is too large.
fn limits(case: &str) -> &'static str {
    if case == "grow" { "plugin_memory = \"8MiB\"\nbatch_bytes = \"1MiB\"\n" } else { "" }
}

const ROWS: i64 = 40;
const POISON: i64 = 13;

/// Numbers of three digits: 113 alone holds the text that sets a plugin off.
fn rows() -> Vec<Record> {
    (0..ROWS).map(|at| record::value((100 + at).to_string())).collect()
}

fn a_row_that_breaks_the_parser_is_the_only_dead_letter(scene: &Scene) -> Result<()> {
    for (case, reason) in IN_THE_PARSER {
        let scene = scene.part(case);
        let parse = format!("do = {case:?}, on = \"113\"");
        ensure_only_poison_dead_lettered(
            &scene,
            &scene.hostile_stages(&parse, "do = \"nothing\"", limits(case))?,
            "parse",
            reason,
        )
        .context(case)?;
    }
    Ok(())
}

fn a_row_that_breaks_the_classifier_is_the_only_dead_letter(scene: &Scene) -> Result<()> {
    for (case, reason) in IN_THE_CLASSIFIER {
        let scene = scene.part(case);
        let classify = format!("do = {case:?}, on = 113.0");
        ensure_only_poison_dead_lettered(
            &scene,
            &scene.hostile_stages("do = \"nothing\"", &classify, limits(case))?,
            "classify",
            reason,
        )
        .context(case)?;
    }
    Ok(())
}

/// Runs the rows: all but the poison row are predicted, in their order.
fn ensure_only_poison_dead_lettered(scene: &Scene, pipeline: &str, stage: &str, reason: &str) -> Result<()> {
    let mut daemon = run(scene, pipeline)?;
    let letters = scene.read("dead")?;
    let facts = |letter: &Record| -> Result<(i64, String, String)> {
        Ok((letter.dead_letter_origin()?.1, letter.error("stage")?.to_owned(), letter.error("reason")?.to_owned()))
    };
    let facts: Vec<_> = letters.iter().map(facts).collect::<Result<_>>()?;
    assert_eq!(facts, [(POISON, stage.to_owned(), reason.to_owned())], "{letters:?}");
    assert_eq!(predicted(scene)?, (0..ROWS).filter(|offset| *offset != POISON).collect::<Vec<_>>());
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running");
    Ok(())
}

fn run(scene: &Scene, pipeline: &str) -> Result<Daemon> {
    scene.create_usual(1)?;
    scene.write("in", &rows())?;
    let mut daemon = scene.daemon(&scene.name, &scene.pipeline(pipeline)?)?;
    scene.until_done(&mut [&mut daemon])?;
    Ok(daemon)
}

/// The input offsets that became predictions.
fn predicted(scene: &Scene) -> Result<Vec<i64>> {
    let offset =
        |prediction: &Record| Ok(record::origin(prediction.json()?["origin"].as_str().context("no origin")?)?.1);
    scene.read("out")?.iter().map(offset).collect()
}

/// 300,000 records with the key of one that has 10,000 bytes: three gigabytes, asked for in a few megabytes.
fn a_record_that_a_transform_makes_too_much_of_is_the_only_dead_letter(scene: &Scene) -> Result<()> {
    const MAX_PEAK_KB: u64 = 512 << 10;
    let pipeline = format!(
        "{}[[transform]]\nplugin = {:?}\nconfig = {{ do = \"amplify\", on = \"-113\" }}\n[limits]\ndeadline = \"2s\"\n",
        scene.head(""),
        hostile::hostile("transform")?
    );
    scene.create_usual(1)?;
    let value = |at: i64| if at == POISON { "-113".to_owned() } else { at.to_string() };
    let key = |at: i64| if at == POISON { "k".repeat(10_000) } else { "k".to_owned() };
    let records: Vec<Record> = (0..ROWS).map(|at| record::value(value(at)).key(key(at))).collect();
    let mut daemon = scene.daemon(&scene.name, &scene.pipeline(&pipeline)?)?;
    scene.write("in", &records)?;
    scene.until_done(&mut [&mut daemon])?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.process()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.context("no peak memory")?.parse()?;
    let letters = scene.read("dead")?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].content.value.as_deref(), Some(b"-113".as_slice()));
    assert_eq!((letters[0].error("reason")?, letters[0].error("stage")?), ("too-much-output", "transform[0]"));
    assert!(letters[0].error("message")?.contains("limits.output_bytes = 33554432"), "{letters:?}");
    let expected: Vec<String> = (0..ROWS).filter(|at| *at != POISON).map(value).collect();
    let came: Vec<String> = scene.read("out")?.iter().map(|out| Ok(out.text()?.to_owned())).collect::<Result<_>>()?;
    assert_eq!(came, expected);
    assert!(peak < MAX_PEAK_KB, "the daemon took {} MiB", peak >> 10);
    Ok(())
}

fn a_plugin_that_floods_its_log_is_held_back_and_serves_on(scene: &Scene) -> Result<()> {
    for flood in ["log", "print"] {
        let scene = scene.part(flood);
        let parse = format!("do = {flood:?}, on = \"113\"");
        let daemon = run(&scene, &scene.hostile_stages(&parse, "do = \"nothing\"", "")?)?;
        assert_eq!(predicted(&scene)?.len() + scene.read("dead")?.len(), ROWS as usize);
        let logged = std::fs::metadata(&daemon.log)?.len();
        assert!(logged < 1 << 20, "{flood}: {logged} bytes of log from 100,000 lines");
    }
    Ok(())
}

fn compiled(daemon: &Daemon) -> Result<Vec<PathBuf>> {
    let paths = fs::read_dir(daemon.state.join("code"))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "cwasm")).collect())
}

/// As a file system leaves a file whose blocks were not written when the power went: its length is there, its content is not.
fn a_daemon_whose_compiled_code_is_damaged_compiles_it_anew_and_says_so(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    daemon.kill9()?;
    let files = compiled(&daemon)?;
    assert_eq!(files.len(), 2, "of parser and classifier: {files:?}");
    let whole = files.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>()?;
    for file in &files {
        use std::os::unix::fs::FileExt as _;
        let length = fs::metadata(file)?.len();
        File::options().write(true).open(file)?.write_all_at(&vec![0; 64 << 10], length / 2)?;
    }
    let mut daemon = scene.daemon("a", &pipeline)?;
    let log = fs::read_to_string(&daemon.log)?;
    for file in &files {
        let name = file.file_name().context("no name")?.to_string_lossy();
        let said = |line: &str| line.contains(&*name) && line.contains("compiled code is damaged; compiling anew");
        assert!(log.lines().any(said), "{name} is named: {log}");
    }
    let mended = compiled(&daemon)?.iter().map(fs::read).collect::<std::io::Result<Vec<_>>>()?;
    assert!(mended.len() == 2 && whole.iter().all(|code| mended.contains(code)), "it is what it was");
    scene.write("in", &[record::value(crate::support::flowers::ROW)])?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(scene.read("out")?.len(), 1);
    Ok(())
}
