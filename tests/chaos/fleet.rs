//! Several daemons of which one decides for all, through Kafka: whoever is killed and whatever becomes of the control topics, nothing
//! is lost or doubled, no partition's revision goes back, and in the end all run the same.

use crate::load_test::LoadTest;
use crate::matrix::{SeededRandom, times};
use crate::support::daemon::Daemon;
use crate::support::scene::Scene;
use crate::support::{flowers, until, until_true};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

crate::tests![kills_while_one_decides_for_three, control_topics_lost_under_load];

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
fn until_one_revision(test: &LoadTest, daemons: &mut [Daemon]) -> Result<u64> {
    let mut last = Vec::new();
    let found = until("all daemons run one revision", || {
        last.clear();
        for daemon in daemons.iter_mut() {
            let status = daemon.pipeline(&test.scene.name)?;
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

/// Every daemon has the same history, in which revisions only grow.
fn assert_one_history(test: &LoadTest, daemons: &mut [Daemon]) -> Result<()> {
    let arguments = ["history", &test.scene.name, "-o", "json"];
    let mut histories = Vec::new();
    for daemon in daemons.iter_mut() {
        histories.push(daemon.cli(&arguments)?.json()?);
    }
    ensure!(histories.windows(2).all(|pair| pair[0] == pair[1]), "{histories:#?}");
    let lines = histories[0].as_array().context("no lines")?;
    let revisions: Vec<u64> = lines.iter().filter_map(|line| line["revision"].as_u64()).collect();
    ensure!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
    Ok(())
}

fn kills_while_one_decides_for_three(scene: &Scene) -> Result<()> {
    let cycles = times(4, 60)?;
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
    let revision = until_one_revision(&test, &mut daemons)?;
    assert_one_history(&test, &mut daemons)?;
    let figures = format!(
        "{cycles} kills, {deciders} of the daemon that decided; {accepted} commands were answered with yes, and all ended on \
         revision {revision}"
    );
    let [a, b, c] = &mut daemons[..] else { unreachable!("three were started") };
    test.assert_exactly_once(&mut [a, b, c], &figures)
}

fn control_topics_lost_under_load(scene: &Scene) -> Result<()> {
    let cycles = times(1, 10)?;
    let mut random = SeededRandom::new(&scene.name)?;
    let test = LoadTest::direct(scene, "")?;
    let mut daemons = start(&test)?;
    for _ in 0..cycles {
        test.until_all_progress()?;
        let before = until_one_revision(&test, &mut daemons)?;
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
        let after = until_one_revision(&test, &mut daemons)?;
        ensure!(after >= before, "what was deployed before is forgotten: {after} after {before}");
    }
    test.until_all_progress()?;
    assert_one_history(&test, &mut daemons)?;
    let [a, b, c] = &mut daemons[..] else { unreachable!("three were started") };
    test.assert_exactly_once(&mut [a, b, c], &format!("{cycles} times some of the control topics were deleted"))
}
