//! Exactly-once, checked from outside: inputs, outputs, committed offsets and the broker's log are compared with each
//! other, and nothing that the program reports of itself is believed.
//!
//! This module only compares; `observe` reads. So a test of the checker can plant each kind of defect.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A partition and an offset of it.
pub type PartitionOffset = (i32, i64);

/// A record that went in.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub at: PartitionOffset,
    pub id: String,
}

/// A record that came out, a dead letter too.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub topic: String,
    pub at: PartitionOffset,
    /// The input record that it names as its origin.
    pub origin: PartitionOffset,
    pub id: String,
    pub revision: u64,
}

/// The part of a transaction that lies in one partition: what its producer wrote there between two control markers.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionPart {
    /// The partition's directory: `topic-3`.
    pub directory: String,
    /// `commit`, `abort` or `open`.
    pub outcome: String,
    /// Its first offset.
    pub first: i64,
    pub revisions: Vec<u64>,
}

/// The offsets that one committed transaction committed for the group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// In the offsets' metadata.
    pub revisions: BTreeSet<u64>,
    /// Of the input topic.
    pub offsets: Vec<PartitionOffset>,
}

/// Everything that clients and the log show of one pipeline once it has processed its input.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub inputs: Vec<Input>,
    /// As read_committed, ordered by topic, partition and offset.
    pub outputs: Vec<Output>,
    /// As read_uncommitted: aborted outputs are among them.
    pub attempts: Vec<Output>,
    /// By input partition: the committed offset, and the end offset.
    pub committed: Vec<i64>,
    pub ends: Vec<i64>,
    /// Partitions whose last stable offset stays below their end.
    pub open: Vec<String>,
    pub parts: Vec<TransactionPart>,
    /// In the log's order.
    pub commits: Vec<Commit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// No output and no dead letter.
    Lost,
    /// More than one.
    Duplicated,
    /// After the output of a later record of its partition, in the same topic.
    Disordered,
    /// An output, aborted or not, of no input.
    Foreign,
    /// Two revisions in one transaction.
    Mixed,
    /// An older revision after a newer one of the same input partition, or an older offset after a newer one.
    WentBack,
    /// A transaction that neither committed nor aborted.
    Open,
    /// The committed offset is not the input's end.
    Behind,
}

const ALL: [(Defect, &str); 8] = [
    (Defect::Lost, "lost"),
    (Defect::Duplicated, "duplicated"),
    (Defect::Disordered, "disordered"),
    (Defect::Foreign, "foreign"),
    (Defect::Mixed, "mixed"),
    (Defect::WentBack, "went back"),
    (Defect::Open, "open"),
    (Defect::Behind, "behind"),
];

/// The defects that were found, each with the records that show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub records: usize,
    pub transactions: usize,
    found: BTreeMap<Defect, Vec<String>>,
}

impl Report {
    pub fn count(&self, defect: Defect) -> usize {
        self.found.get(&defect).map_or(0, Vec::len)
    }

    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    fn add(&mut self, defect: Defect, what: String) {
        self.found.entry(defect).or_default().push(what);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records in {} transactions:", self.records, self.transactions)?;
        for (defect, name) in ALL {
            write!(f, " {name} {}", self.count(defect))?;
        }
        for (defect, name) in ALL {
            let examples = self.found.get(&defect).map(Vec::as_slice).unwrap_or_default();
            examples.iter().take(3).try_for_each(|example| write!(f, "\n  {name}: {example}"))?;
        }
        Ok(())
    }
}

pub fn check(observed: &Observed) -> Report {
    let mut report =
        Report { records: observed.inputs.len(), transactions: observed.commits.len(), ..Report::default() };
    check_once(observed, &mut report);
    check_order(observed, &mut report);
    check_transactions(observed, &mut report);
    for (partition, (committed, end)) in (0..).zip(observed.committed.iter().zip(&observed.ends)) {
        let partition: i32 = partition;
        if committed.max(&0) != end {
            report.add(Defect::Behind, format!("partition {partition}: {committed} of {end} are committed"));
        }
    }
    for partition in &observed.open {
        report.add(Defect::Open, partition.clone());
    }
    report
}

fn check_once(observed: &Observed, report: &mut Report) {
    let inputs: BTreeMap<PartitionOffset, &str> =
        observed.inputs.iter().map(|input| (input.at, input.id.as_str())).collect();
    let is_ours = |output: &Output| inputs.get(&output.origin) == Some(&output.id.as_str());
    let mut times: BTreeMap<PartitionOffset, usize> = BTreeMap::new();
    for output in observed.outputs.iter().filter(|output| is_ours(output)) {
        *times.entry(output.origin).or_default() += 1;
    }
    for input in &observed.inputs {
        match times.get(&input.at) {
            None => report.add(Defect::Lost, format!("{:?} {}", input.at, input.id)),
            Some(1) => {}
            Some(times) => report.add(Defect::Duplicated, format!("{:?} {}: {times} times", input.at, input.id)),
        }
    }
    // Committed outputs are among the attempts too; one that is not there is foreign as well.
    for output in observed.attempts.iter().chain(&observed.outputs).filter(|output| !is_ours(output)) {
        report.add(Defect::Foreign, format!("{output:?}"));
    }
}

/// Order per input partition and output topic. A duplicate is no disorder: only the first of its outputs counts.
fn check_order(observed: &Observed, report: &mut Report) {
    let mut last: BTreeMap<(&str, i32), &Output> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for output in observed.outputs.iter().filter(|output| seen.insert(output.origin)) {
        let before = last.insert((&output.topic, output.origin.0), output);
        let Some(before) = before else { continue };
        if before.origin.1 > output.origin.1 {
            report.add(Defect::Disordered, format!("{:?} before {:?}", before.origin, output.origin));
        }
        if before.revision > output.revision {
            let what =
                format!("revision {} before {} at {} {:?}", before.revision, output.revision, output.topic, output.at);
            report.add(Defect::WentBack, what);
        }
    }
}

/// No transaction carries two revisions: neither among its outputs, nor between those and its offsets.
fn check_transactions(observed: &Observed, report: &mut Report) {
    for part in observed.parts.iter().filter(|part| part.revisions.len() > 1) {
        report.add(Defect::Mixed, format!("{part:?}"));
    }
    for part in observed.parts.iter().filter(|part| part.outcome == "open") {
        report.add(Defect::Open, format!("{part:?}"));
    }
    // For each input partition: the offset that a transaction committed → its revision.
    let mut revisions: BTreeMap<i32, BTreeMap<i64, u64>> = BTreeMap::new();
    for commit in &observed.commits {
        let (Some(revision), 1) = (commit.revisions.first(), commit.revisions.len()) else {
            report.add(Defect::Mixed, format!("{commit:?}"));
            continue;
        };
        for (partition, offset) in &commit.offsets {
            let offsets = revisions.entry(*partition).or_default();
            if offsets.last_key_value().is_some_and(|(last, _)| last > offset) {
                report.add(Defect::WentBack, format!("{commit:?} after a later offset"));
            }
            // A commit that repeats an offset covers no record of its own.
            offsets.entry(*offset).or_insert(*revision);
        }
    }
    for output in &observed.outputs {
        let (partition, offset) = output.origin;
        let covering = revisions.get(&partition).and_then(|offsets| offsets.range(offset + 1..).next());
        if let Some((_, revision)) = covering
            && output.revision != *revision
        {
            let what = format!("{:?} of revision {}, its offset of {revision}", output.origin, output.revision);
            report.add(Defect::Mixed, what);
        }
    }
}
