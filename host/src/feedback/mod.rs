//! The second loop: predictions and the labels that arrive for them, joined by id, scored, tallied by revision.
//!
//! Its state is in memory and bounded; what a transaction does to it is undone when the transaction aborts. The join of a
//! partition is born from what a store has kept of it and ends when the partition is another's. The store keeps nothing yet: a
//! label whose prediction was read before a restart counts as unknown.

mod join;
pub mod message;
pub mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use join::{Bounds, Join, Kept, Kind};

use crate::config::plan::Feedback as Plan;
use crate::pipeline::isolate::isolate;
use crate::record::dead_letter::{Blame, DeadLetter, DeadLetterWriter, Form, Reason};
use crate::record::output::{Output, Outputs};
use crate::record::{Batch, Origin, RecordId, Route, TopicIndex};
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Process};
use crate::stream::source::TopicPartition;
use crate::stream::state::{Restored, Store};
use join::{Arrival, Joined};
use sandpiper_sandbox::stage::Score;
use sandpiper_sandbox::wit::latest::{Judgement, Outcome};
pub use tally::Figures;
use tally::Tally;

/// What a feedback loop is made of.
pub struct Settings {
    /// Which of the loop's input topics has the predictions; the labels are in the other one.
    pub predictions: TopicIndex,
    pub labels_id: RecordId,
    /// JSON pointer to the class; `None`: the value is the class.
    pub class: Option<String>,
    pub bounds: Bounds,
    pub deadline: Duration,
    pub budget: Duration,
    pub dead_letters: DeadLetterWriter,
    /// The scorer's release, for dead letters.
    pub release: String,
}

impl Settings {
    pub fn new(
        plan: &Plan,
        pipeline: &crate::config::plan::Plan,
        predictions: TopicIndex,
        instance: &str,
        release: String,
    ) -> Self {
        Self {
            predictions,
            labels_id: plan.id.clone(),
            class: plan.class.clone(),
            bounds: Bounds { wait_ms: plan.wait.as_millis() as i64, entries: plan.max_entries },
            deadline: pipeline.limits.deadline,
            budget: pipeline.delivery.budget,
            dead_letters: DeadLetterWriter { pipeline: pipeline.name.clone(), instance: instance.to_owned() },
            release,
        }
    }
}

/// The loop's process.
pub struct Feedback {
    settings: Settings,
    scorer: Box<dyn Score>,
    store: Box<dyn Store<Kept>>,
    assigned: BTreeSet<TopicPartition>,
    /// By partition number: both topics have the same.
    joins: BTreeMap<i32, Join>,
    /// Those of which the store has more to give.
    restoring: BTreeMap<i32, Join>,
    tally: Tally,
    /// Of the open transaction.
    staged: Tally,
    figures: Figures,
}

impl Feedback {
    /// What is committed is published in `figures`.
    pub fn new(settings: Settings, scorer: Box<dyn Score>, store: Box<dyn Store<Kept>>, figures: Figures) -> Self {
        Self {
            settings,
            scorer,
            store,
            assigned: BTreeSet::new(),
            joins: BTreeMap::new(),
            restoring: BTreeMap::new(),
            tally: Tally::default(),
            staged: Tally::default(),
            figures,
        }
    }

    /// One record's effect on the join; what is joined now, or why it cannot be.
    fn arrive(&mut self, batch: &Batch, row: usize) -> Result<Option<Joined>, Box<Reason>> {
        let Some(facts) = batch.rows.get(row) else { return Ok(None) };
        let wrong = |code: &str, message: String| Box::new(Reason::of_host("feedback", code, message));
        let time = facts.timestamp.unwrap_or_default();
        // The loop gives no record of a partition that is not assigned and restored.
        let Some(join) = self.joins.get_mut(&facts.origin.partition) else { return Ok(None) };
        let arrival = if facts.origin.topic == self.settings.predictions {
            match batch.value(row).and_then(message::prediction) {
                Some(prediction) => join.prediction(prediction, time),
                // A tombstone that was passed, or somebody else's record: nothing that a label can be for.
                None => Arrival::Counted(Kind::Foreign),
            }
        } else {
            let id = crate::record::id::of(&self.settings.labels_id, batch, row)
                .map_err(|message| wrong("no-id", message))?;
            let label = message::label(batch, row, self.settings.class.as_deref())
                .map_err(|message| wrong("malformed-label", message))?;
            join.label(&id, label, time)
        };
        Ok(match arrival {
            Arrival::Joined(joined) => Some(joined),
            Arrival::Counted(kind) => {
                self.staged.count(kind);
                None
            }
            Arrival::Held => None,
        })
    }

    /// Has the scorer look at what was joined in one batch, by list of classes.
    fn score(&mut self, batch: &Batch, joined: &[(usize, Joined)], forced: &Forced, now: i64, outputs: &mut Outputs) {
        let mut rest = joined;
        while let Some((_, first)) = rest.first() {
            let same =
                rest.iter().take_while(|(_, other)| other.prediction.classes == first.prediction.classes).count();
            let (group, behind) = rest.split_at(same);
            rest = behind;
            let classes = &first.prediction.classes;
            let outcomes: Vec<Outcome> = group.iter().map(|(_, joined)| joined.outcome()).collect();
            let isolated = isolate(outcomes.len(), self.settings.deadline, self.settings.budget, |range, deadline| {
                self.scorer.score(classes, outcomes.get(range).unwrap_or_default(), deadline)
            });
            for (range, judgements) in isolated.answers {
                for judgement in judgements {
                    if let Some((row, joined)) = group.get(range.start + judgement.row as usize) {
                        self.write_score(batch, *row, joined, &judgement, outputs);
                    }
                }
            }
            let failures = isolated.poison.into_iter().chain(isolated.undecided);
            for (at, failure) in failures {
                let Some((row, joined)) = group.get(at) else { continue };
                let reason = Reason {
                    blame: Blame::Failed,
                    code: failure.kind.code().into(),
                    message: failure.message,
                    log: failure.log,
                    stage: "score".into(),
                    release: Some(self.settings.release.clone()),
                };
                let (id, revision) = (Some(joined.prediction.id.as_str()), Some(joined.prediction.revision));
                let form = batch.rows.get(*row).map(|facts| form_of(forced, facts.origin)).unwrap_or_default();
                let letter = DeadLetter { reason: &reason, id, revision, form, time: now };
                self.settings.dead_letters.write(outputs, batch, *row, &letter);
            }
        }
    }

    fn write_score(
        &mut self,
        batch: &Batch,
        row: usize,
        joined: &Joined,
        judgement: &Judgement,
        outputs: &mut Outputs,
    ) {
        let Some(facts) = batch.rows.get(row) else { return };
        self.staged.score(joined, judgement);
        let key = batch.rows.key(facts).map(|key| outputs.put(key));
        let value = outputs.write(|out| message::write_score(out, joined, judgement));
        outputs.records.push(Output {
            origin: facts.origin,
            route: Route::Output,
            key,
            value: Some(value),
            timestamp: facts.timestamp,
            headers: None,
            last_resort: false,
        });
        outputs.counts.emitted += 1;
        outputs.counts.records += 1;
    }
}

fn form_of(forced: &Forced, origin: Origin) -> Form {
    forced.get(&origin).map(|refusal| refusal.form).unwrap_or_default()
}

impl Process for Feedback {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.assigned.extend(partitions);
        for TopicPartition { partition, .. } in partitions {
            if !self.joins.contains_key(partition) && !self.restoring.contains_key(partition) {
                self.restoring.insert(*partition, Join::new(self.settings.bounds));
                self.store.open(*partition);
            }
        }
    }

    fn restore(&mut self, wait: Duration) -> Result<Restored, Fault> {
        if self.restoring.is_empty() {
            return Ok(Restored::default());
        }
        for (partition, kept) in self.store.read(wait)? {
            if let Some(join) = self.restoring.get_mut(&partition) {
                join.restore(kept);
            }
        }
        let whole = self.restoring.extract_if(.., |partition, _| self.store.progress(*partition).is_none());
        self.joins.extend(whole);
        let left = |partition: &TopicPartition| {
            let progress = self.store.progress(partition.partition)?;
            self.restoring.contains_key(&partition.partition).then_some((*partition, progress))
        };
        Ok(Restored { left: self.assigned.iter().filter_map(left).collect() })
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        outputs.clear();
        let mut joined = Vec::new();
        for (row, facts) in batch.rows.iter().enumerate() {
            let refused = forced.get(&facts.origin).and_then(|refusal| refusal.output.as_ref());
            let arrived = match (refused, facts.excess) {
                (Some(message), _) => Err(Box::new(Reason::of_host("output", "refused-by-broker", message))),
                (None, Some(_)) => {
                    let message = "it has more headers than [limits] allows: they are left out";
                    Err(Box::new(Reason::of_host("feedback", "too-many-headers", message)))
                }
                (None, None) => self.arrive(batch, row),
            };
            match arrived {
                Ok(Some(pair)) => joined.push((row, pair)),
                Ok(None) => {}
                Err(reason) => {
                    let form = form_of(forced, facts.origin);
                    let letter = DeadLetter { reason: &reason, id: None, revision: None, form, time: now };
                    self.settings.dead_letters.write(outputs, batch, row, &letter);
                }
            }
        }
        self.score(batch, &joined, forced, now, outputs);
        if !outputs.records.is_sorted_by_key(|output| output.origin) {
            outputs.records.sort_by_key(|output| output.origin);
        }
    }

    fn committed(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        self.tally.add(&staged);
        for join in self.joins.values_mut() {
            let unknown = join.commit();
            self.tally.add_kind(Kind::Unknown, unknown.labels);
            self.tally.add_kind(Kind::Expired, unknown.predictions);
        }
        self.tally.waiting = self.joins.values().map(|join| join.len() as u64).sum();
        self.figures.publish(self.tally.clone());
    }

    fn aborted(&mut self) {
        self.staged = Tally::default();
        self.joins.values_mut().for_each(Join::abort);
    }

    fn unassigned(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.joins.remove(&partition.partition);
            self.restoring.remove(&partition.partition);
            self.store.close(partition.partition);
        }
    }
}
