//! Several daemons of which one decides for all, through Kafka: whoever is killed and whatever becomes of the control topics, nothing
//! is lost or doubled, no partition's revision goes back, and in the end all run the same.

use crate::load_test::LoadTest;
use crate::matrix::{SeededRandom, record_result, times};
use crate::support::daemon::Daemon;
use crate::support::scene::Scene;
use crate::support::{flowers, until, until_true};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

crate::tests![
    kills_while_one_decides_for_three,
    whoever_decides_is_killed_at_each_step,
    control_topics_lost_under_load,
    upgraded_one_by_one_in_a_canary,
];

const NAMES: [&str; 3] = ["a", "b", "c"];

const STEPS: &str = "[rollout]\nguards = { disagreement = { above = 1.0 } }\n\
    [[rollout.step]]\nshadow = \"300 records\"\n[[rollout.step]]\ncanary = 0.3\nhold = \"300 records\"\n";

fn start(test: &LoadTest) -> Result<Vec<Daemon>> {
    let [first, others @ ..] = NAMES;
    let mut daemons = vec![test.scene.shared_daemon(first, &test.pipeline)?];
    daemons[0].until_ready()?;
    for name in others {
        daemons[0].give_code(&test.scene.directory.join(name))?;
        daemons.push(test.scene.shared_daemon(name, &test.pipeline)?);
    }
    daemons.iter_mut().try_for_each(Daemon::until_ready)?;
    Ok(daemons)
}

/// A model that nobody has deployed before.
fn model(test: &LoadTest, number: usize) -> Result<PathBuf> {
    let class = ["virginica", "setosa"][number % 2];
    test.scene.file(&format!("model-{number}.json"), flowers::model_of(class) + &" ".repeat(number + 1))
}

/// Whatever comes of it: the daemon that is asked may be killed meanwhile, or a rollout may be under way.
fn ask(test: &LoadTest, daemon: &mut Daemon, random: &mut SeededRandom, cycle: usize) -> Result<Child> {
    let name = test.scene.name.as_str();
    let model = model(test, cycle)?;
    let model = model.to_string_lossy();
    let at_once = ["deploy", name, "--model", &model, "--reason", "a test", "--now"];
    match random.below(6) {
        0 => daemon.start_cli(&at_once[..6]),
        1 => daemon.start_cli(&["rollout", "promote", name, "--reason", "a test"]),
        2 => daemon.start_cli(&["rollout", "undo", name, "--reason", "a test"]),
        _ => daemon.start_cli(&at_once),
    }
}

/// What all daemons say that runs; waits until they say the same.
fn until_one_revision(scene: &Scene, daemons: &mut [Daemon]) -> Result<u64> {
    let mut last = Vec::new();
    let found = until("all daemons run one revision", || {
        last.clear();
        for daemon in daemons.iter_mut() {
            let status = daemon.pipeline(&scene.name)?;
            let workers = status["workers"].as_array().cloned().unwrap_or_default();
            last.push((status["revision"].clone(), workers.iter().map(|worker| worker["revision"].clone()).collect()));
        }
        let all: BTreeSet<String> = last
            .iter()
            .flat_map(|(one, workers): &(Value, Vec<Value>)| workers.iter().chain([one]))
            .map(Value::to_string)
            .collect();
        Ok((all.len() == 1).then(|| last[0].0.as_u64()).flatten())
    });
    found.with_context(|| format!("{last:?}"))
}

/// The history that every daemon has, in which revisions only grow.
fn one_history(scene: &Scene, daemons: &mut [Daemon]) -> Result<Vec<Value>> {
    let arguments = ["history", &scene.name, "-o", "json"];
    let mut histories = Vec::new();
    for daemon in daemons.iter_mut() {
        histories.push(daemon.cli(&arguments)?.json()?);
    }
    ensure!(histories.windows(2).all(|pair| pair[0] == pair[1]), "{histories:#?}");
    let lines = histories[0].as_array().context("no lines")?;
    let revisions: Vec<u64> = lines.iter().filter_map(|line| line["revision"].as_u64()).collect();
    ensure!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
    Ok(lines.clone())
}

fn kills_while_one_decides_for_three(scene: &Scene) -> Result<()> {
    let cycles = times(3, 60)?;
    let mut random = SeededRandom::new(&scene.name)?;
    let test = LoadTest::direct(scene, STEPS)?;
    let mut daemons = start(&test)?;
    let (mut deciders, mut accepted) = (0, 0);
    for cycle in 0..cycles {
        test.until_all_progress()?;
        let asked = random.below(3) as usize;
        let command = ask(&test, &mut daemons[asked], &mut random, cycle)?;
        // So that the kill comes at any step of the command: asked, decided, staged, handed over.
        std::thread::sleep(Duration::from_millis(random.below(600)));
        // Every other time it is the daemon that decides.
        let decider =
            daemons.iter_mut().position(|daemon| daemon.status().is_ok_and(|it| it["control"]["decides"] == true));
        let killed = decider.filter(|_| cycle % 2 == 0).unwrap_or(random.below(3) as usize);
        deciders += u32::from(decider == Some(killed));
        daemons[killed].kill9()?;
        daemons[killed] = test.scene.shared_daemon(NAMES[killed], &test.pipeline)?;
        daemons[killed].until_ready()?;
        let output = command.wait_with_output()?;
        accepted += u32::from(output.status.success());
        let said = if output.status.success() { output.stdout } else { output.stderr };
        eprintln!("cycle {cycle}: {}", String::from_utf8_lossy(&said).trim());
    }
    // Whatever is under way by then: in the end a deployment is everybody's.
    drop(daemons[0].cli(&["rollout", "abort", &scene.name, "--reason", "a test"])?);
    let last = model(&test, cycles)?;
    daemons[0].deploy(&scene.name, &["--model", &last.to_string_lossy(), "--now"])?;
    test.until_all_progress()?;
    let revision = until_one_revision(scene, &mut daemons)?;
    one_history(scene, &mut daemons)?;
    let figures = format!(
        "{cycles} kills, {deciders} of the daemon that decided; {accepted} commands were answered with yes, and all ended on \
         revision {revision}"
    );
    let [a, b, c] = &mut daemons[..] else { unreachable!("three were started") };
    test.assert_exactly_once(&mut [a, b, c], &figures)
}

/// The steps of a transaction in which commands are decided.
const STEPS_OF_A_DECISION: [&str; 4] = ["after-begin", "in-produce", "after-offsets", "after-end"];

/// A daemon that is killed at one of these steps once it has decided about some commands. Nothing else in it opens a transaction as
/// long as no record comes.
fn failing(scene: &Scene, name: &str, pipeline: &Path, random: &mut SeededRandom, kill: usize) -> Result<Daemon> {
    let step = STEPS_OF_A_DECISION[kill % STEPS_OF_A_DECISION.len()];
    let failpoints = format!("{step}={}*off->1*return(kill)", random.below(24));
    scene.shared_daemon_with(name, pipeline, &[("FAILPOINTS", failpoints.as_ref())])
}

fn whoever_decides_is_killed_at_each_step(scene: &Scene) -> Result<()> {
    let (kills, mut random) = (times(2, 60)?, SeededRandom::new(&scene.name)?);
    scene.create_usual(4)?;
    let pipeline = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, "")?;
    let mut first = scene.shared_daemon("a", &pipeline)?;
    first.until_ready()?;
    for name in ["b", "c"] {
        first.give_code(&scene.directory.join(name))?;
    }
    // Whoever decides next has a step at which it is killed.
    let mut daemons = vec![first];
    for (at, name) in ["b", "c"].into_iter().enumerate() {
        daemons.push(failing(scene, name, &pipeline, &mut random, at)?);
    }
    daemons.iter_mut().try_for_each(Daemon::until_ready)?;
    daemons[0].kill9()?;
    daemons[0] = failing(scene, "a", &pipeline, &mut random, 2)?;
    let (mut killed, mut asked, mut answers) = (0, 0, BTreeMap::new());
    while killed < kills {
        asked += 1;
        ensure!(asked <= 20 * kills, "{killed} kills after {asked} commands");
        let model = scene.file(&format!("step-{asked}.json"), flowers::model_of("virginica") + &" ".repeat(asked))?;
        let (reason, model) = (format!("command {asked}"), model.to_string_lossy().into_owned());
        let arguments = ["deploy", &scene.name, "--model", &model, "--reason", &reason];
        // Whoever has just been started may not have its address yet, and one that has been killed answers nobody.
        if let Ok(command) = daemons[random.below(3) as usize].start_cli(&arguments) {
            let output = command.wait_with_output()?;
            let said = if output.status.success() { &output.stdout } else { &output.stderr };
            eprintln!("{reason}: {}", String::from_utf8_lossy(said).trim());
            answers.insert(reason, output.status.success());
        }
        for at in 0..daemons.len() {
            let Some(status) = daemons[at].poll_exit()? else { continue };
            ensure!(status.signal() == Some(libc::SIGKILL), "it ended by itself: {status}\n{}", daemons[at].log_tail());
            killed += 1;
            daemons[at] = failing(scene, NAMES[at], &pipeline, &mut random, killed + 2)?;
        }
    }
    for (daemon, name) in daemons.iter_mut().zip(NAMES) {
        // One that meets its step only now is as good as one that was met before.
        if daemon.poll_exit()?.is_none() {
            daemon.kill9()?;
        }
        *daemon = scene.shared_daemon(name, &pipeline)?;
    }
    daemons.iter_mut().try_for_each(Daemon::until_ready)?;
    let revision = until_one_revision(scene, &mut daemons)?;
    let lines = one_history(scene, &mut daemons)?;
    for (reason, is_accepted) in &answers {
        let deployed =
            lines.iter().filter(|line| line["revision"].is_u64() && line["reason"] == reason.as_str()).count();
        // An answer may be all that was lost.
        ensure!(deployed <= 1 && (deployed == 1 || !is_accepted), "{reason}: {deployed} times in {lines:#?}");
    }
    let accepted = answers.values().filter(|is_accepted| **is_accepted).count();
    record_result(
        &scene.name,
        &format!("{killed} kills, {asked} commands, {accepted} answered with yes; all ended on revision {revision}"),
    );
    Ok(())
}

fn control_topics_lost_under_load(scene: &Scene) -> Result<()> {
    let cycles = times(1, 10)?;
    let mut random = SeededRandom::new(&scene.name)?;
    let test = LoadTest::direct(scene, "")?;
    let mut daemons = start(&test)?;
    for _ in 0..cycles {
        test.until_all_progress()?;
        let before = until_one_revision(scene, &mut daemons)?;
        for topic in ["commands", "deployments", "artifacts"] {
            if random.below(3) > 0 {
                scene.kafka.delete_topic(&scene.topic(&format!("control.{topic}")))?;
            }
        }
        // Another daemon may be the first to notice.
        let killed = random.below(3) as usize;
        daemons[killed].kill9()?;
        daemons[killed] = test.scene.shared_daemon(NAMES[killed], &test.pipeline)?;
        let model = scene.model_of(["versicolor", "virginica"][random.below(2) as usize])?;
        let asked = random.below(3) as usize;
        until_true("a deployment is decided again", || {
            let arguments = ["deploy", &scene.name, "--model", &model.to_string_lossy(), "--reason", "again"];
            let printed = daemons[asked].cli(&arguments)?;
            Ok(printed.code == Some(0) || printed.err.contains("runs exactly this already"))
        })?;
        let after = until_one_revision(scene, &mut daemons)?;
        ensure!(after >= before, "what was deployed before is forgotten: {after} after {before}");
    }
    test.until_all_progress()?;
    one_history(scene, &mut daemons)?;
    let [a, b, c] = &mut daemons[..] else { unreachable!("three were started") };
    test.assert_exactly_once(&mut [a, b, c], &format!("{cycles} times some of the control topics were deleted"))
}

/// What a later program writes into the control topics, the earlier one does not understand.
fn upgraded_one_by_one_in_a_canary(scene: &Scene) -> Result<()> {
    let upgrades = times(1, 10)?;
    let steps =
        "[rollout]\nguards = { disagreement = { above = 1.0 } }\n[[rollout.step]]\ncanary = 0.3\nhold = \"1h\"\n";
    let test = LoadTest::direct(scene, steps)?;
    let mut daemons = start(&test)?;
    let mut last = 0;
    for upgrade in 0..upgrades {
        let model = model(&test, upgrade)?;
        let canary = daemons[0].deploy(&scene.name, &["--model", &model.to_string_lossy()])?;
        ensure!(canary > last, "revision {canary} after {last}");
        test.until_all_progress()?;
        for (at, name) in NAMES.into_iter().enumerate() {
            daemons[at].sigterm()?;
            daemons[at].wait_exit()?;
            daemons[at] =
                scene.shared_daemon_with(name, &test.pipeline, &[("FAILPOINTS", "later-version=return".as_ref())])?;
            // Whoever is earlier goes on with what runs.
            test.until_all_progress()?;
        }
        daemons.iter_mut().try_for_each(Daemon::until_ready)?;
        ensure!(until_one_revision(scene, &mut daemons)? == canary, "the canary is another");
        let promoted = daemons[2].cli(&["rollout", "promote", &scene.name, "--reason", "a test"])?;
        ensure!(promoted.code == Some(0), "{promoted:?}");
        last = until_one_revision(scene, &mut daemons)?;
        test.until_all_progress()?;
        // The way back is none: what the later program has written stays, and the earlier one says so.
        daemons[1].sigterm()?;
        daemons[1].wait_exit()?;
        daemons[1] = scene.shared_daemon("b", &test.pipeline)?;
        until_true("the earlier program says what it does not understand", || {
            let trouble = daemons[1].status()?["control"]["trouble"].clone();
            Ok(trouble.as_str().is_some_and(|trouble| trouble.contains("version 2")))
        })?;
        test.until_all_progress()?;
        daemons[1].sigterm()?;
        daemons[1].wait_exit()?;
        daemons[1] =
            scene.shared_daemon_with("b", &test.pipeline, &[("FAILPOINTS", "later-version=return".as_ref())])?;
        daemons[1].until_ready()?;
    }
    one_history(scene, &mut daemons)?;
    let [a, b, c] = &mut daemons[..] else { unreachable!("three were started") };
    test.assert_exactly_once(
        &mut [a, b, c],
        &format!("an upgrade and {} rounds more; all ended on revision {last}", upgrades - 1),
    )
}
