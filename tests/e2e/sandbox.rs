//! Plugins that misbehave: the row that causes it becomes a dead letter, and the rows around it are predicted as ever.

use crate::support::daemon::Daemon;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};

crate::tests![
    a_row_that_breaks_the_parser_is_the_only_dead_letter,
    a_row_that_breaks_the_classifier_is_the_only_dead_letter,
    a_plugin_that_floods_its_log_is_held_back_and_serves_on,
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
