//! Dead letters that two daemons are asked to replay at once, while both are killed: each goes through once at most, and
//! once when somebody has seen it to its end.

use crate::load_test::{LoadTest, until_killed};
use crate::matrix::{SeededRandom, record_result, times};
use crate::support::checker::check;
use crate::support::daemon::Daemon;
use crate::support::flowers::ROW;
use crate::support::observe::observe;
use crate::support::record::{self, Record, origin};
use crate::support::scene::Scene;
use crate::support::topic::open_transactions;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::time::Duration;

crate::tests![replay_on_two_daemons_at_once];

const NAMES: [&str; 2] = ["a", "b"];
fn replay_on_two_daemons_at_once(scene: &Scene) -> Result<()> {
    // As many letters as do not pause the pipeline, and so slowly that kills leave some for the last round.
    let (letters, kills, rate) = (300, times(4, 40)?, times(30, 3)?.to_string());
    let mut random = SeededRandom::new(&scene.name)?;
    let mut test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let mut daemons = [test.daemon(NAMES[0])?, test.daemon(NAMES[1])?];
    test.until_all_progress()?;
    let rows: Vec<_> =
        (0..letters).map(|at| record::value(ROW.replace(',', ";")).key(format!("letter {at}"))).collect();
    scene.write("in", &rows)?;
    let [a, b] = &mut daemons;
    test.drain(&mut [a, b])?;
    let report = check(&observe(scene)?);
    ensure!(report.is_clean(), "{report}");
    for daemon in &mut daemons {
        daemon.deploy(&scene.name, &["--config", "parse.delimiter=\";\""])?;
    }
    for _ in 0..kills / 2 {
        // Before either can have come to the end; whichever is killed last has had it to itself for a while.
        let after = [(); 2].map(|()| Duration::from_millis(1_000 + random.below(2_000)));
        let [a, b] = &mut daemons;
        ask_both(&scene.name, [a, b], &rate, after.map(Some));
        for (daemon, name) in daemons.iter_mut().zip(NAMES) {
            until_killed(daemon)?;
            *daemon = test.daemon(name)?;
        }
    }
    let [a, b] = &mut daemons;
    ask_both(&scene.name, [a, b], "300", [None; 2]);
    let rest = daemons[0].cli(&["dlq", "replay", &scene.name, "-o", "json"])?.json()?;
    ensure!(rest["error"].is_null(), "{rest}");
    let nothing = daemons[1].cli(&["dlq", "replay", &scene.name, "-o", "json"])?.json()?;
    ensure!(nothing["selected"] == 0 || nothing["emitted"] == 0, "{nothing}");
    assert_each_once(scene, letters)?;
    record_result(&scene.name, &format!("{letters} letters, each once; {kills} kills"));
    Ok(())
}

/// Asks both at once to replay all letters. Which of the two takes over from the other, and when, is chance; one that is
/// killed has no answer.
fn ask_both(pipeline: &str, daemons: [&mut Daemon; 2], rate: &str, killed_after: [Option<Duration>; 2]) {
    std::thread::scope(|threads| {
        for (daemon, killed_after) in daemons.into_iter().zip(killed_after) {
            let process = daemon.process() as i32;
            if let Some(after) = killed_after {
                threads.spawn(move || {
                    std::thread::sleep(after);
                    // SAFETY: it is a child of ours that nobody has waited for yet.
                    unsafe { libc::kill(process, libc::SIGKILL) };
                });
            }
            threads.spawn(move || daemon.cli(&["dlq", "replay", pipeline, "--rate", rate]));
        }
    });
}

/// The letters' records came out once each, under their own origins, and nothing else came out for them.
fn assert_each_once(scene: &Scene, letters: usize) -> Result<()> {
    let mut expected = BTreeMap::new();
    for record in scene.read("in")? {
        if is_ours(&record) {
            expected.insert((record.partition.context("no partition")?, record.offset), record.content.key);
        }
    }
    let mut came = BTreeMap::new();
    for record in scene.read("out")?.into_iter().filter(is_ours) {
        let from = origin(record.json()?["origin"].as_str().context("no origin")?)?;
        let before = came.insert(from, record.content.key);
        ensure!(before.is_none(), "the letter of {from:?} was replayed twice");
    }
    ensure!(expected.len() == letters && came == expected, "{} of {} letters came out", came.len(), expected.len());
    for short in ["out", "dead"] {
        let open = open_transactions(&scene.bootstrap(), &scene.topic(short))?;
        ensure!(open.is_empty(), "left open: {open:?}");
    }
    Ok(())
}

fn is_ours(record: &Record) -> bool {
    record.content.key.as_deref().is_some_and(|key| key.starts_with(b"letter "))
}
