//! A deployment opened for one worker: a batch in, its outputs and dead letters out. Knows no Kafka.
//!
//! Every input record gets exactly one outcome: emitted, dropped or dead-lettered. A record of which any part
//! is dead-lettered emits nothing, so that replaying the letter cannot double it.

pub mod challenger;
#[cfg(test)]
pub(crate) mod fakes;
pub mod isolate;
mod model;
mod size;
#[cfg(test)]
mod tests;
mod transform;

use std::sync::Arc;
use std::time::Duration;

use challenger::Allowance;
pub use model::ModelStage;
pub use transform::TransformStage;

use crate::config::plan::{Plan, Policy, Stamp, Timestamp, Tombstones};
use crate::record::dead_letter::{Blame, DeadLetter, DeadLetterWriter, Reason};
use crate::record::output::{Halt, Output, Outputs, Span};
use crate::record::prediction;
use crate::record::{Batch, Excess, Headers, Origin, RecordId, Revision, Role, Route, id};
use crate::stream::process::{Forced, Probation, Process};
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::wit::latest::Rejection;

/// What a pipeline does with records, whatever it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub id: RecordId,
    pub tombstones: Tombstones,
    pub stamp: Stamp,
    pub timestamp: Timestamp,
    /// Time of one plugin call.
    pub deadline: Duration,
    /// Time that narrowing down one failing batch may take.
    pub budget: Duration,
    /// Bytes of the largest value that reaches a plugin.
    pub max_value: usize,
    /// Bytes that the records of one call may come to, as `size` counts them.
    pub max_output: usize,
    /// Bytes of the largest key, and how many headers of how many bytes a record may have.
    pub max_key: usize,
    pub max_headers: usize,
    pub max_header_bytes: usize,
    /// What becomes of a record that a plugin rejects, and of one that it fails on.
    pub rejected: Policy,
    pub failed: Policy,
    pub dead_letters: DeadLetterWriter,
}

impl Settings {
    pub fn new(plan: &Plan, instance: &str) -> Self {
        Self {
            id: plan.input.id.clone(),
            tombstones: plan.input.tombstones,
            stamp: plan.output.stamp,
            timestamp: plan.output.timestamp,
            deadline: plan.limits.deadline,
            budget: plan.delivery.budget,
            max_value: plan.limits.batch_bytes,
            max_output: plan.limits.output_bytes,
            max_key: plan.limits.max_key,
            max_headers: plan.limits.max_headers,
            max_header_bytes: plan.limits.max_header_bytes,
            rejected: plan.errors.rejected,
            failed: plan.errors.failed,
            dead_letters: DeadLetterWriter { pipeline: plan.name.clone(), instance: instance.to_owned() },
        }
    }
}

/// The stages of one revision, opened.
pub struct Pipeline {
    pub revision: Revision,
    /// What it runs, where that is a deployment's.
    pub releases: Option<Digest>,
    pub probation: Probation,
    settings: Arc<Settings>,
    transforms: Vec<TransformStage>,
    /// Parser and classifier, where the pipeline predicts.
    model: Option<ModelStage>,
    /// Of the open transaction.
    allowance: Allowance,
}

impl Pipeline {
    pub fn new(
        revision: Revision,
        settings: Arc<Settings>,
        transforms: Vec<TransformStage>,
        model: Option<ModelStage>,
    ) -> Self {
        Self {
            revision,
            releases: None,
            probation: Probation::Passed,
            settings,
            transforms,
            model,
            allowance: Allowance::default(),
        }
    }

    /// Has predictions written as `prediction::Answered` has them, for whoever compares answers; the names of the classes, where
    /// it predicts.
    pub fn answer_first(&mut self, with_prediction: bool) -> Option<Vec<String>> {
        self.model.as_mut().map(|model| model.writer.answer_first(with_prediction))
    }
}

impl Process for Pipeline {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        outputs.clear();
        let mut run = Run {
            revision: self.revision,
            develops: self.probation == Probation::Developing,
            settings: &self.settings,
            forced,
            input: batch,
            now,
            marks: vec![Mark::Open; batch.len()],
            written: 0,
            overflow: None,
            allowance: self.allowance,
            challengers: std::collections::HashSet::new(),
            outputs,
        };
        let admitted = run.admit();
        let mut work = match admitted {
            None => Work::whole(batch),
            Some(rows) => Work::selected(batch, rows),
        };
        for stage in &mut self.transforms {
            work = stage.run(&mut run, &work);
        }
        match &mut self.model {
            Some(model) => model.run(&mut run, &work),
            None => run.emit_all(&work),
        }
        drop(work);
        self.allowance = run.allowance;
        match run.overflow.take() {
            Some(overflow) => run.overflowed(&overflow),
            None => run.finish(),
        }
    }

    fn committed(&mut self) {
        self.allowance.renew();
    }

    fn aborted(&mut self) {
        self.allowance.renew();
    }

    fn revision(&self) -> Option<Revision> {
        Some(self.revision)
    }

    fn releases(&self) -> Option<Digest> {
        self.releases
    }

    fn probation(&self) -> Probation {
        self.probation
    }
}

/// Records on their way between two stages.
struct Work<'a> {
    batch: std::borrow::Cow<'a, Batch>,
    /// For each row the input row that it came from; `None` when they are the same.
    sources: Option<Vec<usize>>,
}

impl<'a> Work<'a> {
    fn whole(batch: &'a Batch) -> Self {
        Self { batch: std::borrow::Cow::Borrowed(batch), sources: None }
    }

    fn selected(batch: &Batch, rows: Vec<usize>) -> Self {
        let selection = batch.select(rows.iter().copied());
        Self { batch: std::borrow::Cow::Owned(selection), sources: Some(rows) }
    }

    fn source(&self, row: usize) -> usize {
        match &self.sources {
            None => row,
            Some(sources) => sources.get(row).copied().unwrap_or(row),
        }
    }

    /// Those rows of it, still tied to the input.
    fn select(&self, rows: &[usize]) -> Work<'static> {
        let sources = rows.iter().map(|row| self.source(*row)).collect();
        Work { batch: std::borrow::Cow::Owned(self.batch.select(rows.iter().copied())), sources: Some(sources) }
    }
}

/// What has become of an input row so far.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Open,
    Emitted,
    Dead,
    /// A plugin did not take it, and `[errors]` says that it is dropped.
    Discarded,
}

/// One batch on its way through the stages.
struct Run<'a> {
    revision: Revision,
    /// What runs is being developed.
    develops: bool,
    settings: &'a Settings,
    forced: &'a Forced,
    input: &'a Batch,
    now: i64,
    /// By input row.
    marks: Vec<Mark>,
    /// Bytes of what was emitted so far, as `size` counts them.
    written: usize,
    /// Set where they would be too many: then no stage does anything more.
    overflow: Option<Overflow>,
    /// Of a challenger.
    allowance: Allowance,
    /// Input rows whose records are a challenger's from a transform on.
    challengers: std::collections::HashSet<usize>,
    outputs: &'a mut Outputs,
}

/// The stage at which a batch came to more than it may.
struct Overflow {
    stage: String,
    release: Option<String>,
}

impl Run<'_> {
    /// Ends the rows whose outcome is fixed before any stage; the others, or `None` for all of them.
    fn admit(&mut self) -> Option<Vec<usize>> {
        let oversize = |row: usize| self.input.bytes(row).is_some_and(|value| value.len() > self.settings.max_value);
        // The sum bounds each: only a batch that is as large as one value may be needs a look at its rows.
        let small = self.input.raw.payload.len() <= self.settings.max_value
            && self.input.rows.key_bytes() <= self.settings.max_key
            && !self.input.rows.any_excess();
        if self.forced.is_empty() && small {
            return None;
        }
        let mut admitted = Vec::with_capacity(self.input.len());
        let mut ended = Vec::new();
        for (at, row) in self.input.rows.iter().enumerate() {
            if let Some(message) = self.forced.get(&row.origin).and_then(|refusal| refusal.output.as_ref()) {
                ended.push((at, Reason::of_host("output", "refused-by-broker", message)));
            } else if let Some(excess) = row.excess {
                ended.push((at, self.too_much(excess)));
            } else if let Some(size) =
                self.input.rows.key(row).map(<[u8]>::len).filter(|size| *size > self.settings.max_key)
            {
                let message = format!("the key has {size} bytes, more than limits.max_key = {}", self.settings.max_key);
                ended.push((at, Reason::of_host("input", "too-large", message)));
            } else if oversize(at) {
                let size = self.input.bytes(at).map_or(0, <[u8]>::len);
                let message =
                    format!("the value has {size} bytes, more than limits.batch_bytes = {}", self.settings.max_value);
                ended.push((at, Reason::of_host("input", "too-large", message)));
            } else {
                admitted.push(at);
            }
        }
        for (at, reason) in ended {
            self.dead_letter(at, &reason);
        }
        Some(admitted)
    }

    /// Why a record is a dead letter whose headers are above a bound.
    fn too_much(&self, excess: Excess) -> Reason {
        let Settings { max_headers, max_header_bytes, .. } = *self.settings;
        let message = match excess {
            Excess::Headers { count, bytes } => format!(
                "{count} headers of {bytes} bytes, more than limits.max_headers = {max_headers} or limits.max_header_bytes = \
                 {max_header_bytes}: they are left out"
            ),
            Excess::Unread => format!(
                "its headers cannot be read: there are more than 100,000, and limits.max_headers = {max_headers}, or they are \
                 malformed; they are left out"
            ),
        };
        Reason::of_host("input", "too-many-headers", message)
    }

    /// Makes an input row a dead letter, once.
    fn dead_letter(&mut self, source: usize, reason: &Reason) {
        match self.marks.get_mut(source) {
            Some(mark) if matches!(mark, Mark::Open | Mark::Emitted) => *mark = Mark::Dead,
            _ => return,
        }
        let policy = match reason.blame {
            Blame::Host => Policy::DeadLetter,
            Blame::Rejected => self.settings.rejected,
            Blame::Failed => self.settings.failed,
        };
        self.outputs.counts.failed += u64::from(reason.blame == Blame::Failed);
        if policy != Policy::DeadLetter {
            if policy == Policy::Stop {
                self.stop_at(source, reason);
            }
            if let Some(mark) = self.marks.get_mut(source) {
                *mark = Mark::Discarded;
            }
            return;
        }
        let id = id::of(&self.settings.id, self.input, source).ok();
        let (id, revision) = (id.as_deref(), Some(self.revision));
        let origin = self.input.rows.get(source).map(|row| row.origin);
        let form = origin.and_then(|origin| self.forced.get(&origin)).map(|refusal| refusal.form).unwrap_or_default();
        let letter = DeadLetter { reason, id, revision, form, time: self.now };
        self.settings.dead_letters.write(self.outputs, self.input, source, &letter);
    }

    fn stop_at(&mut self, source: usize, reason: &Reason) {
        let Some(row) = self.input.rows.get(source) else { return };
        let (topic, origin) = (self.input.rows.topic(row.origin), row.origin);
        let why = format!(
            "{topic}/{}@{}: {} says {}: {}",
            origin.partition, origin.offset, reason.stage, reason.code, reason.message
        );
        self.outputs.halt.get_or_insert(Halt::Record(why));
    }

    /// More rows failed than could be tried alone: that is the release's failure, and nobody's dead letter. While a plugin is
    /// developed there is nothing to fall back to, and the letters are what its author wants to see. `failures` are by input row.
    fn release_failed(&mut self, failures: &[(usize, sandpiper_sandbox::Failure)], stage: &str, release: &str) {
        if self.develops {
            for (source, failure) in failures {
                let mut reason = reason_of(failure, stage, release);
                reason.message = format!("too many rows failed for this one to be tried alone; the last: {failure}");
                self.dead_letter(*source, &reason);
            }
        } else if let Some((_, failure)) = failures.first() {
            let why = format!(
                "{stage} {release} failed on too many rows for each to be tried alone; the last failure: {failure}"
            );
            self.outputs.halt = Some(Halt::Release(why));
        }
    }

    /// Adds one output record for a row of `work`; a role is stamped where the stamp is a header.
    fn emit(&mut self, work: &Work<'_>, row: usize, route: Route, value: Option<Span>, role: Role) {
        let Some(facts) = work.batch.rows.get(row) else { return };
        self.written += size::record(work.batch.rows.key(facts), facts.headers.as_deref())
            + value.map_or(0, |value| self.outputs.bytes(value).len());
        if self.written > self.settings.max_output {
            self.overflow = Some(Overflow { stage: "output".into(), release: None });
            return;
        }
        let key = work.batch.rows.key(facts).map(|key| self.outputs.put(key));
        let mut headers = facts.headers.clone();
        if self.settings.stamp == Stamp::Header {
            headers.get_or_insert_default().push(self.stamp(work, facts.origin, role));
        }
        let timestamp = match self.settings.timestamp {
            Timestamp::Input => facts.timestamp,
            Timestamp::Now => None,
        };
        if let Some(mark) = self.marks.get_mut(work.source(row))
            && *mark == Mark::Open
        {
            *mark = Mark::Emitted;
        }
        self.outputs.records.push(Output {
            origin: facts.origin,
            route,
            key,
            value,
            timestamp,
            headers,
            last_resort: false,
        });
    }

    /// Whose record a row is.
    fn role(&self, work: &Work<'_>, row: usize) -> Role {
        if self.challengers.contains(&work.source(row)) { Role::Challenger } else { Role::Champion }
    }

    /// Emits a row's own bytes.
    fn pass(&mut self, work: &Work<'_>, row: usize, route: Route, role: Role) {
        if self.overflow.is_some() {
            return;
        }
        let value = work.batch.value(row).map(|value| self.outputs.put(value));
        self.emit(work, row, route, value, role);
    }

    fn emit_all(&mut self, work: &Work<'_>) {
        for row in 0..work.batch.len() {
            self.pass(work, row, Route::Output, self.role(work, row));
        }
    }

    /// `sandpiper: 17 champion iris.measurements/3@1842`.
    fn stamp(&self, work: &Work<'_>, origin: Origin, role: Role) -> (String, Option<Vec<u8>>) {
        let mut value = format!("{} {} ", self.revision, role.name()).into_bytes();
        prediction::position(&mut value, work.batch.rows.topic(origin), origin);
        ("sandpiper".into(), Some(value))
    }

    /// Ends a batch that comes to too much: one record alone is a dead letter, of several nothing stands.
    fn overflowed(mut self, overflow: &Overflow) {
        self.outputs.clear();
        if self.input.len() > 1 {
            self.outputs.overflowed = true;
            return;
        }
        self.marks.fill(Mark::Open);
        let message = format!(
            "what this record comes to is more than limits.output_bytes = {}: keys and headers are counted for each record \
             that is emitted",
            self.settings.max_output
        );
        let reason = Reason {
            blame: Blame::Failed,
            code: "too-much-output".into(),
            message,
            log: String::new(),
            stage: overflow.stage.clone(),
            release: overflow.release.clone(),
        };
        self.dead_letter(0, &reason);
        self.finish();
    }

    /// Counts the outcomes, and takes back what a dead-lettered record had emitted.
    fn finish(self) {
        let (mut emitted, mut dropped, mut dead) = (0, 0, false);
        for mark in &self.marks {
            match mark {
                Mark::Open => dropped += 1,
                Mark::Emitted => emitted += 1,
                Mark::Dead => dead = true,
                Mark::Discarded => (dropped, dead) = (dropped + 1, true),
            }
        }
        let counts = &mut self.outputs.counts;
        (counts.emitted, counts.dropped) = (emitted, dropped);
        counts.records += emitted + dropped;
        if dead {
            let dead: std::collections::HashSet<Origin> = (self.input.rows.iter().zip(&self.marks))
                .filter(|(_, mark)| matches!(mark, Mark::Dead | Mark::Discarded))
                .map(|(row, _)| row.origin)
                .collect();
            self.outputs.records.retain(|output| output.route == Route::DeadLetters || !dead.contains(&output.origin));
        }
        // Stages answer one after the other; a partition's records go out in the order in which they came.
        if !self.outputs.records.is_sorted_by_key(|output| output.origin) {
            self.outputs.records.sort_by_key(|output| output.origin);
        }
    }
}

/// The headers of a row and more behind them.
fn with_headers(
    headers: Option<&Headers>,
    more: impl Iterator<Item = (String, Option<Vec<u8>>)>,
) -> Option<Box<Headers>> {
    let mut all = headers.cloned().unwrap_or_default();
    all.extend(more);
    if all.is_empty() { None } else { Some(Box::new(all)) }
}

fn reason_of(failure: &sandpiper_sandbox::Failure, stage: &str, release: &str) -> Reason {
    Reason {
        blame: Blame::Failed,
        code: failure.kind.code().into(),
        message: failure.message.clone(),
        log: failure.log.clone(),
        stage: stage.into(),
        release: Some(release.into()),
    }
}

fn reason_of_rejection(rejection: &Rejection, stage: &str, release: &str) -> Reason {
    Reason {
        blame: Blame::Rejected,
        code: rejection.code.clone(),
        message: rejection.message.clone(),
        log: String::new(),
        stage: stage.into(),
        release: Some(release.into()),
    }
}
