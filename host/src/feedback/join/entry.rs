//! What is known of an id, and what became of it.

use std::sync::Arc;

use serde::Serialize;

use crate::feedback::classes::Classes;
use crate::record::{Revision, Role};
use sandpiper_sandbox::wit::latest::Outcome;

/// A prediction as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    pub id: Arc<str>,
    /// Index into `classes`.
    pub predicted: u32,
    pub scores: Vec<f32>,
    pub classes: Classes,
    pub revision: Revision,
    /// Where the record that it is for was consumed.
    pub origin: String,
    /// Whose answer it is, and what made it, where it says so.
    pub role: Role,
    pub release: Option<Arc<str>>,
    /// What the other arm said of the same record, while a rollout was under way.
    pub other: Option<Box<OtherArm>>,
}

/// The answer that did not count.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherArm {
    /// Index into `classes`.
    pub predicted: u32,
    pub scores: Vec<f32>,
    pub classes: Classes,
    pub release: Arc<str>,
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
    /// A label whose prediction is on another partition: they do not meet.
    OtherPartition,
    /// No prediction came for the label while it was kept.
    Unknown,
    /// No label came for the prediction while it was kept.
    Expired,
    /// Forgotten before its time: there was no room for it.
    Evicted,
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
            Self::OtherPartition => "other-partition",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
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
    /// `None` where either has no time that can be believed.
    pub delay_ms: Option<u64>,
    /// The label is older than its prediction.
    pub early: bool,
}

impl Joined {
    pub fn outcome(&self) -> Outcome {
        self.outcome_of(self.prediction.predicted, &self.prediction.scores, self.truth)
    }

    /// The other arm's answer and the truth, as an index into its classes; none where it knows no such class.
    pub fn other(&self) -> Option<(&OtherArm, u32)> {
        let other = self.prediction.other.as_deref()?;
        let class = self.prediction.classes.get(self.truth as usize)?;
        let truth = other.classes.iter().position(|known| known == class)?;
        Some((other, u32::try_from(truth).ok()?))
    }

    pub fn other_outcome(&self) -> Option<Outcome> {
        self.other().map(|(other, truth)| self.outcome_of(other.predicted, &other.scores, truth))
    }

    fn outcome_of(&self, predicted: u32, scores: &[f32], truth: u32) -> Outcome {
        Outcome {
            id: self.prediction.id.to_string(),
            predicted,
            scores: scores.to_vec(),
            truth,
            source: self.source.clone(),
            delay_ms: self.delay_ms.unwrap_or_default(),
            revision: self.prediction.revision.get(),
        }
    }
}

/// What is known of one id. Times are the records', where they can be believed.
#[derive(Clone, Debug)]
pub enum Entry {
    Predicted {
        prediction: Prediction,
        time: Option<i64>,
    },
    Labelled {
        label: Label,
        time: Option<i64>,
        /// It was counted: its prediction is on another partition.
        elsewhere: bool,
    },
    /// Joined, with that class: a later label is told duplicate from conflicting by it.
    Joined(Box<str>),
}

/// An entry's places in the map, which may be half empty, and in the order, and the id's own header.
const PLACE: usize = 2 * size_of::<(Arc<str>, Entry)>() + 2 * size_of::<(i64, Arc<str>)>() + 32;

impl Entry {
    /// Memory of the entry under that id, about.
    pub fn size(&self, id: &str) -> usize {
        let own = match self {
            Self::Predicted { prediction, .. } => {
                let other = prediction.other.as_deref();
                let other =
                    other.map_or(0, |other| 4 * other.scores.len() + other.release.len() + size_of::<OtherArm>());
                let release = prediction.release.as_deref().map_or(0, str::len);
                4 * prediction.scores.len() + prediction.origin.len() + release + other
            }
            Self::Labelled { label, .. } => label.class.len() + label.source.len(),
            Self::Joined(class) => class.len(),
        };
        PLACE + id.len() + own
    }

    pub fn is_label(&self) -> bool {
        matches!(self, Self::Labelled { .. })
    }
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
    pub id: Arc<str>,
    pub met: Met,
    /// What time it was on that side when it was first met.
    pub time: i64,
    /// `None` where it was forgotten.
    pub entry: Option<Entry>,
}
