//! The demonstration's result: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use crate::api::status::{PipelineStatus, ReleaseStatus};
use crate::config::plan::Guarantee;

#[derive(Debug, Serialize)]
pub struct Summary {
    /// `mock`, or the address of a user's own.
    pub broker: String,
    pub delivery: Guarantee,
    pub topics: Vec<String>,
    /// Records with an outcome.
    pub records: u64,
    pub predictions: u64,
    /// Reason → count.
    pub dead_letters: BTreeMap<String, u64>,
    /// Predictions that a label has scored.
    pub scored: u64,
    pub revisions: Vec<Revision>,
    /// How long each worker paused for each swap, between two transactions.
    pub swap_pause_us: Vec<u64>,
    /// From the start of the command to the last score.
    pub seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Revision {
    pub revision: u64,
    /// Stage → release.
    pub releases: BTreeMap<String, String>,
    pub records: u64,
    pub scored: Option<u64>,
    /// Share of correct predictions among those scored.
    pub accuracy: Option<f64>,
}

impl Summary {
    pub fn new(broker: String, topics: Vec<String>, status: PipelineStatus, seconds: f64) -> Self {
        Self {
            broker,
            delivery: status.delivery,
            topics,
            records: status.records,
            predictions: status.emitted,
            scored: scored(&status),
            dead_letters: status.dead_letters,
            revisions: status.releases.iter().map(Revision::from).collect(),
            swap_pause_us: status.workers.into_iter().flat_map(|worker| worker.swap_pauses_us).collect(),
            seconds,
        }
    }
}

/// Predictions that a label has scored so far.
pub fn scored(status: &PipelineStatus) -> u64 {
    status.releases.iter().filter_map(|release| release.scored).sum()
}

impl From<&ReleaseStatus> for Revision {
    fn from(status: &ReleaseStatus) -> Self {
        Self {
            revision: status.revision.get(),
            releases: status.releases.clone(),
            records: status.records,
            scored: status.scored,
            accuracy: status.accuracy,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, predictions) = (HumanCount(self.records), HumanCount(self.predictions));
        let letters: u64 = self.dead_letters.values().sum();
        writeln!(
            f,
            "{records} records in {:.0} s: {predictions} predictions, {} dead letters\n",
            self.seconds,
            HumanCount(letters)
        )?;
        writeln!(f, "{}\n", table(&self.revisions))?;
        let pauses: Vec<String> = self.swap_pause_us.iter().map(|pause| format!("{pause} µs")).collect();
        writeln!(f, "  swap: {} between two transactions, while records kept coming", pauses.join(", "))?;
        writeln!(f, "  dead letters: {}", dead_letters(&self.dead_letters))
    }
}

/// A header and a line for each revision, within 80 columns.
pub fn table(revisions: &[Revision]) -> String {
    let line = |when: &str, revision: &str, release: &str, records: &str, accuracy: &str, labels: &str| {
        format!("  {when:<7} {revision:<9} {release:<23} {records:>9} {accuracy:>10} {labels:>9}")
    };
    let mut lines = vec![line("", "revision", "classifier", "records", "accuracy", "labels")];
    for (revision, when) in revisions.iter().zip(["before", "after"]) {
        lines.push(line(
            when,
            &revision.revision.to_string(),
            revision.releases.get("classify").map_or("", String::as_str),
            &HumanCount(revision.records).to_string(),
            &revision.accuracy.map_or_else(|| "-".into(), |accuracy| format!("{:.1} %", accuracy * 100.0)),
            &HumanCount(revision.scored.unwrap_or_default()).to_string(),
        ));
    }
    lines.join("\n")
}

/// The dead letters by reason: `12 (3 column-count, 3 invalid-utf8, 3 not-a-number, 3 null-value)`
fn dead_letters(by_reason: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<String> = by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    match by_reason.values().sum() {
        0 => "none".into(),
        count => format!("{} ({})", HumanCount(count), reasons.join(", ")),
    }
}
