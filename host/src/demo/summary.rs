//! What came of it, for people and programs.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use super::view::{accuracy, dead_letters};
use crate::plan::Guarantee;
use crate::status::{PipelineStatus, ReleaseStatus};

#[derive(Debug, Serialize)]
pub struct Summary {
    /// `mock`, or the address of somebody's own.
    pub broker: String,
    pub delivery: Guarantee,
    pub topics: Vec<String>,
    /// Records with an outcome.
    pub records: u64,
    pub predictions: u64,
    /// Reason → count.
    pub dead_letters: BTreeMap<String, u64>,
    /// Predictions that a label judged.
    pub scored: u64,
    pub revisions: Vec<Revision>,
    /// Of each swap: what it took between two transactions.
    pub swap_pause_us: Vec<u64>,
    /// From the command to the last score.
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
            revisions: status.releases.into_iter().map(Revision::from).collect(),
            swap_pause_us: status.workers.into_iter().flat_map(|worker| worker.swap_pauses_us).collect(),
            seconds,
        }
    }
}

/// Predictions that a label judged so far.
pub fn scored(status: &PipelineStatus) -> u64 {
    status.releases.iter().filter_map(|release| release.scored).sum()
}

impl From<ReleaseStatus> for Revision {
    fn from(status: ReleaseStatus) -> Self {
        Self {
            revision: status.revision,
            releases: status.releases,
            records: status.records,
            scored: status.scored,
            accuracy: status.accuracy,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, predictions) = (HumanCount(self.records), HumanCount(self.predictions));
        writeln!(f, "{records} records in {:.0} s: {predictions} predictions, {} dead letters.\n", self.seconds, self.dead_letters.values().sum::<u64>())?;
        for (revision, when) in self.revisions.iter().zip(["before", "after"]) {
            let classifier = revision.releases.get("classify").map_or("", String::as_str);
            let (records, accuracy) = (HumanCount(revision.records).to_string(), accuracy(revision.accuracy, revision.scored));
            writeln!(f, "  {when:<13} revision {}, {classifier:<22} {records:>8} records, {accuracy}", revision.revision)?;
        }
        let pauses: Vec<String> = self.swap_pause_us.iter().map(|pause| format!("{pause} µs")).collect();
        writeln!(f, "  {:<13} {} between two transactions, while records kept coming", "swap", pauses.join(", "))?;
        writeln!(f, "  {:<13} {}", "dead letters", dead_letters(&self.dead_letters))
    }
}
