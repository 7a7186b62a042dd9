//! What a backtest found out: counts, and the first records that differ. All of it is bounded, however long the range.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

use super::arm::{Emitted, Fate};
use super::labels;
use crate::record::output::Counts;
use crate::record::{Batch, Revision};

/// Pairs of classes that are counted each; what goes beyond them is counted as one.
const CELLS: usize = 10_000;
/// Characters of a value, a key or a message that is shown.
const SHOWN: usize = 300;

/// What ran on one side.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Of the deployment that it is, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Stage and release.
    pub releases: BTreeMap<String, String>,
}

/// A partition's share of the range; `to` is the first offset that is not of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// Share of the labels that each predicted; absent where none was scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    pub champion: f64,
    pub candidate: f64,
}

/// Records that only one of the two rejects, by stage and reason, and how many both do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rejections {
    #[serde(serialize_with = "by_reason")]
    pub champion_only: Counts,
    #[serde(serialize_with = "by_reason")]
    pub candidate_only: Counts,
    pub both: u64,
}

fn by_reason<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    counts.dead_letters.serialize(serializer)
}

/// Records of which only one of the two makes nothing, without rejecting them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Drops {
    pub champion_only: u64,
    pub candidate_only: u64,
    pub both: u64,
}

/// Champion × candidate, by class.
#[derive(Clone, Debug, Default)]
pub(super) struct Matrix {
    cells: HashMap<(u32, u32), u64>,
    beyond: u64,
}

impl Matrix {
    fn count(&mut self, pair: (u32, u32)) {
        if let Some(cell) = self.cells.get_mut(&pair) {
            *cell += 1;
        } else if self.cells.len() < CELLS {
            self.cells.insert(pair, 1);
        } else {
            self.beyond += 1;
        }
    }

    fn named(&self, classes: &[String]) -> BTreeMap<String, BTreeMap<String, u64>> {
        let name = |class: u32| classes.get(class as usize).cloned().unwrap_or_default();
        let mut named: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for ((champion, candidate), count) in &self.cells {
            named.entry(name(*champion)).or_default().insert(name(*candidate), *count);
        }
        named
    }
}

/// Records a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Speed {
    /// Of each side's stages alone.
    pub champion: f64,
    pub candidate: f64,
    /// Of the whole: reading, both sides and comparing.
    pub overall: f64,
    pub seconds: f64,
}

/// What was published.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    pub topic: String,
    pub corrects: Revision,
    pub records: u64,
    pub transactions: u64,
}

/// What a record came to on one side, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    Predicted(Vec<Predicted>),
    /// Values, or null for a tombstone.
    Emitted(Vec<Option<String>>),
    Rejected {
        reason: String,
        message: String,
    },
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Predicted {
    pub class: String,
    pub confidence: f32,
}

/// A record of which the two make different things.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `iris.measurements/3@1842`.
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub value: Option<String>,
    pub champion: Shown,
    pub candidate: Shown,
    /// The truth, where a label has told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub pipeline: String,
    pub range: Vec<Span>,
    pub champion: Side,
    pub candidate: Side,
    pub records: u64,
    /// Records of which both made something, and those among them of which they made the same.
    pub both_emitted: u64,
    pub agreed: u64,
    /// `agreed` of `both_emitted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Champion's class → candidate's → predictions; absent for transforms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<BTreeMap<String, BTreeMap<String, u64>>>,
    /// Predictions of further pairs of classes.
    #[serde(skip_serializing_if = "is_zero")]
    pub confusion_beyond: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<labels::Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    pub rejected: Rejections,
    pub dropped: Drops,
    pub differing: u64,
    /// The first of those.
    pub differences: Vec<Difference>,
    pub speed: Speed,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// False where it was interrupted: then all of it is of the records that were read so far.
    pub complete: bool,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The classes of both sides, numbered once.
pub(super) struct Classes {
    pub(super) names: Vec<String>,
    /// The number of each side's label.
    champion: Vec<u32>,
    candidate: Vec<u32>,
    /// Whether both sides know a class.
    common: Vec<bool>,
}

impl Classes {
    pub(super) fn new(champion: &[String], candidate: &[String]) -> Self {
        let mut names = champion.to_vec();
        names.extend(candidate.iter().filter(|class| !champion.contains(class)).cloned());
        let index: HashMap<&String, u32> = names.iter().zip(0..).collect();
        let numbers = |classes: &[String]| classes.iter().filter_map(|class| index.get(class).copied()).collect();
        let (ours, theirs) = (numbers(champion), numbers(candidate));
        let common = names.iter().map(|class| champion.contains(class) && candidate.contains(class)).collect();
        Self { champion: ours, candidate: theirs, common, names }
    }

    fn name(&self, class: u32) -> String {
        self.names.get(class as usize).cloned().unwrap_or_default()
    }
}

/// Counts records as they are compared.
pub(super) struct Tally {
    classes: Option<Classes>,
    /// How many differences are kept.
    show: usize,
    pub(super) records: u64,
    both_emitted: u64,
    agreed: u64,
    matrix: Matrix,
    scored: u64,
    correct: (u64, u64),
    unknown_class: u64,
    rejected: Rejections,
    dropped: Drops,
    differing: u64,
    differences: Vec<Difference>,
}

impl Tally {
    pub(super) fn new(classes: Option<Classes>, show: usize) -> Self {
        Self {
            classes,
            show,
            records: 0,
            both_emitted: 0,
            agreed: 0,
            matrix: Matrix::default(),
            scored: 0,
            correct: (0, 0),
            unknown_class: 0,
            rejected: Rejections::default(),
            dropped: Drops::default(),
            differing: 0,
            differences: Vec::new(),
        }
    }

    /// What both made of a row. `label` answers the truth about an id.
    pub(super) fn compare(
        &mut self,
        batch: &Batch,
        row: usize,
        champion: Fate<'_>,
        candidate: Fate<'_>,
        label: &mut impl FnMut(&str) -> Option<Option<u32>>,
    ) {
        self.records += 1;
        let mut truth = None;
        let same = match (champion, candidate) {
            (Fate::Emitted(one), Fate::Emitted(two)) => {
                self.both_emitted += 1;
                let same = match &self.classes {
                    None => one.equals(two),
                    Some(_) => self.answers(one, two, &mut truth, label) && one.equals_beside_predictions(two),
                };
                self.agreed += u64::from(same);
                same
            }
            (Fate::Rejected(_), Fate::Rejected(_)) => {
                self.rejected.both += 1;
                true
            }
            (Fate::Dropped, Fate::Dropped) => {
                self.dropped.both += 1;
                true
            }
            _ => false,
        };
        if let (Fate::Rejected(rejected), Fate::Emitted(_) | Fate::Dropped) = (champion, candidate) {
            self.rejected.champion_only.dead_letter(&rejected.reason());
        }
        if let (Fate::Emitted(_) | Fate::Dropped, Fate::Rejected(rejected)) = (champion, candidate) {
            self.rejected.candidate_only.dead_letter(&rejected.reason());
        }
        self.dropped.champion_only += u64::from(matches!((champion, candidate), (Fate::Dropped, Fate::Emitted(_))));
        self.dropped.candidate_only += u64::from(matches!((champion, candidate), (Fate::Emitted(_), Fate::Dropped)));
        if same {
            return;
        }
        self.differing += 1;
        if self.differences.len() < self.show {
            self.differences.extend(self.difference(batch, row, champion, candidate, truth));
        }
    }

    /// Counts the predictions of both, and whether they are of the same classes.
    fn answers(
        &mut self,
        champion: Emitted<'_>,
        candidate: Emitted<'_>,
        truth: &mut Option<u32>,
        label: &mut impl FnMut(&str) -> Option<Option<u32>>,
    ) -> bool {
        let Some(classes) = &self.classes else { return true };
        let (mut ours, mut theirs, mut same) = (champion.predictions(), candidate.predictions(), true);
        loop {
            let (one, two) = match (ours.next(), theirs.next()) {
                (Some(one), Some(two)) => (one, two),
                (None, None) => return same,
                _ => return false,
            };
            let number = |of: &[u32], label: u32| of.get(label as usize).copied().unwrap_or(u32::MAX);
            let pair = (number(&classes.champion, one.label), number(&classes.candidate, two.label));
            same &= pair.0 == pair.1;
            self.matrix.count(pair);
            match label(one.id) {
                None => {}
                Some(Some(class)) if classes.common.get(class as usize) == Some(&true) => {
                    self.scored += 1;
                    self.correct.0 += u64::from(pair.0 == class);
                    self.correct.1 += u64::from(pair.1 == class);
                    *truth = Some(class);
                }
                Some(class) => {
                    self.unknown_class += 1;
                    *truth = class;
                }
            }
        }
    }

    fn difference(
        &self,
        batch: &Batch,
        row: usize,
        champion: Fate<'_>,
        candidate: Fate<'_>,
        truth: Option<u32>,
    ) -> Option<Difference> {
        let origin = batch.rows.get(row)?.origin;
        let id = [champion, candidate].into_iter().find_map(|fate| match fate {
            Fate::Emitted(emitted) if self.classes.is_some() => {
                emitted.predictions().next().map(|given| clipped(given.id))
            }
            _ => None,
        });
        let names = |side: fn(&Classes) -> &[u32]| self.classes.as_ref().map(|classes| (classes, side(classes)));
        Some(Difference {
            at: format!("{}/{}@{}", batch.rows.topic(origin), origin.partition, origin.offset),
            id,
            value: batch.value(row).map(text),
            champion: shown(champion, names(|classes| &classes.champion)),
            candidate: shown(candidate, names(|classes| &classes.candidate)),
            label: truth.zip(self.classes.as_ref()).map(|(class, classes)| classes.name(class)),
        })
    }

    /// Everything that was counted; what is not of its counting is filled in by the caller.
    pub(super) fn finish(self, pipeline: &str, champion: Side, candidate: Side) -> Findings {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let accuracy = share(self.correct.0, self.scored).zip(share(self.correct.1, self.scored));
        Findings {
            pipeline: pipeline.to_owned(),
            range: Vec::new(),
            champion,
            candidate,
            records: self.records,
            both_emitted: self.both_emitted,
            agreed: self.agreed,
            agreement: share(self.agreed, self.both_emitted),
            confusion: self.classes.as_ref().map(|classes| self.matrix.named(&classes.names)),
            confusion_beyond: self.matrix.beyond,
            labels: None,
            accuracy: accuracy.map(|(champion, candidate)| Accuracy { champion, candidate }),
            rejected: self.rejected,
            dropped: self.dropped,
            differing: self.differing,
            differences: self.differences,
            speed: Speed::default(),
            published: None,
            complete: true,
        }
    }

    /// Joined labels: scored, and of a class that one of the two does not know.
    pub(super) fn joined(&self) -> (u64, u64) {
        (self.scored, self.unknown_class)
    }
}

fn shown(fate: Fate<'_>, classes: Option<(&Classes, &[u32])>) -> Shown {
    match (fate, classes) {
        (Fate::Dropped, _) => Shown::Dropped,
        (Fate::Rejected(rejected), _) => {
            Shown::Rejected { reason: rejected.reason(), message: clipped(&rejected.message()) }
        }
        (Fate::Emitted(emitted), Some((classes, numbers))) => Shown::Predicted(
            (emitted.predictions())
                .map(|given| {
                    let number = numbers.get(given.label as usize).copied().unwrap_or(u32::MAX);
                    Predicted { class: classes.name(number), confidence: given.confidence }
                })
                .collect(),
        ),
        (Fate::Emitted(emitted), None) => {
            Shown::Emitted(emitted.records.iter().map(|output| emitted.value(output).map(text)).collect())
        }
    }
}

fn text(bytes: &[u8]) -> String {
    // Four bytes a character at most: what is not shown need not be looked at.
    let start = bytes.get(..4 * SHOWN).unwrap_or(bytes);
    clipped(&String::from_utf8_lossy(start))
}

fn clipped(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_classes_beyond_the_bound_are_counted_as_one() {
        let mut matrix = Matrix::default();
        for at in 0..20_000 {
            matrix.count((at, 0));
            matrix.count((0, 0));
        }
        assert_eq!((matrix.cells.len(), matrix.beyond), (CELLS, 10_000));
        assert_eq!(matrix.cells[&(0, 0)], 20_001);
    }

    #[test]
    fn a_class_has_one_number_wherever_each_side_has_it() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let classes = Classes::new(&names(&["cat", "dog"]), &names(&["cow", "dog", "cat"]));
        assert_eq!(classes.names, ["cat", "dog", "cow"]);
        assert_eq!((classes.champion, classes.candidate), (vec![0, 1], vec![2, 1, 0]));
        assert_eq!(classes.common, [true, true, false]);
    }
}
