//! Dead letters looked through, shown, and replayed: each once, under the record's own id and origin.

use crate::support::daemon::Daemon;
use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

crate::tests![
    letters_are_counted_and_shown_as_they_came,
    a_replay_takes_each_letter_once_through_what_runs_now,
    a_letter_that_fails_again_counts_its_attempts_and_is_left_alone_at_the_last,
    letters_that_cannot_go_through_are_named_and_nothing_is_written,
    what_a_producer_writes_under_our_names_hides_no_letter,
    a_replay_that_two_daemons_are_asked_for_takes_each_letter_at_most_once,
];

/// 60 flowers of which every third is written with another delimiter.
fn rows() -> Vec<Record> {
    let value = |at: i32| if at % 3 == 0 { ROW.replace(',', ";") } else { ROW.to_owned() };
    (0..60).map(|at| record::value(value(at)).key(format!("k{at}")).header("own", Some(b"x")).on(at % 2)).collect()
}

const DEAD: usize = 20;

/// A pipeline that has taken those rows, and rejected a third.
fn run(scene: &Scene) -> Result<(Daemon, PathBuf)> {
    scene.create(&[("in", 2, &[]), ("out", 2, &[]), ("dead", 1, &[])])?;
    let file = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let text = std::fs::read_to_string(&file)?;
    scene.pipeline(&text.replace("[errors]\n", "[errors]\npause_above = 1.0\n"))?;
    scene.write("in", &rows())?;
    let mut daemon = scene.daemon("a", &file)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(letters(scene)?.len(), DEAD);
    Ok((daemon, file))
}

fn letters(scene: &Scene) -> Result<Vec<Record>> {
    Ok(scene.read("dead")?.into_iter().filter(|record| record.error("reason").is_ok()).collect())
}

/// The keys and origins of what came out.
fn predicted(scene: &Scene) -> Result<Vec<(String, String)>> {
    let facts = |prediction: &Record| {
        let key = prediction.content.key.clone().context("no key")?;
        let origin = prediction.json()?["origin"].as_str().context("no origin")?.to_owned();
        Ok((String::from_utf8(key)?, origin))
    };
    scene.read("out")?.iter().map(facts).collect()
}

fn replay(scene: &Scene, daemon: &mut Daemon, more: &[&str]) -> Result<Value> {
    daemon.cli(&[&["dlq", "replay", &scene.name, "-o", "json"], more].concat())?.json()
}

fn letters_are_counted_and_shown_as_they_came(scene: &Scene) -> Result<()> {
    let (mut daemon, file) = run(scene)?;
    let file = file.to_string_lossy().into_owned();
    let dead = letters(scene)?;
    let groups = daemon.cli(&["dlq", "ls", &file, "-o", "json"])?.json()?;
    let reason = dead[0].error("reason")?;
    assert_eq!((&groups[0]["stage"], &groups[0]["reason"]), (&"parse".into(), &reason.into()));
    assert_eq!(groups[0]["letters"], DEAD);
    let none = daemon.cli(&["dlq", "ls", &file, "--reason", "other", "-o", "json"])?.json()?;
    assert_eq!(none, serde_json::json!([]));

    let place = format!("0@{}", dead[0].offset);
    let shown = daemon.cli(&["dlq", "show", &file, &place, "-o", "json"])?.json()?;
    assert_eq!(shown["value"].as_str().map(str::as_bytes), dead[0].content.value.as_deref());
    assert_eq!(shown["headers"], serde_json::json!([{ "name": "own", "value": "x" }]));
    assert_eq!(shown["letter"]["reason"], reason);
    let test = daemon.cli(&["dlq", "show", &file, &place, "--as-test"])?;
    assert!(test.out.contains("#[test]") && test.out.contains("OpenParser"), "{test:?}");
    let nothing = daemon.cli(&["dlq", "show", &file, "0@999999"])?;
    assert!(nothing.code == Some(1) && nothing.err.contains("no committed record at 0@999999"), "{nothing:?}");
    Ok(())
}

fn a_replay_takes_each_letter_once_through_what_runs_now(scene: &Scene) -> Result<()> {
    let (mut daemon, file) = run(scene)?;
    let before = predicted(scene)?.len();
    let bad = daemon.pipeline(&scene.name)?["revision"].as_u64().context("no revision")?;
    let good = daemon.deploy(&scene.name, &["--config", "parse.delimiter=\";\""])?;

    let rehearsed = replay(scene, &mut daemon, &["--dry-run"])?;
    assert_eq!((&rehearsed["selected"], &rehearsed["emitted"]), (&DEAD.into(), &DEAD.into()));
    assert_eq!(predicted(scene)?.len(), before, "a dry run writes nothing");

    let first = replay(scene, &mut daemon, &["--at", &format!("0@0..{}", 5), "--rate", "100"])?;
    let some = first["emitted"].as_u64().context("no count")?;
    assert!(some > 0 && some < DEAD as u64, "{first}");
    let rest = replay(scene, &mut daemon, &[])?;
    assert_eq!((&rest["replayed_before"], rest["emitted"].as_u64()), (&some.into(), Some(DEAD as u64 - some)));
    let nothing = replay(scene, &mut daemon, &[])?;
    assert_eq!((&nothing["selected"], &nothing["replayed_before"]), (&0.into(), &DEAD.into()));

    let mut came = predicted(scene)?;
    came.sort();
    let mut expected: Vec<(String, String)> =
        (0..60).map(|at| (format!("k{at}"), format!("{}/{}@{}", scene.topic("in"), at % 2, at / 2))).collect();
    expected.sort();
    assert_eq!(came, expected, "every record once, under its own key and origin");
    assert_eq!(scene.read("in")?.len(), 60, "nothing is written back into the input");
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running");
    // Both revisions have processed what was replayed, and it takes nothing from the first one's range.
    let range = |partition: i32, first: i32, last: i32| (partition, first, last);
    assert_eq!(affected(&mut daemon, &file, bad)?, [range(0, 0, 29), range(1, 0, 29)]);
    let letters = (0..60).filter(|at| at % 3 == 0).map(|at| range(at % 2, at / 2, at / 2));
    let mut letters: Vec<(i32, i32, i32)> = letters.collect();
    letters.sort_unstable();
    assert_eq!(affected(&mut daemon, &file, good)?, letters);
    Ok(())
}

/// Partition, first and last offset of what a revision processed.
fn affected(daemon: &mut Daemon, file: &Path, revision: u64) -> Result<Vec<(i32, i32, i32)>> {
    let (file, revision) = (file.to_string_lossy(), revision.to_string());
    let affected = daemon.cli(&["history", &file, "--affected", &revision, "-o", "json"])?.json()?;
    let number =
        |range: &Value, name: &str| i32::try_from(range[name].as_i64().context("no number")?).context("too large");
    let range = |range: &Value| Ok((number(range, "partition")?, number(range, "first")?, number(range, "last")?));
    affected["ranges"].as_array().context("no ranges")?.iter().map(range).collect()
}

fn a_letter_that_fails_again_counts_its_attempts_and_is_left_alone_at_the_last(scene: &Scene) -> Result<()> {
    let (mut daemon, _) = run(scene)?;
    let reason = letters(scene)?[0].error("reason")?.to_owned();
    let again = replay(scene, &mut daemon, &["--max-attempts", "2"])?;
    assert_eq!((&again["dead_letters"][&reason], &again["emitted"]), (&DEAD.into(), &0.into()));
    let all = letters(scene)?;
    let attempts =
        |wanted: &str| all.iter().filter(|letter| letter.error("attempts").is_ok_and(|it| it == wanted)).count();
    assert_eq!((attempts("1"), attempts("2")), (DEAD, DEAD));
    let last = replay(scene, &mut daemon, &["--max-attempts", "2"])?;
    assert_eq!(
        (&last["selected"], &last["tried_too_often"], &last["replayed_before"]),
        (&0.into(), &DEAD.into(), &DEAD.into())
    );
    Ok(())
}

fn letters_that_cannot_go_through_are_named_and_nothing_is_written(scene: &Scene) -> Result<()> {
    let (mut daemon, file) = run(scene)?;
    let before = scene.read("dead")?;
    scene.write("dead", &[record::value("from somewhere else").on(0)])?;
    let listed = daemon.cli(&["dlq", "ls", &file.to_string_lossy()])?;
    assert!(listed.err.contains("it has no header __sandpiper.errors.topic"), "{listed:?}");
    let rehearsed = replay(scene, &mut daemon, &["--dry-run"])?;
    assert_eq!(rehearsed["foreign"], 1);

    let mut other = record::value("1").on(0);
    other.content.headers = before[0].content.headers.clone();
    let stage = other.content.headers.iter_mut().find(|(name, _)| name == "__sandpiper.errors.stage");
    stage.context("no stage")?.1 = Some(b"transform[3]".to_vec());
    scene.write("dead", &[other])?;
    let refused = daemon.cli(&["dlq", "replay", &scene.name])?;
    assert!(refused.code == Some(1) && refused.err.contains("is of stage transform[3]"), "{refused:?}");
    assert_eq!(scene.read("dead")?.len(), before.len() + 2, "nothing is written");
    let wrong = daemon.cli(&["dlq", "replay", &scene.name, "--at", "3"])?;
    assert!(wrong.code == Some(2) && wrong.err.contains("PARTITION@OFFSET"), "{wrong:?}");
    Ok(())
}

fn what_a_producer_writes_under_our_names_hides_no_letter(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 1, &[]), ("out", 1, &[]), ("dead", 1, &[])])?;
    let row = record::value(ROW.replace(',', ";")).key("k");
    let forged = [
        row.clone().header("__sandpiper.replayed", Some(b"0@0")),
        row.clone().header("__sandpiper.errors.topic", Some(b"other")).header("__sandpiper.errors.reason", None),
        row.header("__sandpiper.own.__sandpiper.replayed", Some(b"0@2")),
    ];
    scene.write("in", &forged)?;
    let file = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.daemon("a", &file)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(letters(scene)?.len(), forged.len());
    daemon.deploy(&scene.name, &["--config", "parse.delimiter=\";\""])?;
    let replayed = replay(scene, &mut daemon, &[])?;
    assert_eq!(
        (&replayed["selected"], &replayed["emitted"]),
        (&forged.len().into(), &forged.len().into()),
        "{replayed}"
    );
    let out = scene.read("out")?;
    let headers: Vec<_> = out.iter().map(|record| &record.content.headers).collect();
    assert_eq!(headers, forged.iter().map(|record| &record.content.headers).collect::<Vec<_>>(), "as they came");
    Ok(())
}

fn a_replay_that_two_daemons_are_asked_for_takes_each_letter_at_most_once(scene: &Scene) -> Result<()> {
    let (mut one, file) = run(scene)?;
    one.deploy(&scene.name, &["--config", "parse.delimiter=\";\""])?;
    let mut other = scene.unready_daemon("b", &file)?;
    other.until_status(&scene.name, "it has a deployment", |status| status["revision"].is_u64())?;
    other.deploy(&scene.name, &["--config", "parse.delimiter=\";\""])?;
    let name = scene.name.clone();
    for _ in 0..5 {
        std::thread::scope(|threads| {
            for daemon in [&mut one, &mut other] {
                let name = &name;
                // Which of the two is taken over, and when, is chance.
                threads.spawn(move || daemon.cli(&["dlq", "replay", name, "--rate", "200"]));
            }
        });
    }
    let rest = replay(scene, &mut one, &[])?;
    assert_eq!(rest["error"], Value::Null, "{rest}");
    let mut came: Vec<String> = predicted(scene)?.into_iter().map(|(_, origin)| origin).collect();
    came.sort();
    let mut expected: Vec<String> = (0..60).map(|at| format!("{}/{}@{}", scene.topic("in"), at % 2, at / 2)).collect();
    expected.sort();
    assert_eq!(came, expected, "every record once");
    Ok(())
}
