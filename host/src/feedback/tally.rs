//! How well each revision predicts, as far as labels have come: prequential, each prediction scored once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;

use super::join::{Joined, Kind};
use crate::record::Revision;
use sandpiper_sandbox::wit::latest::Judgement;

/// One revision's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Release {
    /// Accepted outcomes.
    pub scored: u64,
    pub correct: u64,
    /// Sum of −ln of the true class's probability, clamped to 1e-15 (nats).
    pub log_loss_sum: f64,
    /// Sum of the scorer's loss × weight.
    pub loss_sum: f64,
    pub weight_sum: f64,
    /// Outcomes that the scorer did not accept.
    pub refused: u64,
    /// Truth → predicted → count.
    pub confusion: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Release {
    /// Share of correct predictions; none before the first label.
    pub fn accuracy(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.correct as f64 / self.scored as f64)
    }

    /// Mean logarithmic loss in nats.
    pub fn log_loss(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.log_loss_sum / self.scored as f64)
    }

    /// Mean of the scorer's loss, weighted.
    pub fn loss(&self) -> Option<f64> {
        (self.weight_sum > 0.0).then(|| self.loss_sum / self.weight_sum)
    }

    fn add(&mut self, other: &Self) {
        self.scored += other.scored;
        self.correct += other.correct;
        self.log_loss_sum += other.log_loss_sum;
        self.loss_sum += other.loss_sum;
        self.weight_sum += other.weight_sum;
        self.refused += other.refused;
        for (truth, row) in &other.confusion {
            let ours = self.confusion.entry(truth.clone()).or_default();
            for (predicted, count) in row {
                *ours.entry(predicted.clone()).or_default() += count;
            }
        }
    }
}

/// What a feedback loop has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub labels: BTreeMap<Kind, u64>,
    pub by_revision: BTreeMap<Revision, Release>,
    /// Ids that are kept.
    pub waiting: u64,
}

/// Where a feedback loop publishes its tally, as it is committed, and everybody else reads it.
#[derive(Clone, Debug, Default)]
pub struct Figures(Arc<ArcSwap<Tally>>);

impl Figures {
    pub fn publish(&self, tally: Tally) {
        self.0.store(Arc::new(tally));
    }

    pub fn latest(&self) -> Arc<Tally> {
        self.0.load_full()
    }
}

impl Tally {
    pub fn count(&mut self, kind: Kind) {
        self.add_kind(kind, 1);
    }

    pub fn add_kind(&mut self, kind: Kind, count: u64) {
        if count > 0 {
            *self.labels.entry(kind).or_default() += count;
        }
    }

    pub fn score(&mut self, joined: &Joined, judgement: &Judgement) {
        self.count(if joined.early { Kind::Early } else { Kind::Matched });
        let prediction = &joined.prediction;
        let release = self.by_revision.entry(prediction.revision).or_default();
        if !judgement.accepted {
            release.refused += 1;
            return;
        }
        let class = |index: u32| prediction.classes.get(index as usize).cloned().unwrap_or_default();
        let probability = prediction.scores.get(joined.truth as usize).copied().unwrap_or_default();
        release.scored += 1;
        release.correct += u64::from(prediction.predicted == joined.truth);
        release.log_loss_sum -= f64::from(probability).clamp(1e-15, 1.0).ln();
        release.loss_sum += judgement.loss * judgement.weight;
        release.weight_sum += judgement.weight;
        *release.confusion.entry(class(joined.truth)).or_default().entry(class(prediction.predicted)).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.labels {
            self.add_kind(*kind, *count);
        }
        for (revision, release) in &other.by_revision {
            self.by_revision.entry(*revision).or_default().add(release);
        }
        self.waiting += other.waiting;
    }
}
