//! `status`: what a daemon says of its pipelines, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::history::time;
use super::table::{Table, grouped};
use super::{Global, Outcome, Output};
use crate::api::status::{PipelineStatus, ReleaseStatus, WorkerStatus};
use crate::config::plan::Guarantee;
use crate::stream::report::{PartitionReport, WorkerState};
use crate::stream::state::Progress;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);
/// How often a wait looks whether it was interrupted.
const NAP: Duration = Duration::from_millis(50);
/// A running worker that says nothing for this long is pointed out, milliseconds.
const SILENT_MS: u64 = 5_000;
/// A matrix of more classes fits on no screen.
const MATRIX: usize = 12;

/// What runs, how far it is, how well it does, and what went wrong.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sandpiper status\n  sandpiper status iris --watch\n  sandpiper status -o json\n\n\
    Records are counted since the daemon started. On a terminal --watch redraws; elsewhere each look follows the last."
)]
pub struct Status {
    /// Only this one.
    pipeline: Option<String>,
    /// Look again every second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

impl Status {
    pub fn run(self, global: &Global) -> Outcome {
        let client = Client::new(global);
        let look = || -> Result<String> {
            let answer = only(client.get("/v1/status")?, self.pipeline.as_deref())?;
            match global.output {
                Output::Json => Ok(serde_json::to_string(&answer)? + "\n"),
                Output::Text => render(answer),
            }
        };
        let mut text = look()?;
        if !self.watch {
            super::print(&text)?;
            return Ok(());
        }
        let redraws = std::io::stdout().is_terminal();
        let interrupted = super::interrupted()?;
        while super::print(&match global.output {
            Output::Json => text,
            Output::Text if redraws => drawn(&text),
            Output::Text => text + "\n",
        })? {
            let mut waited = Duration::ZERO;
            while waited < LOOK && !interrupted.load(Ordering::Relaxed) {
                std::thread::sleep(NAP);
                waited += NAP;
            }
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
            // A daemon that is restarted comes back: whoever watches wants to see it.
            text = match (look(), global.output) {
                (Ok(text), _) => text,
                (Err(error), Output::Text) => format!("error: {error:#}\n"),
                (Err(error), Output::Json) => serde_json::json!({ "error": format!("{error:#}") }).to_string() + "\n",
            };
        }
        Ok(())
    }
}

/// Over the last look, without a moment of nothing.
fn drawn(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

/// The daemon's answer with one pipeline only, where one is named.
fn only(mut answer: Value, name: Option<&str>) -> Result<Value> {
    let Some(name) = name else { return Ok(answer) };
    let pipelines =
        answer.get_mut("pipelines").and_then(Value::as_array_mut).context("the daemon's answer has no pipelines")?;
    let names: Vec<String> =
        pipelines.iter().filter_map(|pipeline| Some(pipeline.get("name")?.as_str()?.to_owned())).collect();
    if !names.iter().any(|known| known == name) {
        bail!("there is no pipeline {name:?}; this daemon runs {}", names.join(", "));
    }
    pipelines.retain(|pipeline| pipeline.get("name").and_then(Value::as_str) == Some(name));
    Ok(answer)
}

fn render(answer: Value) -> Result<String> {
    let status: crate::api::status::Status =
        serde_json::from_value(answer).context("the daemon is not of this version")?;
    let mut text = format!("sandpiper {}, instance {}\n", status.version, status.instance);
    for each in &status.pipelines {
        text.push('\n');
        text.push_str(&pipeline(each));
    }
    Ok(text)
}

fn pipeline(status: &PipelineStatus) -> String {
    let delivery = match status.delivery {
        Guarantee::ExactlyOnce => "exactly once",
        Guarantee::AtLeastOnce => "at least once",
    };
    let dead: u64 = status.dead_letters.values().sum();
    let mut text = format!(
        "{}: {}{}, {delivery}\n  {} records, {} emitted, {} dropped, {} dead letters; lag {}\n",
        status.name,
        state(status.state),
        status.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default(),
        grouped(status.records),
        grouped(status.emitted),
        grouped(status.dropped),
        grouped(dead),
        grouped(status.lag.max(0) as u64),
    );
    if let Some(error) = &status.last_error {
        text.push_str(&format!("  ERROR {error}\n"));
    }
    if let Some(paused) = &status.paused {
        let pause = &paused.pause;
        text.push_str(&format!("  PAUSED since {}: {}\n", time(pause.at), pause.why));
        if !pause.reasons.is_empty() {
            text.push_str(&format!("    dead letters of that minute: {}\n", counts(&pause.reasons)));
        }
        text.push_str(&format!("    {}\n", paused.advice));
    }
    if dead > 0 {
        text.push_str(&format!("  dead letters: {}\n", counts(&status.dead_letters)));
    }
    if let Some(feedback) = &status.feedback {
        let waiting = grouped(feedback.waiting);
        text.push_str(&format!("  labels and predictions: {}; {waiting} ids kept\n", counts(&feedback.labels)));
    }
    text.push_str(&releases(status));
    for release in &status.releases {
        text.push_str(&matrix(release));
    }
    text.push_str(&workers(status));
    text
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Running => "running",
        WorkerState::Paused => "paused",
        WorkerState::Recovering => "recovering",
        WorkerState::Failed => "failed",
        WorkerState::Stopped => "stopped",
    }
}

/// The most frequent first; those that never happened are left out.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let mut happened: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    happened.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    if happened.is_empty() {
        return "none yet".into();
    }
    happened.iter().map(|(name, count)| format!("{} {name}", grouped(**count))).collect::<Vec<_>>().join(", ")
}

fn releases(status: &PipelineStatus) -> String {
    let mut table = Table::with_header(&["REVISION", "RECORDS", "SCORED", "ACCURACY", "LOG LOSS", "LOSS", "RELEASES"]);
    let shown = |number: Option<f64>| number.map_or_else(|| "-".into(), |number| format!("{number:.4}"));
    for release in &status.releases {
        let mut stages: Vec<_> = release.releases.iter().collect();
        // In the order of a record's path: transforms, parse, classify.
        stages.sort_by_key(|(stage, _)| (*stage == "classify", *stage == "parse"));
        let stages: Vec<String> = stages.iter().map(|(stage, release)| format!("{stage} {release}")).collect();
        table.row([
            release.revision.to_string(),
            grouped(release.records),
            release.scored.map_or_else(|| "-".into(), grouped),
            release.accuracy.map_or_else(|| "-".into(), |accuracy| format!("{:.2} %", accuracy * 100.0)),
            shown(release.log_loss),
            shown(release.loss),
            stages.join(", "),
        ]);
    }
    table.render("  ")
}

fn matrix(release: &ReleaseStatus) -> String {
    let predicted = release.confusion.values().flat_map(BTreeMap::keys);
    let classes: BTreeSet<&String> = release.confusion.keys().chain(predicted).collect();
    if classes.is_empty() {
        return String::new();
    }
    if classes.len() > MATRIX {
        return format!(
            "  revision {}: {} classes; their confusion matrix is in -o json\n",
            release.revision,
            classes.len()
        );
    }
    let corner = String::from("truth \\ predicted");
    let header: Vec<&str> =
        std::iter::once(corner.as_str()).chain(classes.iter().map(|class| class.as_str())).collect();
    let mut table = Table::with_header(&header);
    for truth in &classes {
        let count = |predicted: &&String| release.confusion.get(*truth).and_then(|row| row.get(*predicted)).copied();
        let cells = classes.iter().map(|predicted| grouped(count(predicted).unwrap_or_default()));
        table.row(std::iter::once((*truth).clone()).chain(cells));
    }
    format!("  revision {}\n{}", release.revision, table.render("    "))
}

fn workers(status: &PipelineStatus) -> String {
    let mut table = Table::with_header(&[
        "WORKER",
        "STATE",
        "REVISION",
        "RECORDS",
        "TRANSACTIONS",
        "ABORTED",
        "RECOVERIES",
        "LAG",
        "PARTITIONS",
    ]);
    let main = status.workers.iter().map(|worker| (worker.slot.to_string(), worker));
    let feedback = status.feedback.iter().map(|feedback| ("feedback".to_owned(), &feedback.worker));
    let mut errors = String::new();
    for (name, worker) in main.chain(feedback) {
        let lag: i64 = worker.partitions.iter().filter_map(|partition| partition.lag).sum();
        table.row([
            name.clone(),
            state(worker.state).to_owned(),
            worker.revision.map_or_else(|| "-".into(), |revision| revision.to_string()),
            grouped(worker.records),
            grouped(worker.transactions),
            grouped(worker.aborted),
            grouped(worker.recoveries),
            grouped(lag.max(0) as u64),
            partitions(&worker.partitions),
        ]);
        errors.push_str(&remarks(&name, worker));
    }
    table.render("  ") + &errors
}

/// What somebody who is called at night has to see of a worker.
fn remarks(name: &str, worker: &WorkerStatus) -> String {
    let mut text = String::new();
    if let Some(error) = &worker.last_error {
        text.push_str(&format!("  worker {name}: {error}\n"));
    }
    if worker.state == WorkerState::Running && worker.silent_ms > SILENT_MS {
        text.push_str(&format!("  worker {name}: not heard of for {} s\n", worker.silent_ms / 1_000));
    }
    for PartitionReport { topic, partition, waits_for_revision, restoring, .. } in &worker.partitions {
        if let Some(Progress { done, of }) = restoring {
            text.push_str(&format!(
                "  worker {name}: {topic} {partition} is being restored: {} of {}\n",
                grouped(*done),
                grouped(*of)
            ));
        }
        if let Some(revision) = waits_for_revision {
            text.push_str(&format!(
                "  worker {name}: {topic} {partition} waits for revision {revision}, which another daemon has run\n"
            ));
        }
    }
    text
}

/// `iris.measurements 0-3,7`.
fn partitions(partitions: &[PartitionReport]) -> String {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for report in partitions {
        by_topic.entry(&report.topic).or_default().push(report.partition);
    }
    if by_topic.is_empty() {
        return "none".into();
    }
    by_topic.into_iter().map(|(topic, numbers)| format!("{topic} {}", ranges(numbers))).collect::<Vec<_>>().join("; ")
}

fn ranges(mut numbers: Vec<i32>) -> String {
    numbers.sort_unstable();
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = |(first, last): &(i32, i32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(silent_ms: u64) -> Value {
        let partition =
            |number: i32| serde_json::json!({ "topic": "in", "partition": number, "position": 10, "lag": 1 });
        serde_json::json!({
            "slot": 0, "state": "running", "revision": 2, "partitions": [partition(0), partition(1), partition(3)],
            "records": 1200, "emitted": 1190, "dropped": 0, "dead_letters": { "missing-value": 9, "plugin-trap": 1 },
            "transactions": 12, "aborted": 1, "recoveries": 0, "swap_pauses_us": [812], "at": 9_000,
            "silent_ms": silent_ms
        })
    }

    /// As a worker, but of no revision.
    fn feedback_worker() -> Value {
        let mut feedback = worker(1_000);
        feedback.as_object_mut().unwrap().remove("revision");
        feedback["partitions"][2]["restoring"] = serde_json::json!({ "done": 1_200, "of": 40_000 });
        feedback
    }

    fn answer() -> Value {
        serde_json::json!({
            "version": "0.1.0", "instance": "a",
            "pipelines": [
                {
                    "name": "iris", "state": "running", "delivery": "exactly-once", "revision": 2, "records": 1200,
                    "emitted": 1190, "dropped": 0, "dead_letters": { "missing-value": 9, "plugin-trap": 1 }, "lag": 3,
                    "releases": [
                        { "revision": 1, "releases": { "parse": "csv@aa" }, "records": 200 },
                        {
                            "revision": 2, "releases": { "parse": "csv@aa", "classify": "logistic@bb" }, "records": 1000,
                            "scored": 150, "accuracy": 0.97333, "log_loss": 0.08, "loss": 0.0267,
                            "confusion": { "cat": { "cat": 100, "dog": 4 }, "dog": { "dog": 46 } }
                        }
                    ],
                    "workers": [worker(10_000)],
                    "feedback": { "labels": { "matched": 150, "early": 0 }, "waiting": 7, "worker": feedback_worker() }
                },
                {
                    "name": "route", "state": "failed", "delivery": "at-least-once", "revision": 1, "records": 0, "emitted": 0,
                    "dropped": 0, "dead_letters": {}, "lag": 0, "releases": [], "workers": [], "last_error": "topic events does not exist"
                }
            ]
        })
    }

    fn squeezed(text: &str) -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn everything_that_is_asked_at_night_stands_in_the_view() {
        let text = render(answer()).unwrap();
        let lines = squeezed(&text);
        for line in [
            "iris: running, revision 2, exactly once",
            "1,200 records, 1,190 emitted, 0 dropped, 10 dead letters; lag 3",
            "dead letters: 9 missing-value, 1 plugin-trap",
            "labels and predictions: 150 matched; 7 ids kept",
            "1 200 - - - - parse csv@aa",
            "2 1,000 150 97.33 % 0.0800 0.0267 parse csv@aa, classify logistic@bb",
            "truth \\ predicted cat dog",
            "cat 100 4",
            "dog 0 46",
            "0 running 2 1,200 12 1 0 3 in 0-1,3",
            "feedback running - 1,200 12 1 0 3 in 0-1,3",
            "worker 0: not heard of for 10 s",
            "worker feedback: in 3 is being restored: 1,200 of 40,000",
            "route: failed, revision 1, at least once",
            "ERROR topic events does not exist",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
        assert!(!text.contains("worker feedback: not heard"), "{text}");
    }

    #[test]
    fn one_pipeline_stays_wrapped_and_an_unknown_one_is_told_the_names() {
        let one = only(answer(), Some("route")).unwrap();
        assert_eq!(one["pipelines"].as_array().unwrap().len(), 1);
        assert_eq!(one["pipelines"][0]["name"], "route");
        assert_eq!(only(answer(), None).unwrap(), answer());
        let error = only(answer(), Some("irsi")).unwrap_err().to_string();
        assert!(error.contains("\"irsi\"") && error.contains("iris, route"), "{error}");
    }

    /// What the daemon writes is what this reads: both are the same types, fields that are left out included.
    #[test]
    fn the_daemons_json_survives_reading_and_writing() {
        let status: crate::api::status::Status = serde_json::from_value(answer()).unwrap();
        assert_eq!(serde_json::to_value(status).unwrap(), answer());
    }

    #[test]
    fn many_classes_are_left_to_json() {
        let row: BTreeMap<String, u64> = (0..20).map(|class| (format!("c{class:02}"), 1)).collect();
        let mut status: crate::api::status::Status = serde_json::from_value(answer()).unwrap();
        let release = status.pipelines[0].releases.last_mut().unwrap();
        release.confusion = BTreeMap::from([("c00".to_owned(), row)]);
        assert!(matrix(release).contains("20 classes"));
    }

    #[test]
    fn partitions_are_shown_as_ranges() {
        assert_eq!(ranges(vec![3, 1, 0, 2, 7]), "0-3,7");
        assert_eq!(ranges(Vec::new()), "");
    }
}
