//! What is seen at each place of a pipeline.

use crate::support::daemon::{Printed, sandpiper};
use crate::support::flowers::ROW;
use crate::support::record;
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

crate::tests![every_place_shows_its_own_records, what_a_pipeline_does_not_have_is_refused];

/// The records that a tap shows from the start on.
fn seen(file: &Path, at: &str, count: usize) -> Result<Vec<Value>> {
    let count = count.to_string();
    let printed = Printed::of(sandpiper().arg("tap").arg(file).args([
        "--at",
        at,
        "--from-start",
        "--count",
        &count,
        "-o",
        "json",
    ]))?;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    printed.out.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn every_place_shows_its_own_records(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    scene.create(&[("more", 1, &[])])?;
    let file = scene.flower_pipeline("id = \"key\"", &scene.model_of("setosa")?, "")?;
    let topics = format!("topics = [{:?}]", scene.topic("in"));
    let both = format!("topics = [{:?}, {:?}]", scene.topic("in"), scene.topic("more"));
    let file = scene.pipeline(&std::fs::read_to_string(&file)?.replace(&topics, &both))?;
    let mut daemon = scene.daemon("a", &file)?;
    scene.write("more", &[record::value(ROW).key("b")])?;
    scene.write("in", &[record::value(ROW).key("a"), record::value("x").key("wrong")])?;
    scene.until_done(&mut [&mut daemon])?;
    daemon.until_status(&scene.name, "all three are done", |status| {
        status["workers"]
            .as_array()
            .is_some_and(|workers| workers.iter().filter_map(|worker| worker["records"].as_u64()).sum::<u64>() == 3)
    })?;

    let mut topics: Vec<String> =
        seen(&file, "input", 3)?.iter().filter_map(|record| Some(record["topic"].as_str()?.to_owned())).collect();
    topics.sort();
    assert_eq!(topics, [scene.topic("in"), scene.topic("in"), scene.topic("more")]);
    let mut keys: Vec<Value> = seen(&file, "output", 2)?.iter().map(|record| record["key"].clone()).collect();
    keys.sort_by_key(Value::to_string);
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(seen(&file, "dead-letters", 1)?[0]["key"], "wrong");

    // As a prediction is while a challenger runs beside it.
    let answer = "{\"id\":\"c\",\"class\":\"setosa\",\"challenger\":{\"class\":\"virginica\"}}";
    scene.write("out", &[record::value(answer).key("c")])?;
    let challenged = seen(&file, "challenger", 1)?;
    assert_eq!((challenged.len(), &challenged[0]["key"]), (1, &"c".into()));
    let text = Printed::of(sandpiper().arg("tap").arg(&file).args(["--at", "input", "--from-start", "--count", "3"]))?;
    assert!(text.out.lines().any(|line| line == format!("{}/0@0 b {ROW}", scene.topic("more"))), "{text:?}");
    Ok(())
}

fn what_a_pipeline_does_not_have_is_refused(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let file = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let printed = Printed::of(sandpiper().arg("tap").arg(&file).args(["--at", "scores"]))?;
    assert!(printed.code == Some(2) && printed.err.contains("has no [feedback]"), "{printed:?}");
    let printed = Printed::of(sandpiper().arg("tap").arg(&file).args(["--at", "nowhere"]))?;
    assert!(printed.code == Some(2) && printed.err.contains("dead-letters"), "{printed:?}");
    Ok(())
}
