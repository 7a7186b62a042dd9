//! A range of the input through what runs and through a candidate, side by side in the same sandbox: what would change.
//!
//! Nothing is written to any topic of the pipeline's and no group is joined. Batches are compared as they come and forgotten;
//! what is kept is counts, labels up to a bound, and the first records that differ.

mod arm;
mod findings;
mod input;
mod labels;
mod publish;
mod range;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};

pub use arm::Arm;
pub use findings::{Accuracy, Difference, Findings, Predicted, Rejections, Shown, Side, Span};
pub use publish::{Publish, check as check_topic};
pub use range::{End, Part, parts};

use super::wait::PATIENCE;
use crate::config::plan::{Plan, Policy, Stamp};
use crate::kafka::properties;
use crate::kafka::reader::{Progress, Reader};
use crate::record::Batch;
use arm::ByRecord;
use findings::{Classes, Tally};
use input::Piece;
use labels::Labels;
use publish::Publisher;

/// What is asked for.
pub struct Request<'a> {
    /// As `as_compared` makes it.
    pub plan: &'a Plan,
    pub parts: Vec<Part>,
    /// Opened, and what they run.
    pub champion: (Arm, Side),
    pub candidate: (Arm, Side),
    /// How many of the records that differ are kept.
    pub show: usize,
    pub publish: Option<Publish>,
}

/// What a backtest is about at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    Labels,
    Records,
}

/// Whoever watches a backtest.
pub trait Watch {
    /// Something makes it wait.
    fn waiting(&mut self, text: &str);
    /// How many offsets have been read; false ends it.
    fn progress(&mut self, stage: Stage, progress: Progress) -> bool;
}

pub(super) type Tell<'a> = dyn Watch + 'a;

/// The plan that both sides are opened with: they say nothing of themselves in what they write, and what a plugin does not take
/// is told, whatever `[errors]` makes of it.
pub fn as_compared(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.output.stamp = Stamp::None;
    plan.errors.rejected = Policy::DeadLetter;
    plan.errors.failed = Policy::DeadLetter;
    plan
}

/// Refuses a candidate whose predictions cannot be compared with the champion's class by class.
///
/// # Errors
/// When one of them knows a class that the other does not, unless `allow_new_classes`.
pub fn check_classes(champion: &Arm, candidate: &Arm, allow_new_classes: bool) -> Result<()> {
    let (Some(ours), Some(theirs)) = (&champion.classes, &candidate.classes) else { return Ok(()) };
    let without = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|class| !other.contains(class)).map(|class| format!("{class:?}")).collect()
    };
    let (new, gone) = (without(theirs, ours), without(ours, theirs));
    if allow_new_classes || (new.is_empty() && gone.is_empty()) {
        return Ok(());
    }
    let said =
        |what: &str, classes: Vec<String>| (!classes.is_empty()).then(|| format!("{what} {}", classes.join(", ")));
    let differences: Vec<String> = [said("knows", new), said("lacks", gone)].into_iter().flatten().collect();
    bail!(
        "the candidate's classes are not the champion's: it {}; train it on the same classes, or say --allow-new-classes",
        differences.join(" and ")
    )
}

/// Compares the two.
///
/// # Errors
/// When a topic cannot be read or written, the range is not there any more, or one of the two fails. What was published until
/// then is told with where to go on.
pub fn run(request: Request<'_>, tell: &mut dyn Watch) -> Result<Findings> {
    let Request { plan, parts, champion: (champion, our_side), candidate: (candidate, their_side), show, publish } =
        request;
    let properties = properties::reader(plan, "backtest");
    let readers: Vec<(String, Reader)> = parts
        .iter()
        .map(|part| {
            let reader = Reader::open_range(&properties, &part.topic, &part.from, &part.to, PATIENCE)?;
            Ok((part.topic.clone(), reader))
        })
        .collect::<Result<_>>()?;
    let range: Vec<Span> = readers
        .iter()
        .flat_map(|(topic, reader)| {
            let span = |(partition, from, to)| Span { topic: topic.clone(), partition, from, to };
            reader.positions().map(span)
        })
        .collect();
    let classes = match (&champion.classes, &candidate.classes) {
        (Some(ours), Some(theirs)) => Some(Classes::new(ours, theirs)),
        _ => None,
    };
    let mut labels = None;
    let mut complete = true;
    if let (Some(feedback), Some(classes)) = (&plan.feedback, &classes) {
        let numbers: std::collections::HashMap<&str, u32> = classes.names.iter().map(String::as_str).zip(0..).collect();
        let mut read = Labels::new(feedback.max_bytes);
        complete = read.read(plan, feedback, &parts, |class| numbers.get(class).copied(), tell)?;
        labels = Some(read);
    }
    let publisher = publish
        .map(|publish| {
            let starts: BTreeMap<_, _> =
                range.iter().map(|span| ((span.topic.clone(), span.partition), span.from)).collect();
            Publisher::open(plan, publish, classes.is_some(), starts)
        })
        .transpose()?;
    let mut comparison = Comparison { champion, candidate, tally: Tally::new(classes, show), labels, publisher };
    let began = Instant::now();
    if complete {
        let pieces = input::read(plan, readers)?;
        complete = comparison.run(pieces, tell)?;
    }
    let Comparison { champion, candidate, tally, labels, publisher } = comparison;
    let (scored, unknown_class) = tally.joined();
    let rate = |records: u64, seconds: f64| if seconds > 0.0 { records as f64 / seconds } else { 0.0 };
    let (records, seconds) = (tally.records, began.elapsed().as_secs_f64());
    let mut findings = tally.finish(&plan.name, our_side, their_side);
    findings.range = range;
    findings.labels = labels.map(|labels| labels::Counts { scored, unknown_class, ..labels.counts });
    findings.speed = findings::Speed {
        champion: rate(champion.records, champion.busy.as_secs_f64()),
        candidate: rate(candidate.records, candidate.busy.as_secs_f64()),
        overall: rate(records, seconds),
        seconds,
    };
    findings.published = publisher.map(|publisher| publisher.published);
    findings.complete = complete;
    Ok(findings)
}

/// The two on their way.
struct Comparison {
    champion: Arm,
    candidate: Arm,
    tally: Tally,
    labels: Option<Labels>,
    publisher: Option<Publisher>,
}

impl Comparison {
    /// Takes every batch; false when `tell` ended it. What is published is committed when this returns, or said in the error.
    fn run(&mut self, pieces: impl IntoIterator<Item = Result<Piece>>, tell: &mut dyn Watch) -> Result<bool> {
        let went = self.take_all(pieces, tell);
        let Some(publisher) = &mut self.publisher else { return went };
        let finished = went.and_then(|complete| publisher.finish().map(|()| complete));
        match finished {
            Ok(true) => {}
            Ok(false) => tell.waiting(&publisher.rest()),
            Err(error) => {
                publisher.abort();
                return Err(error.context(publisher.rest()));
            }
        }
        finished
    }

    fn take_all(&mut self, pieces: impl IntoIterator<Item = Result<Piece>>, tell: &mut dyn Watch) -> Result<bool> {
        for piece in pieces {
            match piece? {
                Piece::Waiting(text) => tell.waiting(&text),
                Piece::Batch(batch, progress) => {
                    self.take(&batch)?;
                    if !tell.progress(Stage::Records, progress) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, batch: &Batch) -> Result<()> {
        if !self.champion.run(batch)? || !self.candidate.run(batch)? {
            // A batch of one record never comes to too much.
            let middle = batch.len() / 2;
            self.take(&batch.select(0..middle))?;
            return self.take(&batch.select(middle..batch.len()));
        }
        self.compare(batch);
        match &mut self.publisher {
            Some(publisher) => publisher.take(batch, &self.candidate.outputs),
            None => Ok(()),
        }
    }

    fn compare(&mut self, batch: &Batch) {
        // Outputs stand in the order of their origins, which a batch of several partitions need not have.
        let mut rows: Vec<usize> = (0..batch.len()).collect();
        let origin = |row: &usize| batch.rows.get(*row).map(|facts| facts.origin);
        if !rows.is_sorted_by_key(origin) {
            rows.sort_by_key(origin);
        }
        let (mut ours, mut theirs) = (ByRecord::new(&self.champion.outputs), ByRecord::new(&self.candidate.outputs));
        let labels = &mut self.labels;
        let mut label = |id: &str| labels.as_mut().and_then(|labels| labels.take(id));
        for row in rows {
            let Some(origin) = origin(&row) else { continue };
            self.tally.compare(batch, row, ours.next(origin), theirs.next(origin), &mut label);
        }
    }
}
