//! How well each revision predicts, as far as labels have come: prequential, each prediction scored once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::classes::Classes;
use super::join::{Joined, Kind};
use crate::config::memory::MATRICES;
use crate::record::Revision;
use sandpiper_sandbox::wit::latest::Judgement;

/// Revisions that figures are kept of; beyond them the one with the fewest outcomes goes.
const REVISIONS: usize = 1_000;
/// Releases, likewise.
const RELEASES: usize = 100;
/// Of the memory that all confusion matrices have together, so much is one's, at most: 10,000 pairs of short names. Further pairs
/// count in the revision's sums alone.
const MATRIX: usize = MATRICES / 4;
/// What a pair of classes takes beside their names, about.
const CELL: usize = 80;
/// Texts of unknown classes that are shown, and characters of each.
const TEXTS: usize = 8;
const TEXT: usize = 64;

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
    /// Whether outcomes are missing there, since there was no room for them.
    pub is_partial: bool,
    /// Memory of the matrix, about.
    #[serde(skip)]
    matrix_bytes: usize,
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

    /// Adds one outcome; an answer is its class, its probabilities and its classes.
    fn score(&mut self, (predicted, scores, classes): (u32, &[f32], &Classes), truth: u32, judgement: &Judgement) {
        if !judgement.accepted {
            self.refused += 1;
            return;
        }
        let class = |index: u32| classes.get(index as usize).cloned().unwrap_or_default();
        let probability = scores.get(truth as usize).copied().unwrap_or_default();
        self.scored += 1;
        self.correct += u64::from(predicted == truth);
        self.log_loss_sum -= f64::from(probability).clamp(1e-15, 1.0).ln();
        self.loss_sum += judgement.loss * judgement.weight;
        self.weight_sum += judgement.weight;
        self.confuse(&class(truth), &class(predicted), 1);
    }

    fn add(&mut self, other: &Self) {
        self.scored += other.scored;
        self.correct += other.correct;
        self.log_loss_sum += other.log_loss_sum;
        self.loss_sum += other.loss_sum;
        self.weight_sum += other.weight_sum;
        self.refused += other.refused;
        self.is_partial |= other.is_partial;
        for (truth, row) in &other.confusion {
            for (predicted, count) in row {
                self.confuse(truth, predicted, *count);
            }
        }
    }

    fn confuse(&mut self, truth: &str, predicted: &str, count: u64) {
        if let Some(known) = self.confusion.get_mut(truth).and_then(|row| row.get_mut(predicted)) {
            *known += count;
            return;
        }
        let bytes = CELL + truth.len() + predicted.len();
        if self.matrix_bytes + bytes > MATRIX {
            self.is_partial = true;
            return;
        }
        self.matrix_bytes += bytes;
        self.confusion.entry(truth.to_owned()).or_default().insert(predicted.to_owned(), count);
    }

    fn forget_loss(&mut self) {
        (self.loss_sum, self.weight_sum) = (0.0, 0.0);
    }

    fn forget_matrix(&mut self) {
        self.confusion.clear();
        (self.matrix_bytes, self.is_partial) = (0, true);
    }
}

/// What a feedback loop has seen. Clones share what none of them changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub labels: BTreeMap<Kind, u64>,
    pub by_revision: BTreeMap<Revision, Arc<Release>>,
    /// By the digest of what answered, whether or not its answer counted: two arms of a rollout are judged by the same labels.
    pub by_release: BTreeMap<Arc<str>, Arc<Release>>,
    /// Labels that judged both arms, by the revision of the rollout's step.
    pub pairs: BTreeMap<Revision, u64>,
    /// Ids that are kept.
    pub waiting: u64,
    /// Memory of what is kept, about.
    pub bytes: u64,
    pub clocks: Clocks,
    pub unknown: UnknownClasses,
    /// How labels and predictions come to stand on different partitions, where they do.
    pub misplaced: Option<String>,
}

/// Records whose time was not taken as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clocks {
    /// Ahead of this machine's clock by more than a minute, or of its stream by more than `[feedback] wait`.
    pub ahead: u64,
    /// Without a time, or with one before the year 2000.
    pub missing: u64,
    /// The last one that was ahead: where it stands and by how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl Clocks {
    pub fn is_right(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        self.ahead += other.ahead;
        self.missing += other.missing;
        if other.last.is_some() {
            self.last.clone_from(&other.last);
        }
    }
}

/// Labels' classes that the model does not know, as they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnknownClasses {
    /// The last ones, each once, in quotes, escaped and cut.
    pub last: Vec<String>,
    /// Of the model that did not know the last one, its first classes.
    pub known: Vec<String>,
}

impl UnknownClasses {
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    pub fn note(&mut self, class: &str, classes: &Classes) {
        self.known = classes.iter().take(TEXTS).map(|class| quoted(class)).collect();
        self.push(quoted(class));
    }

    fn push(&mut self, text: String) {
        self.last.retain(|known| *known != text);
        self.last.push(text);
        let surplus = self.last.len().saturating_sub(TEXTS);
        self.last.drain(..surplus);
    }

    fn add(&mut self, other: &Self) {
        other.last.iter().for_each(|text| self.push(text.clone()));
        if !other.known.is_empty() {
            self.known.clone_from(&other.known);
        }
    }
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(TEXT).collect();
    let cut = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{cut}")
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

    /// `other` is what the scorer says of the other arm, where both answered.
    pub fn score(&mut self, joined: &Joined, judgement: &Judgement, other: Option<&Judgement>) {
        self.count(if joined.early { Kind::Early } else { Kind::Matched });
        let prediction = &joined.prediction;
        let answer = (prediction.predicted, &prediction.scores[..], &prediction.classes);
        Arc::make_mut(self.by_revision.entry(prediction.revision).or_default()).score(answer, joined.truth, judgement);
        if let Some(release) = &prediction.release {
            Arc::make_mut(self.by_release.entry(release.clone()).or_default()).score(answer, joined.truth, judgement);
        }
        if let (Some((arm, truth)), Some(theirs)) = (joined.other(), other) {
            let answer = (arm.predicted, &arm.scores[..], &arm.classes);
            Arc::make_mut(self.by_release.entry(arm.release.clone()).or_default()).score(answer, truth, theirs);
            *self.pairs.entry(prediction.revision).or_default() += u64::from(judgement.accepted && theirs.accepted);
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.labels {
            self.add_kind(*kind, *count);
        }
        for (revision, release) in &other.by_revision {
            Arc::make_mut(self.by_revision.entry(*revision).or_default()).add(release);
        }
        // Never what was judged just now: a new release has the fewest outcomes.
        while self.by_revision.len() > REVISIONS {
            let idle = self.by_revision.iter().filter(|(revision, _)| !other.by_revision.contains_key(revision));
            let fewest = idle.min_by_key(|(_, release)| release.scored).map(|(revision, _)| *revision);
            let Some(fewest) = fewest else { break };
            self.by_revision.remove(&fewest);
        }
        for (digest, release) in &other.by_release {
            Arc::make_mut(self.by_release.entry(digest.clone()).or_default()).add(release);
        }
        while self.by_release.len() > RELEASES {
            let idle = self.by_release.iter().filter(|(digest, _)| !other.by_release.contains_key(*digest));
            let fewest = idle.min_by_key(|(_, release)| release.scored).map(|(digest, _)| digest.clone());
            let Some(fewest) = fewest else { break };
            self.by_release.remove(&fewest);
        }
        for (revision, pairs) in &other.pairs {
            *self.pairs.entry(*revision).or_default() += pairs;
        }
        while self.pairs.len() > REVISIONS {
            self.pairs.pop_first();
        }
        self.forget_matrices(other);
        self.clocks.add(&other.clocks);
        self.unknown.add(&other.unknown);
    }

    /// Another scorer judges from now on: the losses of two have no mean in common.
    pub fn forget_losses(&mut self) {
        let all = self.by_revision.values_mut().chain(self.by_release.values_mut());
        all.for_each(|release| Arc::make_mut(release).forget_loss());
    }

    /// Keeps all confusion matrices within their bound: those go that nothing was added to now, of the fewest outcomes first.
    fn forget_matrices(&mut self, used: &Self) {
        let kept = |tally: &Self| -> usize {
            tally.by_revision.values().chain(tally.by_release.values()).map(|release| release.matrix_bytes).sum()
        };
        while kept(self) > MATRICES {
            let of_revisions = (self.by_revision.iter_mut())
                .map(|(revision, release)| (used.by_revision.contains_key(revision), release));
            let of_releases =
                self.by_release.iter_mut().map(|(digest, release)| (used.by_release.contains_key(digest), release));
            let all = of_revisions.chain(of_releases).filter(|(_, release)| release.matrix_bytes > 0);
            let Some((_, least)) = all.min_by_key(|(is_used, release)| (*is_used, release.scored)) else { return };
            tracing::info!(scored = least.scored, "a confusion matrix is forgotten, to make room for others");
            Arc::make_mut(least).forget_matrix();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    /// What came of one transaction: each of so many classes taken for each other once.
    fn judged(number: u64, classes: usize) -> Tally {
        let mut release = Release::default();
        for truth in 0..classes {
            for predicted in 0..classes {
                release.confuse(&format!("class {truth}"), &format!("class {predicted}"), 1);
                release.scored += 1;
            }
        }
        Tally { by_revision: BTreeMap::from([(revision(number), Arc::new(release))]), ..Tally::default() }
    }

    fn cells(release: &Release) -> usize {
        release.confusion.values().map(BTreeMap::len).sum()
    }

    #[test]
    fn all_confusion_matrices_together_have_one_bound_and_those_that_are_not_used_go_first() {
        let mut tally = Tally::default();
        tally.add(&judged(1, 90));
        tally.add(&judged(1, 90));
        for number in 2..=200 {
            tally.add(&judged(number, 90));
            let bytes: usize = (tally.by_revision.values().flat_map(|release| &release.confusion))
                .flat_map(|(truth, row)| row.keys().map(|predicted| CELL + truth.len() + predicted.len()))
                .sum();
            assert!(bytes <= MATRICES, "{bytes} bytes after {number} deployments");
            let newest = &tally.by_revision[&revision(number)];
            assert!(!newest.is_partial && cells(newest) == 8_100, "what is labelled now is whole");
        }
        let forgotten = &tally.by_revision[&revision(2)];
        assert!(forgotten.is_partial && forgotten.confusion.is_empty(), "it says that something is missing");
        assert_eq!(forgotten.scored, 8_100, "its sums stay");
        assert!(!tally.by_revision[&revision(1)].is_partial, "it has the most outcomes");
    }

    #[test]
    fn a_matrix_that_is_too_large_for_one_revision_says_that_it_is_partial() {
        let tally = judged(1, 300);
        let release = &tally.by_revision[&revision(1)];
        assert!(release.is_partial && cells(release) < 20_000 && release.scored == 90_000, "{} cells", cells(release));
    }

    #[test]
    fn what_is_published_shares_the_figures_that_do_not_change() {
        let mut tally = Tally::default();
        tally.add(&judged(1, 2));
        tally.add(&judged(2, 2));
        let published = tally.clone();
        tally.add(&judged(2, 2));
        let shares =
            |number| Arc::ptr_eq(&tally.by_revision[&revision(number)], &published.by_revision[&revision(number)]);
        assert!(shares(1) && !shares(2));
        assert_eq!((published.by_revision[&revision(2)].scored, tally.by_revision[&revision(2)].scored), (4, 8));
    }
}
