//! Several daemons of one pipeline, of which one decides for all: they run one revision, whichever is asked, and whoever dies.

use crate::support::daemon::Daemon;
use crate::support::flowers::{self, ROW};
use crate::support::hostile;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::until;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

crate::tests![
    what_is_deployed_at_one_daemon_runs_at_all_and_undo_too,
    of_two_operators_at_once_one_is_accepted,
    when_the_daemon_that_decides_is_killed_another_goes_on,
    a_new_daemon_takes_what_runs_from_the_control_topics_and_not_from_an_older_file,
    a_release_that_fails_at_one_daemon_goes_at_all,
    a_scorer_that_is_deployed_at_one_daemon_scores_at_all,
    a_pause_holds_all_daemons_and_outlives_them,
    control_topics_that_are_lost_are_restored_by_those_who_remember,
    what_no_daemon_has_written_into_the_commands_is_refused_and_said,
    a_better_model_goes_from_shadow_to_everywhere_at_all_daemons,
    a_daemon_that_decided_alone_brings_what_it_remembers,
    records_of_a_later_version_are_said_and_what_runs_goes_on,
];

/// Daemons that share control topics.
pub struct Fleet<'s, 'k> {
    pub scene: &'s Scene<'k>,
    pub pipeline: PathBuf,
    pub daemons: Vec<Daemon>,
}

impl<'s, 'k> Fleet<'s, 'k> {
    /// So many daemons on a pipeline of four partitions whose model predicts setosa for every flower.
    pub fn start(scene: &'s Scene<'k>, count: usize, more: &str) -> Result<Self> {
        scene.create_usual(4)?;
        let pipeline = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, more)?;
        Self::start_on(scene, count, pipeline)
    }

    fn start_on(scene: &'s Scene<'k>, count: usize, pipeline: PathBuf) -> Result<Self> {
        let mut fleet = Self { scene, pipeline, daemons: Vec::new() };
        for at in 0..count {
            if let Some(first) = fleet.daemons.first() {
                first.give_code(&scene.directory.join(name(at)))?;
            }
            let mut daemon = fleet.spawn(&name(at))?;
            if at == 0 {
                daemon.until_ready()?;
            }
            fleet.daemons.push(daemon);
        }
        fleet.daemons.iter_mut().try_for_each(Daemon::until_ready)?;
        Ok(fleet)
    }

    pub fn spawn(&self, name: &str) -> Result<Daemon> {
        self.scene.shared_daemon(name, &self.pipeline)
    }

    /// Waits until every daemon's workers run that revision.
    pub fn until_all_run(&mut self, revision: u64) -> Result<()> {
        for daemon in &mut self.daemons {
            daemon.until_status(&self.scene.name, &format!("revision {revision} runs"), |status| {
                let workers = status["workers"].as_array();
                status["revision"] == revision
                    && workers.is_some_and(|all| all.iter().all(|worker| worker["revision"] == revision))
            })?;
        }
        Ok(())
    }

    pub fn deploy(&mut self, at: usize, class: &str) -> Result<u64> {
        let model = self.scene.model_of(class)?;
        self.daemons[at].deploy(&self.scene.name, &["--model", &model.to_string_lossy()])
    }

    pub fn cli(&mut self, at: usize, arguments: &[&str]) -> Result<()> {
        let printed = self.daemons[at].cli(arguments)?;
        ensure!(printed.code == Some(0), "{arguments:?}: {printed:?}\n{}", self.daemons[at].log_tail());
        Ok(())
    }

    /// One record to each partition, under that name; waits until they are predicted.
    pub fn send(&mut self, name: &str) -> Result<()> {
        let rows: Vec<Record> = (0..4).map(|at| record::value(ROW).key(format!("{name}-{at}")).on(at)).collect();
        self.scene.write("in", &rows)?;
        self.until_done()
    }

    pub fn until_done(&mut self) -> Result<()> {
        self.scene.until_done(&mut self.daemons.iter_mut().collect::<Vec<_>>())
    }

    /// The daemon that decides.
    pub fn decider(&mut self) -> Result<usize> {
        until("one daemon decides", || {
            let mut found = Vec::new();
            for (at, daemon) in self.daemons.iter_mut().enumerate() {
                found.extend((daemon.status()?["control"]["decides"] == true).then_some(at));
            }
            ensure!(found.len() < 2, "{found:?} decide at once");
            Ok(found.pop())
        })
    }

    /// Name → class and revision of every prediction; fails where a partition's revisions go back.
    pub fn predictions(&self) -> Result<BTreeMap<String, (String, u64)>> {
        let (mut all, mut newest) = (BTreeMap::new(), BTreeMap::<i32, u64>::new());
        let mut records = self.scene.read("out")?;
        records.sort_by_key(|record| (record.partition, record.offset));
        for record in records {
            let value = record.json()?;
            let revision = value["revision"].as_u64().context("no revision")?;
            let partition = record.partition.context("no partition")?;
            let before = newest.insert(partition, revision).unwrap_or_default();
            ensure!(before <= revision, "partition {partition} goes back from revision {before} to {revision}");
            let text = |name: &str| value[name].as_str().map(str::to_owned).context("a field is missing");
            ensure!(all.insert(text("id")?, (text("class")?, revision)).is_none(), "{value} was predicted twice");
        }
        Ok(all)
    }

    /// Every daemon tells the same history.
    pub fn one_history(&mut self) -> Result<Vec<Value>> {
        let arguments = ["history", &self.scene.name, "-o", "json"];
        let mut histories = Vec::new();
        for daemon in &mut self.daemons {
            histories.push(daemon.cli(&arguments)?.json()?);
        }
        ensure!(histories.windows(2).all(|pair| pair[0] == pair[1]), "{histories:#?}");
        histories[0].as_array().cloned().context("no lines")
    }
}

fn name(at: usize) -> String {
    format!("daemon-{at}")
}

/// Class and revision of the predictions whose names begin with that.
fn of(predictions: &BTreeMap<String, (String, u64)>, prefix: &str) -> BTreeSet<(String, u64)> {
    predictions.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, prediction)| prediction.clone()).collect()
}

fn only(class: &str, revision: u64) -> BTreeSet<(String, u64)> {
    [(class.to_owned(), revision)].into()
}

fn what_is_deployed_at_one_daemon_runs_at_all_and_undo_too(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 3, "")?;
    fleet.until_all_run(1)?;
    fleet.send("first")?;
    // A model's file that only this daemon has.
    assert_eq!(fleet.deploy(1, "virginica")?, 2);
    fleet.until_all_run(2)?;
    fleet.send("second")?;
    fleet.cli(2, &["rollout", "undo", &scene.name, "--reason", "a test"])?;
    fleet.until_all_run(3)?;
    fleet.send("third")?;
    let predictions = fleet.predictions()?;
    for (prefix, class, revision) in [("first", "setosa", 1), ("second", "virginica", 2), ("third", "setosa", 3)] {
        assert_eq!(of(&predictions, prefix), only(class, revision), "{predictions:?}");
    }
    assert_eq!(fleet.one_history()?.len(), 3);
    let daemons = fleet.daemons[0].pipeline(&scene.name)?["daemons"].clone();
    assert_eq!(daemons.as_object().map(|all| all.len()), Some(3), "{daemons}");
    assert!(daemons.as_object().unwrap().values().all(|workers| workers["0"] == 3), "{daemons}");
    Ok(())
}

fn of_two_operators_at_once_one_is_accepted(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 2, "")?;
    let models = [scene.model_of("virginica")?, scene.model_of("versicolor")?];
    let mut commands = Vec::new();
    for (daemon, model) in fleet.daemons.iter_mut().zip(&models) {
        let model = model.to_string_lossy();
        let arguments = ["deploy", &scene.name, "--model", &model, "--reason", "at once", "--expect", "1"];
        commands.push(daemon.start_cli(&arguments)?);
    }
    let mut codes = Vec::new();
    let mut said = String::new();
    for command in commands {
        let output = command.wait_with_output()?;
        codes.push(output.status.code());
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)], "{said}");
    let is_stale = said.contains("runs revision 2, and the change was made against 1");
    assert!(is_stale || said.contains("which became current while this one was on its way"), "{said}");
    fleet.until_all_run(2)?;
    Ok(())
}

fn when_the_daemon_that_decides_is_killed_another_goes_on(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 3, "")?;
    fleet.send("first")?;
    let decider = fleet.decider()?;
    fleet.daemons[decider].kill9()?;
    let killed = fleet.daemons.remove(decider);
    assert_eq!(fleet.deploy(0, "virginica")?, 2);
    fleet.until_all_run(2)?;
    fleet.send("second")?;
    drop(killed);
    let mut back = fleet.spawn(&name(decider))?;
    back.until_ready()?;
    fleet.daemons.push(back);
    fleet.until_all_run(2)?;
    assert_eq!(fleet.deploy(2, "versicolor")?, 3);
    fleet.until_all_run(3)?;
    fleet.send("third")?;
    let predictions = fleet.predictions()?;
    assert_eq!(predictions.len(), 12);
    for (prefix, class, revision) in [("first", "setosa", 1), ("second", "virginica", 2), ("third", "versicolor", 3)] {
        assert_eq!(of(&predictions, prefix), only(class, revision), "{predictions:?}");
    }
    fleet.one_history().map(drop)
}

fn a_new_daemon_takes_what_runs_from_the_control_topics_and_not_from_an_older_file(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 1, "")?;
    assert_eq!(fleet.deploy(0, "virginica")?, 2);
    // It has the file as it was, and no state.
    let mut late = fleet.spawn("late")?;
    late.until_ready()?;
    fleet.daemons.push(late);
    fleet.until_all_run(2)?;
    let status = fleet.daemons[1].pipeline(&scene.name)?;
    assert!(status["file_asks_for"].as_str().is_some_and(|asked| asked.contains("classify logistic@")), "{status:#}");
    assert!(fleet.daemons[1].cli(&["status"])?.out.contains("its file asks for"));
    // A file that asks for something new is applied at all.
    let changed = std::fs::read_to_string(&fleet.pipeline)?.replace("setosa.json", "versicolor.json");
    scene.model_of("versicolor")?;
    let other = scene.file("changed.toml", changed)?;
    let mut newest = scene.shared_daemon("newest", &other)?;
    newest.until_ready()?;
    fleet.daemons.push(newest);
    fleet.until_all_run(3)?;
    fleet.send("third")?;
    assert_eq!(of(&fleet.predictions()?, "third"), only("versicolor", 3));
    Ok(())
}

fn a_release_that_fails_at_one_daemon_goes_at_all(scene: &Scene) -> Result<()> {
    scene.create_usual(4)?;
    let pipeline = scene.pipeline(&scene.hostile_stages("do = \"nothing\"", "do = \"nothing\"", "")?)?;
    let mut fleet = Fleet::start_on(scene, 2, pipeline)?;
    let rows: Vec<Record> = (0..4).map(|at| record::value("1").on(at)).collect();
    scene.write("in", &rows)?;
    fleet.until_done()?;
    let bad = fleet.daemons[0].deploy(&scene.name, &["--config", "classify.do=\"trap\""])?;
    scene.write("in", &rows)?;
    fleet.until_done()?;
    fleet.until_all_run(bad + 1)?;
    let history = fleet.one_history()?;
    assert!(history.iter().any(|line| line["revision"] == bad && line["failed"].is_string()), "{history:#?}");
    let revisions: Vec<u64> = scene
        .read("out")?
        .iter()
        .map(|record| Ok(record.json()?["revision"].as_u64().unwrap_or(0)))
        .collect::<Result<_>>()?;
    assert_eq!(revisions.iter().filter(|revision| **revision == bad + 1).count(), 4, "{revisions:?}");
    assert_eq!((revisions.len(), scene.read("dead")?.len()), (8, 0), "none is lost, and none is a dead letter");
    Ok(())
}

fn a_scorer_that_is_deployed_at_one_daemon_scores_at_all(scene: &Scene) -> Result<()> {
    scene.create(&[("labels", 4, &[]), ("scores", 4, &[])])?;
    let topics = [scene.topic("labels"), scene.topic("scores")];
    let feedback = format!("[feedback]\nlabels = {:?}\nscores = {:?}\nwait = \"1h\"\n", topics[0], topics[1]);
    let mut fleet = Fleet::start(scene, 2, &feedback)?;
    let judge = |fleet: &mut Fleet, name: &str| -> Result<BTreeMap<String, usize>> {
        fleet.send(name)?;
        let labels = (0..4).map(|at| record::value("setosa").key(format!("{name}-{at}")).on(at));
        scene.write("labels", &labels.collect::<Vec<_>>())?;
        until("every label has a score", || {
            let mut scorers = BTreeMap::new();
            for record in scene.read("scores")? {
                let score = record.json()?;
                if score["id"].as_str().is_some_and(|id| id.starts_with(name)) {
                    *scorers.entry(score["scorer"].as_str().context("no scorer")?.to_owned()).or_insert(0) += 1;
                }
            }
            Ok((scorers.values().sum::<usize>() == 4).then_some(scorers))
        })
    };
    let before = judge(&mut fleet, "first")?;
    assert!(before.len() == 1 && before.keys().all(|scorer| scorer.starts_with("loss@")), "{before:?}");
    // Its file is at one daemon alone: the other one has it from the control topics.
    let component = hostile::hostile("scorer")?;
    let arguments = ["--score", &component.to_string_lossy(), "--config", "score.do=\"nothing\""];
    let revision = fleet.daemons[1].deploy(&scene.name, &arguments)?;
    fleet.until_all_run(revision)?;
    for daemon in &mut fleet.daemons {
        daemon.until_status(&scene.name, "it scores", |status| status["feedback"]["worker"]["revision"] == revision)?;
    }
    let after = judge(&mut fleet, "second")?;
    assert!(
        after.len() == 1 && after.keys().all(|scorer| scorer.starts_with("sandpiper_hostile_scorer@")),
        "{after:?}"
    );
    let history = fleet.one_history()?;
    assert!(history.iter().all(|line| line["releases"]["score"].is_object()), "{history:#?}");
    Ok(())
}

fn a_pause_holds_all_daemons_and_outlives_them(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 2, "")?;
    fleet.send("first")?;
    fleet.cli(0, &["pause", &scene.name, "--reason", "lunch"])?;
    for daemon in &mut fleet.daemons {
        daemon.until_status(&scene.name, "it is paused", |status| status["state"] == "paused")?;
    }
    for daemon in &mut fleet.daemons {
        daemon.kill9()?;
    }
    let names: Vec<String> = (0..2).map(name).collect();
    fleet.daemons = names.iter().map(|name| fleet.spawn(name)).collect::<Result<_>>()?;
    for daemon in &mut fleet.daemons {
        daemon.until_status(&scene.name, "it is still paused", |status| status["paused"]["why"] == "lunch")?;
    }
    fleet.cli(1, &["resume", &scene.name])?;
    fleet.daemons.iter_mut().try_for_each(Daemon::until_ready)?;
    fleet.send("second")
}

fn control_topics_that_are_lost_are_restored_by_those_who_remember(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 2, "")?;
    assert_eq!(fleet.deploy(0, "virginica")?, 2);
    fleet.until_all_run(2)?;
    for topic in ["control.commands", "control.deployments", "control.artifacts"] {
        scene.kafka.delete_topic(&scene.topic(topic))?;
    }
    fleet.send("while they are gone")?;
    let revision = until("a deployment is decided again", || {
        let model = scene.model_of("versicolor")?;
        let arguments = ["deploy", &scene.name, "--model", &model.to_string_lossy(), "--reason", "again", "-o", "json"];
        let printed = fleet.daemons[1].cli(&arguments)?;
        (printed.code == Some(0)).then(|| printed.json()).transpose()
    })?;
    assert_eq!(revision["revision"], 3, "what was deployed before is remembered");
    fleet.until_all_run(3)?;
    fleet.send("after")?;
    let predictions = fleet.predictions()?;
    assert_eq!(of(&predictions, "while"), only("virginica", 2));
    assert_eq!(of(&predictions, "after"), only("versicolor", 3));
    // Whoever has no state of its own finds all of it.
    let mut late = fleet.spawn("late")?;
    late.until_ready()?;
    fleet.daemons.push(late);
    fleet.until_all_run(3)
}

fn what_no_daemon_has_written_into_the_commands_is_refused_and_said(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 2, "")?;
    let by_hand = [
        record::value("resume, please").key(&scene.name).on(0),
        record::value("{\"v\":2,\"action\":\"resume\"}").key(&scene.name).on(0),
        record::value("{\"v\":1,\"from\":\"me\",\"action\":\"resume\"}").key(&scene.name).on(0),
        record::value("{}").key("nobody").on(0),
        record::tombstone().on(0),
    ];
    scene.write("control.commands", &by_hand)?;
    assert_eq!(fleet.deploy(1, "virginica")?, 2);
    fleet.until_all_run(2)?;
    let history = fleet.one_history()?;
    let refused: Vec<&str> =
        history.iter().filter(|line| line["call"] == "refused").filter_map(|line| line["reason"].as_str()).collect();
    assert_eq!(refused.len(), 3, "{history:#?}");
    for part in ["no daemon has written", "version 2", "nobody who asks"] {
        assert!(refused.iter().any(|reason| reason.contains(part)), "{part} is missing in {refused:?}");
    }
    Ok(())
}

fn a_better_model_goes_from_shadow_to_everywhere_at_all_daemons(scene: &Scene) -> Result<()> {
    let steps = "[[rollout.step]]\nshadow = \"100 records\"\n[[rollout.step]]\ncanary = 0.5\nhold = \"100 records\"\n";
    let mut fleet = Fleet::start(scene, 3, steps)?;
    let send = |fleet: &mut Fleet, name: &str| {
        let row = |at: i32| record::value(ROW).key(format!("{name}-{at}")).on(at % 4);
        scene.write("in", &(0..120).map(row).collect::<Vec<_>>())?;
        fleet.until_done()
    };
    let shadow = fleet.daemons[0].deploy(&scene.name, &["--model", &flowers::model().to_string_lossy()])?;
    fleet.until_all_run(shadow)?;
    // No daemon has seen that many records: they count together.
    send(&mut fleet, "shadow")?;
    fleet.until_all_run(shadow + 1)?;
    send(&mut fleet, "canary")?;
    for daemon in &mut fleet.daemons {
        daemon.until_status(&scene.name, "the steps are passed", |status| status["rollout"]["state"] == "passed")?;
    }
    let figures = fleet.daemons[2].pipeline(&scene.name)?["rollout"]["step_figures"]["records"].clone();
    assert_eq!(figures, 120, "of all daemons");
    fleet.cli(1, &["rollout", "promote", &scene.name, "--reason", "as good"])?;
    fleet.until_all_run(shadow + 2)?;
    send(&mut fleet, "after")?;
    assert_eq!(
        of(&fleet.predictions()?, "after").iter().map(|(_, revision)| *revision).collect::<Vec<_>>(),
        [shadow + 2]
    );
    fleet.one_history().map(drop)
}

fn a_daemon_that_decided_alone_brings_what_it_remembers(scene: &Scene) -> Result<()> {
    scene.create_usual(4)?;
    let pipeline = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, "")?;
    let mut alone = scene.daemon(&name(0), &pipeline)?;
    let model = scene.model_of("virginica")?;
    assert_eq!(alone.deploy(&scene.name, &["--model", &model.to_string_lossy()])?, 2);
    alone.sigterm()?;
    alone.wait_exit()?;
    // Of the two only the first has the model's file.
    let mut fleet = Fleet::start_on(scene, 2, pipeline)?;
    fleet.until_all_run(2)?;
    fleet.send("second")?;
    assert_eq!(of(&fleet.predictions()?, "second"), only("virginica", 2));
    fleet.one_history().map(drop)
}

fn records_of_a_later_version_are_said_and_what_runs_goes_on(scene: &Scene) -> Result<()> {
    let mut fleet = Fleet::start(scene, 2, "")?;
    fleet.until_all_run(1)?;
    let later = record::value("{\"v\":2,\"of\":\"a later program\"}").key(format!("{}/revision/1", scene.name)).on(0);
    scene.write("control.deployments", &[later])?;
    for daemon in &mut fleet.daemons {
        until("it says so", || {
            let trouble = daemon.status()?["control"]["trouble"].clone();
            Ok(trouble.as_str().filter(|trouble| trouble.contains("version 2")).map(drop))
        })?;
    }
    fleet.send("meanwhile")?;
    assert_eq!(of(&fleet.predictions()?, "meanwhile"), only("setosa", 1));
    Ok(())
}
