//! The second loop: predictions and the labels that arrive for them, joined by id, scored, tallied by revision.
//!
//! Its state is in memory and bounded; what a transaction does to it is undone when the transaction aborts. The join of a
//! partition is born from what a store has kept of it and ends when the partition is another's. The store keeps nothing yet: a
//! label whose prediction was read before a restart counts as unknown.

pub mod classes;
pub mod join;
pub mod message;
pub mod placement;
pub mod scorer;
mod stream_time;
pub mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub use join::{Bounds, Join, Kept, Kind};

use crate::config::plan::Feedback as Plan;
use crate::kafka::sink::PartitionCounts;
use crate::record::dead_letter::{Blame, DeadLetter, DeadLetterWriter, Form, Reason};
use crate::record::output::{Output, Outputs};
use crate::record::{Batch, Origin, Pointer, RecordId, Revision, Route, Row, TopicIndex};
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Probation, Process};
use crate::stream::source::TopicPartition;
use crate::stream::state::{Restored, Store};
use crate::stream::transaction::Deployed;
use classes::ClassLists;
use join::{Arrival, Entry, Forgotten, Joined, Met, Moment};
use placement::Placement;
use sandpiper_sandbox::wit::latest::Judgement;
pub use scorer::Scorer;
use scorer::Time;
pub use tally::Figures;
use tally::Tally;

/// What a feedback loop is made of.
pub struct Settings {
    /// Which of the loop's input topics has the predictions; the labels are in the other one.
    pub predictions: TopicIndex,
    pub labels_id: RecordId,
    /// JSON pointer to the class; `None`: the value is the class.
    pub class: Option<Pointer>,
    pub bounds: Bounds,
    pub deadline: Duration,
    pub budget: Duration,
    pub dead_letters: DeadLetterWriter,
    /// Of the loop's topics.
    pub counts: PartitionCounts,
}

impl Settings {
    pub fn new(
        plan: &Plan,
        pipeline: &crate::config::plan::Plan,
        predictions: TopicIndex,
        instance: &str,
        counts: PartitionCounts,
    ) -> Self {
        Self {
            predictions,
            labels_id: plan.id.clone(),
            class: plan.class.clone(),
            bounds: Bounds { wait_ms: plan.wait.as_millis() as i64, entries: plan.max_entries, bytes: plan.max_bytes },
            deadline: pipeline.limits.deadline,
            budget: pipeline.delivery.budget,
            dead_letters: DeadLetterWriter { pipeline: pipeline.name.clone(), instance: instance.to_owned() },
            counts,
        }
    }
}

/// The loop's process.
pub struct Feedback {
    settings: Settings,
    scorer: Scorer,
    store: Box<dyn Store<Kept>>,
    assigned: BTreeSet<TopicPartition>,
    /// By partition number: both topics have the same.
    joins: BTreeMap<i32, Join>,
    /// Those of which the store has more to give.
    restoring: BTreeMap<i32, Join>,
    /// Of the predictions in `joins`.
    classes: ClassLists,
    /// What the keys of predictions and labels tell of where they stand.
    prediction_keys: Placement,
    label_keys: Placement,
    tally: Tally,
    /// Of the open transaction.
    staged: Tally,
    figures: Figures,
}

impl Feedback {
    /// What is committed is published in `figures`.
    pub fn new(settings: Settings, scorer: Scorer, store: Box<dyn Store<Kept>>, figures: Figures) -> Self {
        Self {
            settings,
            scorer,
            store,
            assigned: BTreeSet::new(),
            joins: BTreeMap::new(),
            restoring: BTreeMap::new(),
            classes: ClassLists::default(),
            prediction_keys: Placement::default(),
            label_keys: Placement::default(),
            tally: Tally::default(),
            staged: Tally::default(),
            figures,
        }
    }

    /// One record's effect on the join; what is joined now, or why it cannot be.
    fn arrive(&mut self, batch: &Batch, row: usize, now: i64) -> Result<Option<Joined>, Box<Reason>> {
        let Some(facts) = batch.rows.get(row) else { return Ok(None) };
        let wrong = |code: &str, message: String| Box::new(Reason::of_host("feedback", code, message));
        let (partition, moment) = (facts.origin.partition, Moment { record: facts.timestamp, now });
        // The loop gives no record of a partition that is not assigned and restored.
        let Some(join) = self.joins.get_mut(&partition) else { return Ok(None) };
        let arrival = if facts.origin.topic == self.settings.predictions {
            match batch.value(row).and_then(|value| message::prediction(value, &mut self.classes)) {
                Some(prediction) => {
                    let id = prediction.id.clone();
                    let arrival = join.prediction(prediction, moment);
                    self.note_clock(batch, facts, Met::Prediction, moment);
                    self.place_prediction(batch, facts, &id, arrival == Arrival::Held);
                    arrival
                }
                // A tombstone that was passed, or somebody else's record: nothing that a label can be for.
                None => Arrival::Counted(Kind::Foreign),
            }
        } else {
            let id = crate::record::id::of(&self.settings.labels_id, batch, row)
                .map_err(|why| wrong("no-id", format!("{why}, and [feedback] id = \"{}\"", self.settings.labels_id)))?;
            let label = message::label(batch, row, self.settings.class.as_ref())
                .map_err(|message| wrong("malformed-label", message))?;
            let arrival = join.label(&id, label, moment);
            self.note_clock(batch, facts, Met::Label, moment);
            self.place_label(batch, facts, &id, arrival == Arrival::Held);
            arrival
        };
        Ok(match arrival {
            Arrival::Joined(joined) => Some(joined),
            Arrival::UnknownClass { class, classes } => {
                self.staged.count(Kind::UnknownClass);
                self.staged.unknown.note(&class, &classes);
                None
            }
            Arrival::Counted(kind) => {
                self.staged.count(kind);
                None
            }
            Arrival::Held => None,
        })
    }

    /// Counts a time that is not taken as it stands.
    fn note_clock(&mut self, batch: &Batch, facts: &Row, met: Met, moment: Moment) {
        let clocks = &mut self.staged.clocks;
        if stream_time::believed(moment.record, moment.now).is_none() {
            clocks.missing += 1;
            return;
        }
        let of_here = stream_time::ahead(moment.record, moment.now).map(|ahead| (ahead, "this machine's clock"));
        let join = self.joins.get_mut(&facts.origin.partition);
        let of_stream = || join.and_then(|join| join.far_ahead(met, moment)).map(|ahead| (ahead, "its stream"));
        if let Some((ahead, of)) = of_here.or_else(of_stream) {
            clocks.ahead += 1;
            let (topic, origin) = (batch.rows.topic(facts.origin), facts.origin);
            let seconds = ahead / 1_000;
            clocks.last = Some(format!("{topic}/{}@{} is {seconds} s ahead of {of}", origin.partition, origin.offset));
        }
    }

    /// Notes where a prediction's key stands, and counts the label that waits for it on another partition.
    fn place_prediction(&mut self, batch: &Batch, facts: &Row, id: &str, held: bool) {
        let (topic, partition) = (batch.rows.topic(facts.origin), facts.origin.partition);
        // Another key says nothing about where a label of that id is to stand.
        if let Some(key) = batch.rows.key(facts).filter(|key| *key == id.as_bytes()) {
            self.prediction_keys.add(key, partition, self.settings.counts.of(topic).unwrap_or(0));
        }
        let mut others = self.joins.iter_mut().filter(|(number, _)| held && **number != partition);
        if let Some((_, join)) = others.find(|(_, join)| join.has_label(id)) {
            join.note_elsewhere(id);
            self.staged.count(Kind::OtherPartition);
        }
    }

    /// Notes where a label's key stands, and counts one that waits where its prediction is not: it is seen on another
    /// partition, or is placed by a hash that would put it on another.
    fn place_label(&mut self, batch: &Batch, facts: &Row, id: &str, held: bool) {
        let (topic, partition) = (batch.rows.topic(facts.origin), facts.origin.partition);
        let partitions = self.settings.counts.of(topic).unwrap_or(0);
        if let Some(key) = batch.rows.key(facts) {
            self.label_keys.add(key, partition, partitions);
        }
        if !held {
            return;
        }
        let is_seen = self.joins.iter().any(|(number, join)| *number != partition && join.has_prediction(id));
        let belongs_elsewhere = self.settings.labels_id == RecordId::Key
            && partitions > 0
            && self
                .prediction_keys
                .partitioner()
                .is_some_and(|by| by.partition(id.as_bytes(), partitions) != partition);
        if (is_seen || belongs_elsewhere)
            && let Some(join) = self.joins.get_mut(&partition)
        {
            join.note_elsewhere(id);
            self.staged.count(Kind::OtherPartition);
        }
    }

    /// Memory of what is remembered, about.
    fn bytes(&self) -> usize {
        self.joins.values().map(Join::bytes).sum::<usize>() + self.classes.bytes()
    }

    /// Forgets what there is no room for: the oldest entry of the partition that takes most, until all fit.
    fn make_room(&mut self, forgotten: &mut Forgotten) {
        self.classes.sweep();
        while self.bytes() > self.settings.bounds.bytes {
            let Some(largest) = self.joins.values_mut().max_by_key(|join| join.bytes()) else { return };
            match largest.evict(forgotten) {
                Some(Entry::Predicted { prediction, .. }) => {
                    self.classes.release(&prediction.classes);
                    prediction.other.iter().for_each(|other| self.classes.release(&other.classes));
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// What is known of labels that do not stand where their predictions do.
    fn misplaced(&self) -> Option<String> {
        let (labels, predictions) = (&self.label_keys, &self.prediction_keys);
        let met = self.tally.labels.contains_key(&Kind::OtherPartition);
        (met || placement::differ(labels, predictions))
            .then(|| placement::explain(("the labels' topic", labels), ("the predictions'", predictions)))
    }

    /// Has the scorer look at what was joined in one batch, by list of classes.
    fn score(&mut self, batch: &Batch, joined: &[(usize, Joined)], forced: &Forced, now: i64, outputs: &mut Outputs) {
        let counted = joined.iter().map(|(_, joined)| Some((joined.prediction.classes.clone(), joined.outcome())));
        let Settings { deadline, budget, .. } = self.settings;
        let time = Time { deadline, until: Instant::now() + budget };
        let counted = self.scorer.judge(counted.collect(), time);
        let others =
            joined.iter().map(|(_, joined)| Some((joined.other()?.0.classes.clone(), joined.other_outcome()?)));
        let others = self.scorer.judge_in_rest(others.collect(), time);
        for ((row, joined), (judged, other)) in joined.iter().zip(counted.into_iter().zip(others)) {
            let failure = match judged {
                Some(Ok(judgement)) => {
                    // That the other arm cannot be judged is nobody's dead letter: the answer that counts was.
                    let other = other.and_then(Result::ok);
                    self.write_score(batch, *row, joined, &judgement, other.as_ref(), outputs);
                    continue;
                }
                Some(Err(failure)) => failure,
                None => continue,
            };
            let reason = Reason {
                blame: Blame::Failed,
                code: failure.kind.code().into(),
                message: failure.message,
                log: failure.log,
                stage: "score".into(),
                release: Some(self.scorer.release.clone()),
            };
            let (id, revision) = (Some(&*joined.prediction.id), Some(joined.prediction.revision));
            let form = batch.rows.get(*row).map(|facts| form_of(forced, facts.origin)).unwrap_or_default();
            let letter = DeadLetter { reason: &reason, id, revision, form, time: now };
            self.settings.dead_letters.write(outputs, batch, *row, &letter);
            outputs.counts.failed += 1;
        }
    }

    fn write_score(
        &mut self,
        batch: &Batch,
        row: usize,
        joined: &Joined,
        judgement: &Judgement,
        other: Option<&Judgement>,
        outputs: &mut Outputs,
    ) {
        let Some(facts) = batch.rows.get(row) else { return };
        self.staged.score(joined, judgement, other);
        let key = batch.rows.key(facts).map(|key| outputs.put(key));
        let value = outputs.write(|out| message::write_score(out, joined, (judgement, other), &self.scorer.release));
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
    /// What is joined and counted stays, whoever judges what comes.
    type Next = Scorer;

    fn exchange(&mut self, next: Scorer) -> Scorer {
        if next.release != self.scorer.release {
            self.tally.forget_losses();
            self.figures.publish(self.tally.clone());
        }
        std::mem::replace(&mut self.scorer, next)
    }

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
        let classes = self.classes.bytes();
        let mut joined = Vec::new();
        for (row, facts) in batch.rows.iter().enumerate() {
            let refused = forced.get(&facts.origin).and_then(|refusal| refusal.output.as_ref());
            let arrived = match (refused, facts.excess) {
                (Some(message), _) => Err(Box::new(Reason::of_host("output", "refused-by-broker", message))),
                (None, Some(_)) => {
                    let message = "it has more headers than [limits] allows: they are left out";
                    Err(Box::new(Reason::of_host("feedback", "too-many-headers", message)))
                }
                (None, None) => self.arrive(batch, row, now),
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
        // Lists of classes are kept until the commit, whether or not their prediction is.
        outputs.kept = self.joins.values_mut().map(Join::take_staged).sum::<usize>() + self.classes.bytes() - classes;
        self.score(batch, &joined, forced, now, outputs);
        if !outputs.records.is_sorted_by_key(|output| output.origin) {
            outputs.records.sort_by_key(|output| output.origin);
        }
    }

    fn committed(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        self.tally.add(&staged);
        let mut forgotten = Forgotten::default();
        self.joins.values_mut().for_each(|join| forgotten.add(join.commit()));
        self.make_room(&mut forgotten);
        self.tally.add_kind(Kind::Unknown, forgotten.labels);
        self.tally.add_kind(Kind::Expired, forgotten.predictions);
        self.tally.add_kind(Kind::Evicted, forgotten.evicted);
        self.tally.waiting = self.joins.values().map(|join| join.len() as u64).sum();
        self.tally.bytes = self.bytes() as u64;
        self.tally.misplaced = self.misplaced();
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

    fn revision(&self) -> Option<Revision> {
        Some(self.scorer.revision)
    }

    fn probation(&self) -> Probation {
        self.scorer.probation
    }

    /// What waits for its label is judged by any scorer, so the group's offsets name none, and no partition waits for one.
    fn deployed(&self) -> Option<Deployed> {
        None
    }
}
