//! Predictions and labels of one partition, joined by id, bounded by stream time and entries.
//!
//! Everything since the last commit can be undone. Entries are forgotten only at a commit, oldest first: a prediction
//! by the labels' time and a label by the predictions' time, so that a side that lags behind costs the other nothing.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::record::Revision;
use sandpiper_sandbox::wit::latest::Outcome;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Milliseconds of stream time.
    pub wait_ms: i64,
    /// Ids of one partition.
    pub entries: usize,
}

/// A prediction as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    pub id: String,
    /// Index into `classes`.
    pub predicted: u32,
    pub scores: Vec<f32>,
    pub classes: Vec<String>,
    pub revision: Revision,
    /// Where the record that it is for was consumed.
    pub origin: String,
}

/// Ground truth as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub class: String,
    pub source: String,
}

/// What became of a label or a prediction, besides being matched on time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Joined.
    Matched,
    /// Joined, and the label is older than its prediction.
    Early,
    /// The same class again.
    Duplicate,
    /// Another class than before; the first counts.
    Conflicting,
    /// A class that the model does not know.
    UnknownClass,
    /// No prediction came for the label while it was kept.
    Unknown,
    /// No label came for the prediction while it was kept.
    Expired,
    /// A prediction's id came again.
    Repeated,
    /// A record of the predictions' topic that is no prediction.
    Foreign,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Early => "early",
            Self::Duplicate => "duplicate",
            Self::Conflicting => "conflicting",
            Self::UnknownClass => "unknown-class",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Repeated => "repeated",
            Self::Foreign => "foreign",
        }
    }
}

/// A prediction and its truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    pub prediction: Prediction,
    /// Index into the prediction's classes.
    pub truth: u32,
    pub source: String,
    pub delay_ms: u64,
    /// The label is older than its prediction.
    pub early: bool,
}

impl Joined {
    pub fn outcome(&self) -> Outcome {
        Outcome {
            id: self.prediction.id.clone(),
            predicted: self.prediction.predicted,
            scores: self.prediction.scores.clone(),
            truth: self.truth,
            source: self.source.clone(),
            delay_ms: self.delay_ms,
            revision: self.prediction.revision.get(),
        }
    }
}

/// What a record did.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    Joined(Joined),
    Counted(Kind),
    /// It waits for its other half.
    Held,
}

/// What is known of one id.
#[derive(Clone, Debug)]
pub enum Entry {
    /// With its time.
    Predicted(Prediction, i64),
    Labelled(Label, i64),
    /// Joined, with that class: a later label is told duplicate from conflicting by it.
    Joined(String),
}

/// Which of the two topics an id was first met in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Met {
    Prediction,
    Label,
}

/// One id as a store gives it back.
#[derive(Clone, Debug)]
pub struct Kept {
    pub id: String,
    pub met: Met,
    /// When it was first met.
    pub time: i64,
    /// `None` where it was forgotten.
    pub entry: Option<Entry>,
}

/// Entries that were forgotten before their other half came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forgotten {
    pub labels: u64,
    pub predictions: u64,
}

/// One of the two topics.
#[derive(Debug)]
struct Side {
    /// Ids that came first here, by arrival, with their time.
    order: VecDeque<(i64, String)>,
    /// The latest timestamp met: this side's stream time.
    latest: i64,
}

/// One partition's state.
pub struct Join {
    bounds: Bounds,
    entries: HashMap<String, Entry>,
    predicted: Side,
    labelled: Side,
    /// What entries were before the open transaction touched them, in order.
    undo: Vec<(String, Option<Entry>, Met)>,
}

impl Join {
    pub fn new(bounds: Bounds) -> Self {
        let side = || Side { order: VecDeque::new(), latest: i64::MIN };
        Self { bounds, entries: HashMap::new(), predicted: side(), labelled: side(), undo: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes back what was kept of an id; what is given later takes the place of what was given before.
    pub fn restore(&mut self, Kept { id, met, time, entry }: Kept) {
        self.advance(met, time);
        match entry {
            Some(entry) => self.set(id, entry, met, time),
            None => drop(self.entries.remove(&id)),
        }
        self.undo.clear();
    }

    pub fn prediction(&mut self, prediction: Prediction, time: i64) -> Arrival {
        self.advance(Met::Prediction, time);
        match self.entries.get(&prediction.id).cloned() {
            Some(Entry::Labelled(label, labelled)) => self.join(prediction, time, &label, labelled),
            // The id came again: what is predicted last is what a label will be for.
            Some(Entry::Predicted(..)) => {
                self.set(prediction.id.clone(), Entry::Predicted(prediction, time), Met::Prediction, time);
                Arrival::Counted(Kind::Repeated)
            }
            Some(Entry::Joined(_)) => Arrival::Counted(Kind::Repeated),
            None => {
                self.set(prediction.id.clone(), Entry::Predicted(prediction, time), Met::Prediction, time);
                Arrival::Held
            }
        }
    }

    pub fn label(&mut self, id: &str, label: Label, time: i64) -> Arrival {
        self.advance(Met::Label, time);
        match self.entries.get(id).cloned() {
            Some(Entry::Predicted(prediction, predicted)) => self.join(prediction, predicted, &label, time),
            Some(Entry::Labelled(before, _)) => Arrival::Counted(agreement(&before.class, &label.class)),
            Some(Entry::Joined(class)) => Arrival::Counted(agreement(&class, &label.class)),
            None => {
                self.set(id.to_owned(), Entry::Labelled(label, time), Met::Label, time);
                Arrival::Held
            }
        }
    }

    fn join(&mut self, prediction: Prediction, predicted: i64, label: &Label, labelled: i64) -> Arrival {
        let Some(truth) = prediction.classes.iter().position(|class| *class == label.class) else {
            // An early label that cannot be right gives way to the prediction, which waits for a right one.
            self.set(prediction.id.clone(), Entry::Predicted(prediction, predicted), Met::Prediction, predicted);
            return Arrival::Counted(Kind::UnknownClass);
        };
        self.set(prediction.id.clone(), Entry::Joined(label.class.clone()), Met::Label, labelled);
        Arrival::Joined(Joined {
            prediction,
            truth: u32::try_from(truth).unwrap_or(u32::MAX),
            source: label.source.clone(),
            delay_ms: (labelled - predicted).max(0) as u64,
            early: labelled < predicted,
        })
    }

    fn side(&mut self, met: Met) -> &mut Side {
        match met {
            Met::Prediction => &mut self.predicted,
            Met::Label => &mut self.labelled,
        }
    }

    fn advance(&mut self, met: Met, time: i64) {
        let side = self.side(met);
        side.latest = side.latest.max(time);
    }

    fn set(&mut self, id: String, entry: Entry, met: Met, time: i64) {
        let before = self.entries.insert(id.clone(), entry);
        if before.is_none() {
            self.side(met).order.push_back((time, id.clone()));
        }
        self.undo.push((id, before, met));
    }

    /// Makes the open transaction's effects final and forgets what is too old or too much.
    pub fn commit(&mut self) -> Forgotten {
        self.undo.clear();
        let mut forgotten = Forgotten::default();
        let (predicted, labelled) = (&mut self.predicted, &mut self.labelled);
        let wait = self.bounds.wait_ms;
        let is_old =
            |side: &Side, other: i64| side.order.front().is_some_and(|(time, _)| other.saturating_sub(*time) > wait);
        loop {
            let too_many = predicted.order.len() + labelled.order.len() > self.bounds.entries;
            let first = |side: &Side| side.order.front().map_or(i64::MAX, |(time, _)| *time);
            let side = if is_old(predicted, labelled.latest) {
                &mut *predicted
            } else if is_old(labelled, predicted.latest) {
                &mut *labelled
            } else if too_many && first(predicted) <= first(labelled) {
                &mut *predicted
            } else if too_many {
                &mut *labelled
            } else {
                return forgotten;
            };
            let Some((_, id)) = side.order.pop_front() else { return forgotten };
            match self.entries.remove(&id) {
                Some(Entry::Labelled(..)) => forgotten.labels += 1,
                Some(Entry::Predicted(..)) => forgotten.predictions += 1,
                Some(Entry::Joined(_)) | None => {}
            }
        }
    }

    /// Undoes everything since the last commit.
    pub fn abort(&mut self) {
        for (id, before, met) in std::mem::take(&mut self.undo).into_iter().rev() {
            match before {
                Some(entry) => drop(self.entries.insert(id, entry)),
                None => {
                    self.entries.remove(&id);
                    // New ids stand at the back in the order in which they came.
                    self.side(met).order.pop_back();
                }
            }
        }
    }
}

fn agreement(before: &str, now: &str) -> Kind {
    if before == now { Kind::Duplicate } else { Kind::Conflicting }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> Join {
        Join::new(Bounds { wait_ms: 1_000, entries: 3 })
    }

    fn prediction(id: &str) -> Prediction {
        Prediction {
            id: id.into(),
            predicted: 1,
            scores: vec![0.25, 0.75],
            classes: vec!["cat".into(), "dog".into()],
            revision: Revision::new(7).unwrap(),
            origin: "pets/0@1".into(),
        }
    }

    fn label(class: &str) -> Label {
        Label { class: class.into(), source: "vet".into() }
    }

    #[test]
    fn a_label_meets_its_prediction_in_either_order() {
        let mut join = join();
        assert_eq!(join.prediction(prediction("a"), 100), Arrival::Held);
        let Arrival::Joined(joined) = join.label("a", label("cat"), 350) else { panic!("not joined") };
        assert_eq!((joined.truth, joined.delay_ms, joined.early), (0, 250, false));
        assert_eq!(join.label("b", label("dog"), 10), Arrival::Held);
        let Arrival::Joined(joined) = join.prediction(prediction("b"), 20) else { panic!("not joined") };
        assert_eq!((joined.truth, joined.delay_ms, joined.early), (1, 0, true));
    }

    #[test]
    fn a_second_label_is_counted_and_never_scored() {
        let mut join = join();
        join.prediction(prediction("a"), 0);
        join.label("a", label("cat"), 1);
        assert_eq!(join.label("a", label("cat"), 2), Arrival::Counted(Kind::Duplicate));
        assert_eq!(join.label("a", label("dog"), 3), Arrival::Counted(Kind::Conflicting));
        join.label("b", label("cat"), 4);
        assert_eq!(join.label("b", label("dog"), 5), Arrival::Counted(Kind::Conflicting));
    }

    #[test]
    fn a_class_that_the_model_does_not_know_is_counted_and_the_prediction_waits_on() {
        let mut join = join();
        join.prediction(prediction("a"), 0);
        assert_eq!(join.label("a", label("cow"), 1), Arrival::Counted(Kind::UnknownClass));
        assert!(matches!(join.label("a", label("cat"), 2), Arrival::Joined(_)));
    }

    #[test]
    fn what_waited_too_long_is_forgotten_and_counted_at_a_commit() {
        let mut join = join();
        join.label("early", label("cat"), 0);
        join.prediction(prediction("a"), 5);
        assert_eq!(join.commit(), Forgotten::default());
        join.prediction(prediction("b"), 1_001);
        assert_eq!(join.commit(), Forgotten { labels: 1, predictions: 0 });
        join.label("c", label("cat"), 1_006);
        assert_eq!(join.commit(), Forgotten { labels: 0, predictions: 1 });
        assert_eq!(join.len(), 2);
    }

    #[test]
    fn a_side_that_lags_behind_costs_the_other_nothing() {
        let mut join = join();
        join.label("a", label("cat"), 10);
        join.label("b", label("dog"), 60_000);
        assert_eq!(join.commit(), Forgotten::default());
        assert!(matches!(join.prediction(prediction("a"), 5), Arrival::Joined(_)));
    }

    #[test]
    fn entries_beyond_the_bound_are_forgotten_oldest_first() {
        let mut join = join();
        for id in ["a", "b", "c", "d", "e"] {
            join.prediction(prediction(id), 0);
        }
        assert_eq!(join.commit(), Forgotten { labels: 0, predictions: 2 });
        assert_eq!(join.label("a", label("cat"), 1), Arrival::Held);
        assert!(matches!(join.label("c", label("cat"), 1), Arrival::Joined(_)));
    }

    #[test]
    fn what_was_kept_is_met_as_if_it_had_just_come_and_forgotten_in_its_time() {
        let mut join = join();
        let kept = |id: &str, met, time, entry| Kept { id: id.into(), met, time, entry };
        join.restore(kept("a", Met::Prediction, 100, Some(Entry::Predicted(prediction("a"), 100))));
        join.restore(kept("b", Met::Label, 200, Some(Entry::Joined("dog".into()))));
        join.restore(kept("c", Met::Prediction, 300, Some(Entry::Predicted(prediction("c"), 300))));
        join.restore(kept("c", Met::Prediction, 300, None));
        join.abort();
        assert_eq!(join.label("b", label("dog"), 900), Arrival::Counted(Kind::Duplicate));
        assert_eq!(join.label("c", label("dog"), 900), Arrival::Held);
        let Arrival::Joined(joined) = join.label("a", label("cat"), 900) else { panic!("not joined") };
        assert_eq!(joined.delay_ms, 800);
        join.abort();
        join.label("late", label("cat"), 1_101);
        assert_eq!(join.commit(), Forgotten { labels: 0, predictions: 1 }, "a is too old for any label now");
    }

    #[test]
    fn an_abort_leaves_no_trace() {
        let mut join = join();
        join.prediction(prediction("a"), 0);
        join.commit();
        join.label("a", label("cat"), 1);
        join.label("b", label("cat"), 2);
        join.prediction(prediction("c"), 3);
        join.abort();
        assert_eq!((join.len(), join.predicted.order.len(), join.labelled.order.len()), (1, 1, 0));
        assert!(matches!(join.label("a", label("dog"), 1), Arrival::Joined(_)));
    }
}
