//! Predictions and labels of one partition, joined by id, bounded by stream time and entries; whoever holds several joins
//! bounds their bytes.
//!
//! Everything since the last commit can be undone. Entries are forgotten only at a commit, oldest first: a prediction
//! by the labels' time and a label by the predictions' time, so that a side that lags behind costs the other nothing. An entry's
//! age counts from the time that its own side had come to when it came, whatever time it carries itself.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

pub use entry::{Entry, Joined, Kept, Kind, Label, Met, OtherArm, Prediction};

use super::classes::Classes;
use super::stream_time::{StreamTime, believed};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Milliseconds of stream time.
    pub wait_ms: i64,
    /// Ids of one partition.
    pub entries: usize,
    /// Of all partitions of one worker, about.
    pub bytes: usize,
}

/// What a record did.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    Joined(Joined),
    /// A label of a class that the model, of those classes, does not know.
    UnknownClass {
        class: String,
        classes: Classes,
    },
    Counted(Kind),
    /// It waits for its other half.
    Held,
}

/// A record's time and that of its reading, milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub record: Option<i64>,
    pub now: i64,
}

impl Moment {
    fn believed(self) -> Option<i64> {
        believed(self.record, self.now)
    }
}

/// Entries that were forgotten before their other half came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forgotten {
    /// In their time.
    pub labels: u64,
    pub predictions: u64,
    /// Before their time, for want of room: of both kinds.
    pub evicted: u64,
}

impl Forgotten {
    pub fn add(&mut self, other: Self) {
        self.labels += other.labels;
        self.predictions += other.predictions;
        self.evicted += other.evicted;
    }

    fn count(&mut self, entry: Option<&Entry>, in_time: bool) {
        match entry {
            Some(Entry::Labelled { elsewhere: true, .. } | Entry::Joined(_)) | None => {}
            Some(_) if !in_time => self.evicted += 1,
            Some(Entry::Labelled { .. }) => self.labels += 1,
            Some(Entry::Predicted { .. }) => self.predictions += 1,
        }
    }
}

/// One of the two topics.
#[derive(Debug, Default)]
struct Side {
    /// Ids that came first here, by arrival, with what time it was.
    order: VecDeque<(i64, Arc<str>)>,
    time: StreamTime,
    /// What time it was before the open transaction, where that has moved it.
    committed: Option<StreamTime>,
}

/// One partition's state.
pub struct Join {
    bounds: Bounds,
    entries: HashMap<Arc<str>, Entry>,
    predicted: Side,
    labelled: Side,
    /// What entries were before the open transaction touched them, in order.
    undo: Vec<(Arc<str>, Option<Entry>, Met)>,
    /// Memory of entries, about; the lists of classes, which are shared, are not in it.
    bytes: usize,
    /// What the open transaction has added to memory until its commit, about.
    staged: usize,
    /// Labels that wait.
    labels: usize,
}

impl Join {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            predicted: Side::default(),
            labelled: Side::default(),
            undo: Vec::new(),
            bytes: 0,
            staged: 0,
            labels: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was added to memory since this was asked last.
    pub fn take_staged(&mut self) -> usize {
        mem::take(&mut self.staged)
    }

    /// Whether a prediction of that id waits here.
    pub fn has_prediction(&self, id: &str) -> bool {
        matches!(self.entries.get(id), Some(Entry::Predicted { .. }))
    }

    /// Whether a label of that id waits here, of which it is not known yet that its prediction is elsewhere.
    pub fn has_label(&self, id: &str) -> bool {
        self.labels > 0 && matches!(self.entries.get(id), Some(Entry::Labelled { elsewhere: false, .. }))
    }

    /// The prediction of that label is on another partition: it waits on, and is not counted again when it is forgotten.
    pub fn note_elsewhere(&mut self, id: &str) {
        if let Some(Entry::Labelled { label, time, elsewhere: false }) = self.entries.get(id).cloned() {
            self.set(id.into(), Entry::Labelled { label, time, elsewhere: true }, Met::Label);
        }
    }

    /// Takes back what was kept of an id; what is given later takes the place of what was given before.
    pub fn restore(&mut self, Kept { id, met, time, entry }: Kept) {
        self.side(met).time.read(time, i64::MIN);
        match entry {
            Some(entry) => self.set_at(id, entry, met, time),
            None => drop(self.remove(&id)),
        }
        self.settle();
    }

    pub fn prediction(&mut self, prediction: Prediction, moment: Moment) -> Arrival {
        self.advance(Met::Prediction, moment);
        let time = moment.believed();
        let id = prediction.id.clone();
        match self.entries.get(&*id).cloned() {
            Some(Entry::Labelled { label, time: labelled, .. }) => self.join(prediction, time, &label, labelled),
            // The id came again: what is predicted last is what a label will be for.
            Some(Entry::Predicted { .. }) => {
                self.set(id, Entry::Predicted { prediction, time }, Met::Prediction);
                Arrival::Counted(Kind::Repeated)
            }
            Some(Entry::Joined(_)) => Arrival::Counted(Kind::Repeated),
            None => {
                let at = self.time_of(Met::Prediction, moment.now);
                self.set_at(id, Entry::Predicted { prediction, time }, Met::Prediction, at);
                Arrival::Held
            }
        }
    }

    pub fn label(&mut self, id: &str, label: Label, moment: Moment) -> Arrival {
        self.advance(Met::Label, moment);
        let time = moment.believed();
        match self.entries.get(id).cloned() {
            Some(Entry::Predicted { prediction, time: predicted }) => self.join(prediction, predicted, &label, time),
            Some(Entry::Labelled { label: before, .. }) => Arrival::Counted(agreement(&before.class, &label.class)),
            Some(Entry::Joined(class)) => Arrival::Counted(agreement(&class, &label.class)),
            None => {
                let at = self.time_of(Met::Label, moment.now);
                self.set_at(id.into(), Entry::Labelled { label, time, elsewhere: false }, Met::Label, at);
                Arrival::Held
            }
        }
    }

    fn join(
        &mut self,
        prediction: Prediction,
        predicted: Option<i64>,
        label: &Label,
        labelled: Option<i64>,
    ) -> Arrival {
        let id = prediction.id.clone();
        let Some(truth) = prediction.classes.iter().position(|class| *class == label.class) else {
            // An early label that cannot be right gives way to the prediction, which waits for a right one.
            let classes = prediction.classes.clone();
            self.set(id, Entry::Predicted { prediction, time: predicted }, Met::Prediction);
            return Arrival::UnknownClass { class: label.class.clone(), classes };
        };
        self.set(id, Entry::Joined(label.class.as_str().into()), Met::Label);
        let delay = predicted.zip(labelled).map(|(predicted, labelled)| labelled - predicted);
        Arrival::Joined(Joined {
            prediction,
            truth: u32::try_from(truth).unwrap_or(u32::MAX),
            source: label.source.clone(),
            delay_ms: delay.map(|delay| delay.max(0) as u64),
            early: delay.is_some_and(|delay| delay < 0),
        })
    }

    fn side(&mut self, met: Met) -> &mut Side {
        match met {
            Met::Prediction => &mut self.predicted,
            Met::Label => &mut self.labelled,
        }
    }

    fn advance(&mut self, met: Met, moment: Moment) {
        if let Some(time) = moment.believed() {
            let side = self.side(met);
            side.committed.get_or_insert_with(|| side.time.clone());
            side.time.read(time, moment.now);
        }
    }

    /// How far a record of that time lies ahead of its stream, where by it alone everything would be too old. Milliseconds.
    pub fn far_ahead(&mut self, met: Met, moment: Moment) -> Option<i64> {
        let ahead = moment.believed()?.saturating_sub(self.side(met).time.now()?);
        (ahead > self.bounds.wait_ms).then_some(ahead)
    }

    /// What time it is on that side; while it has none, on the other; while neither has, here.
    fn time_of(&mut self, met: Met, now: i64) -> i64 {
        let other = match met {
            Met::Prediction => Met::Label,
            Met::Label => Met::Prediction,
        };
        let own = self.side(met).time.now();
        own.or_else(|| self.side(other).time.now()).unwrap_or(now)
    }

    /// Replaces what is known of an id.
    fn set(&mut self, id: Arc<str>, entry: Entry, met: Met) {
        // What is known already has its place.
        self.set_at(id, entry, met, i64::MIN);
    }

    fn set_at(&mut self, id: Arc<str>, entry: Entry, met: Met, at: i64) {
        let size = entry.size(&id);
        self.staged += size;
        self.bytes += size;
        self.labels += usize::from(entry.is_label());
        let before = self.entries.insert(id.clone(), entry);
        match &before {
            Some(before) => {
                // Until the commit it can come back.
                self.staged += before.size(&id);
                self.account_for_loss(&id, before);
            }
            None => self.side(met).order.push_back((at, id.clone())),
        }
        self.undo.push((id, before, met));
    }

    fn remove(&mut self, id: &str) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.account_for_loss(id, &entry);
        Some(entry)
    }

    fn account_for_loss(&mut self, id: &str, entry: &Entry) {
        self.bytes -= entry.size(id);
        self.labels -= usize::from(entry.is_label());
    }

    fn settle(&mut self) {
        self.undo.clear();
        (self.predicted.committed, self.labelled.committed) = (None, None);
        self.staged = 0;
    }

    /// Makes the open transaction's effects final and forgets what is too old or too much.
    pub fn commit(&mut self) -> Forgotten {
        self.settle();
        let mut forgotten = Forgotten::default();
        loop {
            let (entry, in_time) = if let Some(met) = self.too_old() {
                (self.forget_first(met), true)
            } else if self.predicted.order.len() + self.labelled.order.len() > self.bounds.entries {
                (self.forget_oldest(), false)
            } else {
                return forgotten;
            };
            forgotten.count(entry.as_ref(), in_time);
        }
    }

    /// Forgets the oldest entry for want of room; `None` where there is none. No transaction is open.
    pub fn evict(&mut self, forgotten: &mut Forgotten) -> Option<Entry> {
        // What a store has given and taken back again has a place, and no entry.
        while !self.predicted.order.is_empty() || !self.labelled.order.is_empty() {
            if let Some(entry) = self.forget_oldest() {
                forgotten.count(Some(&entry), false);
                return Some(entry);
            }
        }
        None
    }

    /// The side whose first entry the other side's time has left behind.
    fn too_old(&self) -> Option<Met> {
        let wait = self.bounds.wait_ms;
        let is_old = |side: &Side, other: &Side| {
            let first = side.order.front().zip(other.time.now());
            first.is_some_and(|((at, _), now)| now.saturating_sub(*at) > wait)
        };
        if is_old(&self.predicted, &self.labelled) {
            Some(Met::Prediction)
        } else if is_old(&self.labelled, &self.predicted) {
            Some(Met::Label)
        } else {
            None
        }
    }

    fn forget_oldest(&mut self) -> Option<Entry> {
        let first = |side: &Side| side.order.front().map_or(i64::MAX, |(at, _)| *at);
        let is_prediction = first(&self.predicted) <= first(&self.labelled) && !self.predicted.order.is_empty();
        self.forget_first(if is_prediction { Met::Prediction } else { Met::Label })
    }

    fn forget_first(&mut self, met: Met) -> Option<Entry> {
        let (_, id) = self.side(met).order.pop_front()?;
        self.remove(&id)
    }

    /// Undoes everything since the last commit.
    pub fn abort(&mut self) {
        for (id, before, met) in mem::take(&mut self.undo).into_iter().rev() {
            self.remove(&id);
            match before {
                Some(entry) => {
                    self.bytes += entry.size(&id);
                    self.labels += usize::from(entry.is_label());
                    self.entries.insert(id, entry);
                }
                // New ids stand at the back in the order in which they came.
                None => drop(self.side(met).order.pop_back()),
            }
        }
        for side in [&mut self.predicted, &mut self.labelled] {
            if let Some(time) = side.committed.take() {
                side.time = time;
            }
        }
        self.staged = 0;
    }
}

fn agreement(before: &str, now: &str) -> Kind {
    if before == now { Kind::Duplicate } else { Kind::Conflicting }
}
