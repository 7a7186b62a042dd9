//! Rollouts on a live stream: a candidate that is promoted by hand, one that goes by itself, and what a reader sees of both.

use crate::support::daemon::Daemon;
use crate::support::flowers::{self, ROW};
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

crate::tests![
    a_better_model_goes_through_shadow_and_canary_is_promoted_and_undone,
    a_bad_candidate_goes_by_itself_and_costs_no_record,
    a_kill_in_a_canary_changes_no_records_arm,
    what_does_not_fit_a_rollout_is_refused_and_said,
];

/// Starts a pipeline with those steps and guards, whose model predicts setosa for every flower.
fn start(scene: &Scene, rollout: &str) -> Result<Daemon> {
    scene.create_usual(2)?;
    scene.create(&[("labels", 2, &[]), ("scores", 2, &[])])?;
    let more =
        format!("[feedback]\nlabels = {:?}\nscores = {:?}\n{rollout}", scene.topic("labels"), scene.topic("scores"),);
    let pipeline = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, &more)?;
    scene.daemon("a", &pipeline)
}

/// Every flower once, named with that prefix, and its class.
fn all_flowers(prefix: &str) -> Result<Vec<(Record, Record)>> {
    let pair = |(at, flower): (usize, flowers::Flower)| {
        let key = format!("{prefix}-{at}");
        let partition = (at % 2) as i32;
        (record::value(flower.row).key(&key).on(partition), record::value(flower.species).key(&key).on(partition))
    };
    Ok(flowers::flowers()?.into_iter().enumerate().map(pair).collect())
}

fn send(scene: &Scene, daemon: &mut Daemon, prefix: &str) -> Result<()> {
    let (rows, labels): (Vec<_>, Vec<_>) = all_flowers(prefix)?.into_iter().unzip();
    scene.write("in", &rows)?;
    scene.until_done(&mut [daemon])?;
    scene.write("labels", &labels)
}

fn deploy_good(scene: &Scene, daemon: &mut Daemon) -> Result<u64> {
    daemon.deploy(&scene.name, &["--model", &flowers::model().to_string_lossy()])
}

fn rollout(scene: &Scene, daemon: &mut Daemon, arguments: &[&str]) -> Result<()> {
    let printed = daemon.cli(&[&["rollout", arguments[0], &scene.name], &arguments[1..]].concat())?;
    ensure!(printed.code == Some(0), "{printed:?}");
    Ok(())
}

/// Key → prediction, of every record; a record has one.
fn predictions(scene: &Scene) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    let mut newest: BTreeMap<i32, u64> = BTreeMap::new();
    let mut records = scene.read("out")?;
    records.sort_by_key(|record| (record.partition, record.offset));
    for record in records {
        let value = record.json()?;
        let revision = value["revision"].as_u64().context("no revision")?;
        let partition = record.partition.context("no partition")?;
        let before = newest.insert(partition, revision).unwrap_or_default();
        ensure!(before <= revision, "partition {partition} goes back from revision {before} to {revision}");
        let key = value["id"].as_str().context("no id")?.to_owned();
        ensure!(all.insert(key.clone(), value).is_none(), "{key} was predicted twice");
    }
    Ok(all)
}

fn of<'p>(predictions: &'p BTreeMap<String, Value>, prefix: &str) -> Vec<(&'p String, &'p Value)> {
    predictions.iter().filter(|(key, _)| key.starts_with(prefix)).collect()
}

fn a_better_model_goes_through_shadow_and_canary_is_promoted_and_undone(scene: &Scene) -> Result<()> {
    let steps = "[[rollout.step]]\nshadow = \"150 labels\"\n[[rollout.step]]\ncanary = 0.5\nhold = \"150 records\"\n";
    let mut daemon = start(scene, steps)?;
    send(scene, &mut daemon, "before")?;
    let first = daemon.pipeline(&scene.name)?["revision"].as_u64().context("no revision")?;
    let shadow = deploy_good(scene, &mut daemon)?;
    send(scene, &mut daemon, "shadow")?;
    let status = daemon.until_status(&scene.name, "the canary begins", |status| {
        status["rollout"]["step_figures"]["records"] == 0 && status["rollout"]["canary"] == 0.5
    })?;
    let canary = status["revision"].as_u64().context("no revision")?;
    assert_eq!((first + 1, shadow + 1), (shadow, canary), "each step has a revision of its own");
    let arm = |status: &Value, arm: &str| {
        (status["rollout"][arm]["scored"].as_u64(), status["rollout"][arm]["accuracy"].as_f64())
    };
    let (champion, challenger) = (arm(&status, "champion"), arm(&status, "challenger"));
    assert_eq!((champion.0, champion.1), (Some(300), Some(1.0 / 3.0)), "{status:#}");
    assert_eq!(challenger.0, Some(150), "it is judged by the labels of its shadow");
    assert!(challenger.1 > Some(0.9), "{status:#}");

    send(scene, &mut daemon, "canary")?;
    let what = "the steps are passed";
    daemon.until_status(&scene.name, what, |status| status["rollout"]["state"] == "passed")?;
    let text = daemon.cli(&["rollout", "status", &scene.name])?.out;
    for part in ["canary of 50 %", "rollout promote", "champion", "challenger", "failed"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    rollout(scene, &mut daemon, &["promote", "--reason", "twice as good"])?;
    send(scene, &mut daemon, "after")?;
    rollout(scene, &mut daemon, &["undo", "--reason", "a test"])?;
    send(scene, &mut daemon, "undone")?;

    let predictions = predictions(scene)?;
    let releases = |prefix: &str| -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for (_, value) in of(&predictions, prefix) {
            let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
            *counts.entry((text(&value["role"]), text(&value["release"]))).or_default() += 1;
        }
        counts
    };
    let names = |arm: &str| status["rollout"][arm]["release"].as_str().unwrap_or_default().to_owned();
    let (old, new) = (names("champion"), names("challenger"));
    let only = |role: &str, release: &str| BTreeMap::from([((role.to_owned(), release.to_owned()), 150)]);
    assert_eq!(releases("before"), only("champion", &old));
    assert_eq!(releases("shadow"), only("champion", &old));
    assert_eq!(releases("after"), only("champion", &new));
    assert_eq!(releases("undone"), only("champion", &old));
    let shared = releases("canary");
    let emitted = shared.get(&("challenger".to_owned(), new.clone())).copied().unwrap_or_default();
    assert!((45..105).contains(&emitted), "half of the keys, about: {shared:?}");
    for (key, value) in of(&predictions, "shadow").into_iter().chain(of(&predictions, "canary")) {
        let other = if value["role"] == "champion" { "challenger" } else { "champion" };
        assert!(
            value[other]["class"].is_string() && value.get(value["role"].as_str().unwrap()).is_none(),
            "{key}: {value}"
        );
    }
    let history = daemon.cli(&["history", &scene.name])?.out;
    for part in [
        "step 1 of 2: shadow",
        "step 2 of 2: canary of 50 %",
        "rollout passed",
        "promoted: twice as good",
        "back to what",
    ] {
        assert!(history.contains(part), "{part} is missing in\n{history}");
    }
    Ok(())
}

fn a_bad_candidate_goes_by_itself_and_costs_no_record(scene: &Scene) -> Result<()> {
    let steps = "[rollout]\nguards = { disagreement = { above = 0.5, records = 100 } }\n\
                 [[rollout.step]]\ncanary = 0.5\nhold = \"1h\"\n";
    let mut daemon = start(scene, steps)?;
    let virginica = scene.model_of("virginica")?;
    let revision = daemon.deploy(&scene.name, &["--model", &virginica.to_string_lossy()])?;
    send(scene, &mut daemon, "canary")?;
    let status = daemon.until_status(&scene.name, "the rollout is over", |status| status["rollout"].is_null())?;
    assert_eq!(status["revision"], revision + 1);
    send(scene, &mut daemon, "after")?;
    let history = daemon.cli(&["history", &scene.name])?.out;
    let reason = format!("rollout {revision} aborted: the arms disagree on 1");
    assert!(history.contains(&reason) && history.contains("(100 %), above 50 %"), "{history}");
    let predictions = predictions(scene)?;
    assert_eq!(predictions.len(), 300, "every record is predicted once");
    assert!(
        of(&predictions, "after").iter().all(|(_, value)| value["class"] == "setosa" && value["role"] == "champion")
    );
    assert_eq!(scene.read("dead")?.len(), 0);
    Ok(())
}

fn a_kill_in_a_canary_changes_no_records_arm(scene: &Scene) -> Result<()> {
    let steps = "[[rollout.step]]\ncanary = 0.5\nhold = \"1h\"\n";
    let mut daemon = start(scene, steps)?;
    let revision = deploy_good(scene, &mut daemon)?;
    // The same keys, before and after.
    let rows: Vec<Record> = (0..100).map(|key| record::value(ROW).key(format!("key-{key}")).on(key % 2)).collect();
    scene.write("in", &rows)?;
    scene.until_done(&mut [&mut daemon])?;
    daemon.kill9()?;
    let mut daemon = scene.daemon("a", &scene.directory.join(format!("{}.toml", scene.name)))?;
    assert_eq!(daemon.pipeline(&scene.name)?["rollout"]["id"], revision);
    scene.write("in", &rows)?;
    scene.until_done(&mut [&mut daemon])?;
    let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in scene.read("out")? {
        let value = record.json()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned).context("a field is missing");
        roles.entry(text("id")?).or_default().push(text("role")?);
    }
    let both: Vec<_> = roles.values().filter(|roles| roles.len() == 2).collect();
    assert_eq!(both.len(), 100);
    assert!(both.iter().all(|roles| roles[0] == roles[1]), "{roles:?}");
    assert!(both.iter().any(|roles| roles[0] == "challenger") && both.iter().any(|roles| roles[0] == "champion"));
    Ok(())
}

fn what_does_not_fit_a_rollout_is_refused_and_said(scene: &Scene) -> Result<()> {
    let steps = "[[rollout.step]]\nshadow = \"1h\"\n[[rollout.step]]\npause = true\n";
    let mut daemon = start(scene, steps)?;
    let refused = |daemon: &mut Daemon, arguments: &[&str], part: &str| -> Result<()> {
        let printed = daemon.cli(arguments)?;
        ensure!(
            printed.code == Some(1) && printed.err.contains(part),
            "{arguments:?}: {part} is missing in {printed:?}"
        );
        Ok(())
    };
    let name = scene.name.as_str();
    for verb in ["promote", "abort", "pause", "resume"] {
        refused(&mut daemon, &["rollout", verb, name], "has no rollout under way")?;
    }
    refused(&mut daemon, &["rollout", "undo", name, "--to", "99"], "has no revision 99")?;
    let other = scene.file("other.json", flowers::model_of("setosa").replace("virginica", "tulip"))?;
    let tulip = other.to_string_lossy().into_owned();
    let deploy_other = ["deploy", name, "--reason", "tulips", "--model", &tulip];
    refused(&mut daemon, &deploy_other, "new are \"tulip\", missing are \"virginica\"; --allow-new-classes")?;
    let before = daemon.pipeline(name)?["revision"].as_u64().context("no revision")?;
    assert_eq!(before, 1, "nothing has changed");

    let shadow = daemon.deploy(name, &["--model", &tulip, "--allow-new-classes"])?;
    let good = flowers::model().to_string_lossy().into_owned();
    refused(
        &mut daemon,
        &["deploy", name, "--reason", "a second", "--model", &good],
        "is rolling out classify logistic@",
    )?;
    refused(&mut daemon, &["deploy", name, "--now", "--reason", "a second", "--model", &good], "rollout abort")?;
    refused(
        &mut daemon,
        &["rollout", "promote", name, "--expect", "1"],
        "runs revision 2, and the change was made against 1",
    )?;
    rollout(scene, &mut daemon, &["pause", "--reason", "lunch"])?;
    refused(&mut daemon, &["rollout", "pause", name], "waits already: lunch")?;
    let status = daemon.pipeline(name)?;
    assert_eq!((&status["revision"], &status["rollout"]["state"]), (&shadow.into(), &"held".into()));
    rollout(scene, &mut daemon, &["resume"])?;
    rollout(scene, &mut daemon, &["abort", "--reason", "no tulips here"])?;
    assert_eq!(daemon.deploy(name, &["--now", "--model", &good])?, shadow + 2);
    assert!(daemon.pipeline(name)?["rollout"].is_null(), "at once");
    Ok(())
}
