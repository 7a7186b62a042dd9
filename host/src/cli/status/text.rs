//! A status as text: a paragraph for each pipeline, with its releases, confusion matrices and workers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::super::history::time;
use super::super::table::{Table, grouped};
use crate::api::status::{ControlStatus, FeedbackStatus, PipelineStatus, ReleaseStatus, WorkerStatus};
use crate::config::plan::Guarantee;
use crate::control::fold::SCORE;
use crate::record::Revision;
use crate::stream::report::{PartitionReport, WorkerState};
use crate::stream::state::Progress;

/// A running worker whose last report is older is pointed out, milliseconds.
const MAX_SILENCE_MS: u64 = 5_000;
/// A confusion matrix of more classes fits on no screen.
const MAX_CLASSES: usize = 12;

pub(super) fn render(answer: Value) -> Result<String> {
    let status: crate::api::status::Status =
        serde_json::from_value(answer).context("the daemon is not of this version")?;
    let mut text = format!("sandpiper {}, instance {}\n", status.version, status.instance);
    if let Some(control) = &status.control {
        text.push_str(&self::control(control));
    }
    for each in &status.pipelines {
        text.push('\n');
        text.push_str(&pipeline(each));
    }
    Ok(text)
}

fn control(control: &ControlStatus) -> String {
    let topics = &control.topics;
    let who = match (control.decides, control.has_caught_up) {
        (true, _) => "this daemon decides for all",
        (false, true) => "another daemon decides",
        (false, false) => "what was decided is not read yet",
    };
    let trouble = control.trouble.iter().map(|why| format!("  ERROR {why}\n"));
    format!("control through {topics}.commands: {who}\n{}", trouble.collect::<String>())
}

/// What the workers of all daemons run.
fn daemons(status: &PipelineStatus) -> String {
    let runs = |workers: &BTreeMap<usize, Option<Revision>>| {
        let revisions: BTreeSet<Option<Revision>> = workers.values().copied().collect();
        let named = revisions.iter().map(|revision| revision.map_or("nothing".into(), |revision| revision.to_string()));
        named.collect::<Vec<String>>().join(" and ")
    };
    let each = status.daemons.iter().map(|(name, workers)| format!("    {name} runs {}\n", runs(workers)));
    if status.daemons.is_empty() { String::new() } else { format!("  daemons:\n{}", each.collect::<String>()) }
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
    if let Some(asked) = &status.file_asks_for {
        text.push_str(&format!(
            "  its file asks for {asked}, which does not run: `sandpiper history {}` says why\n",
            status.name
        ));
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
        text.push_str(&remarks_on_labels(feedback));
    }
    text.push_str(&releases(status));
    for release in &status.releases {
        text.push_str(&confusion_matrix(release));
    }
    text.push_str(&workers(status));
    text.push_str(&daemons(status));
    text
}

/// What labels and predictions need a person for.
fn remarks_on_labels(feedback: &FeedbackStatus) -> String {
    let mut text = String::new();
    let mut remark = |remark: String| text.push_str(&format!("    {remark}\n"));
    if feedback.labels.get("evicted").is_some_and(|evicted| *evicted > 0) {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        remark(format!(
            "what was evicted had no room: {} of {} MiB are used; raise [feedback] max_bytes or max_entries, or lower wait",
            mib(feedback.bytes),
            mib(feedback.max_bytes)
        ));
    }
    if let Some(misplaced) = &feedback.misplaced {
        remark(misplaced.clone());
    }
    let unknown = &feedback.unknown_classes;
    if !unknown.is_empty() {
        remark(format!(
            "classes that the model does not know: {}; it knows {}",
            unknown.last.join(", "),
            unknown.known.join(", ")
        ));
    }
    let clocks = &feedback.clocks;
    if let Some(last) = &clocks.last {
        remark(format!(
            "clocks: {} records are ahead, and alone move nothing; the last: {last}",
            grouped(clocks.ahead)
        ));
    }
    if clocks.missing > 0 {
        remark(format!(
            "clocks: {} records carry no time since 2000, and are taken for their neighbours'",
            grouped(clocks.missing)
        ));
    }
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

/// Counts by name, the largest first; zeros are left out.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let mut counted: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    if counted.is_empty() {
        return "none yet".into();
    }
    counted.iter().map(|(name, count)| format!("{} {name}", grouped(**count))).collect::<Vec<_>>().join(", ")
}

fn releases(status: &PipelineStatus) -> String {
    let mut table = Table::with_header(&["REVISION", "RECORDS", "SCORED", "ACCURACY", "LOG LOSS", "LOSS", "RELEASES"]);
    let shown = |number: Option<f64>| number.map_or_else(|| "-".into(), |number| format!("{number:.4}"));
    for release in &status.releases {
        let mut stages: Vec<_> = release.releases.iter().collect();
        // In the order of a record's path: transforms, parse, classify; last what judges it.
        stages.sort_by_key(|(stage, _)| (*stage == SCORE, *stage == "classify", *stage == "parse"));
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

fn confusion_matrix(release: &ReleaseStatus) -> String {
    let predicted = release.confusion.values().flat_map(BTreeMap::keys);
    let classes: BTreeSet<&String> = release.confusion.keys().chain(predicted).collect();
    let revision = release.revision;
    let missing = match release.confusion_is_partial {
        true => {
            format!("  revision {revision}: of its confusion matrix a part is missing, for which there was no room\n")
        }
        false => String::new(),
    };
    if classes.is_empty() {
        return missing;
    }
    if classes.len() > MAX_CLASSES {
        let count = classes.len();
        return format!("  revision {revision}: {count} classes; their confusion matrix is in -o json\n{missing}");
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
    format!("  revision {revision}\n{}{missing}", table.render("    "))
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
    let mut remarks = String::new();
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
        remarks.push_str(&remarks_on(&name, worker));
    }
    table.render("  ") + &remarks
}

/// What the table does not show of a worker that needs attention: its last error, its silence, partitions that wait.
fn remarks_on(name: &str, worker: &WorkerStatus) -> String {
    let mut text = String::new();
    if let Some(error) = &worker.last_error {
        text.push_str(&format!("  worker {name}: {error}\n"));
    }
    if worker.missed > 0 {
        text.push_str(&format!(
            "  worker {name}: {} offsets of the input were deleted before they were read\n",
            grouped(worker.missed)
        ));
    }
    if worker.state == WorkerState::Running && worker.silent_ms > MAX_SILENCE_MS {
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
pub(super) mod tests {
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

    pub(in crate::cli::status) fn answer() -> Value {
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
                    "feedback": { "labels": { "matched": 150, "early": 0 }, "waiting": 7, "bytes": 900, "max_bytes": 2_097_152, "worker": feedback_worker() }
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
    fn the_text_shows_counts_errors_releases_confusion_lag_and_silent_workers() {
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
    fn what_labels_need_a_person_for_is_said() {
        let mut answer = answer();
        let feedback = &mut answer["pipelines"][0]["feedback"];
        feedback["labels"]["evicted"] = 3.into();
        feedback["clocks"] =
            serde_json::json!({ "ahead": 2, "missing": 1, "last": "labels/0@7 is 9 s ahead of its stream" });
        feedback["unknown_classes"] = serde_json::json!({ "last": ["\"10.0\""], "known": ["\"10\""] });
        feedback["misplaced"] = "labels and their predictions stand apart".into();
        let text = render(answer).unwrap();
        for line in [
            "what was evicted had no room: 1 of 2 MiB are used; raise [feedback] max_bytes or max_entries, or lower wait",
            "labels and their predictions stand apart",
            "classes that the model does not know: \"10.0\"; it knows \"10\"",
            "clocks: 2 records are ahead, and alone move nothing; the last: labels/0@7 is 9 s ahead of its stream",
            "clocks: 1 records carry no time since 2000, and are taken for their neighbours'",
        ] {
            assert!(squeezed(&text).iter().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_confusion_matrix_of_many_classes_is_left_to_json() {
        let row: BTreeMap<String, u64> = (0..20).map(|class| (format!("c{class:02}"), 1)).collect();
        let mut status: crate::api::status::Status = serde_json::from_value(answer()).unwrap();
        let release = status.pipelines[0].releases.last_mut().unwrap();
        release.confusion = BTreeMap::from([("c00".to_owned(), row)]);
        assert!(confusion_matrix(release).contains("20 classes"));
    }

    #[test]
    fn partitions_are_shown_as_ranges() {
        assert_eq!(ranges(vec![3, 1, 0, 2, 7]), "0-3,7");
        assert_eq!(ranges(Vec::new()), "");
    }
}
