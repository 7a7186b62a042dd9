//! Labels of the range's records, read before its predictions are: what is kept of each is a number for its id and one for its
//! class, up to a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::super::wait::{PATIENCE, Wait};
use super::input::{self, Piece};
use super::range::Part;
use super::{Stage, Tell};
use crate::config::plan::{Feedback, Plan};
use crate::feedback::message;
use crate::kafka::properties;
use crate::kafka::reader::{Bound, Next, Partitions, ReadFrom, Reader};
use crate::record::id;

/// What one label takes in memory, while the map grows.
const LABEL: usize = 96;
/// How often a wait for records is interrupted.
const STEP: Duration = Duration::from_millis(100);

/// What became of the labels that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub read: u64,
    /// Without an id or a class that can be read.
    pub malformed: u64,
    /// A label for the same id came before: the first counts.
    pub repeated: u64,
    /// Not joined: so many are not kept.
    pub beyond_bound: u64,
    /// Joined, and of a class that one of the two does not know: nothing is scored.
    pub unknown_class: u64,
    /// Joined and scored, for both.
    pub scored: u64,
}

/// Labels by id.
pub(super) struct Labels {
    /// Two hashes make one that no two ids share by chance.
    hashers: (RandomState, RandomState),
    classes: HashMap<u128, Option<u32>>,
    most: usize,
    pub(super) counts: Counts,
}

impl Labels {
    pub(super) fn new(max_bytes: usize) -> Self {
        let hashers = (RandomState::new(), RandomState::new());
        Self { hashers, classes: HashMap::new(), most: (max_bytes / LABEL).max(1), counts: Counts::default() }
    }

    fn key(&self, id: &str) -> u128 {
        let (one, other) = (self.hashers.0.hash_one(id), self.hashers.1.hash_one(id));
        (u128::from(one) << 64) | u128::from(other)
    }

    /// Notes a label of a class by its number; `None` is one that nobody knows.
    pub(super) fn note(&mut self, id: &str, class: Option<u32>) {
        let key = self.key(id);
        if self.classes.contains_key(&key) {
            self.counts.repeated += 1;
        } else if self.classes.len() >= self.most {
            self.counts.beyond_bound += 1;
        } else {
            self.classes.insert(key, class);
        }
    }

    /// The label of that id, once: a label judges one record. `Some(None)` is a label of a class that nobody knows.
    pub(super) fn take(&mut self, id: &str) -> Option<Option<u32>> {
        if self.classes.is_empty() {
            return None;
        }
        let key = self.key(id);
        self.classes.remove(&key)
    }

    /// Reads what may be for the range: what was written from `wait` before its first record on, and up to `wait` behind its
    /// last where that is a time. `class` numbers a class by its name. False when `tell` ended it.
    ///
    /// # Errors
    /// When the range or the labels cannot be read.
    pub(super) fn read(
        &mut self,
        plan: &Plan,
        feedback: &Feedback,
        parts: &[Part],
        class: impl Fn(&str) -> Option<u32>,
        tell: &mut Tell<'_>,
    ) -> Result<bool> {
        let wait = i64::try_from(feedback.wait.as_millis()).unwrap_or(i64::MAX);
        let from = match first_time(plan, parts)? {
            Some(time) => ReadFrom::Since(time.saturating_sub(wait).max(0)),
            None => ReadFrom::Beginning,
        };
        let last = |part: &Part| match part.to {
            Bound::Time(time) => Some(time.saturating_add(wait)),
            Bound::Outermost | Bound::Offsets(_) => None,
        };
        let until = parts.iter().map(last).collect::<Option<Vec<i64>>>().and_then(|times| times.into_iter().max());
        let properties = properties::reader(plan, "backtest");
        let reader = Reader::open(&properties, &feedback.labels, &Partitions::All, &from, PATIENCE)?;
        for piece in input::read(plan, vec![(feedback.labels.clone(), reader)])? {
            match piece? {
                Piece::Waiting(text) => tell.waiting(&text),
                Piece::Batch(batch, progress) => {
                    for row in 0..batch.len() {
                        let late = batch.rows.get(row).and_then(|facts| facts.timestamp).zip(until);
                        if late.is_some_and(|(time, until)| time > until) {
                            continue;
                        }
                        self.counts.read += 1;
                        let label = message::label(&batch, row, feedback.class.as_ref());
                        match (id::of(&feedback.id, &batch, row), label) {
                            (Ok(id), Ok(label)) => self.note(&id, class(&label.class)),
                            _ => self.counts.malformed += 1,
                        }
                    }
                    if !tell.progress(Stage::Labels, progress) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// The time of the oldest of the first records of the range's partitions; `None` where one has none.
fn first_time(plan: &Plan, parts: &[Part]) -> Result<Option<i64>> {
    let mut oldest: Option<i64> = None;
    for part in parts {
        let mut reader =
            Reader::open_range(&properties::reader(plan, "backtest"), &part.topic, &part.from, &part.to, PATIENCE)?;
        let mut wait = Wait::new(plan, &part.topic);
        let mut unseen: Vec<i32> =
            reader.positions().filter(|(_, from, to)| from < to).map(|(partition, ..)| partition).collect();
        while !unseen.is_empty() {
            match reader.next(STEP)? {
                Next::Record(record) => {
                    wait.note_record();
                    let Some(at) = unseen.iter().position(|partition| *partition == record.partition) else { continue };
                    unseen.swap_remove(at);
                    let Some(time) = record.timestamp else { return Ok(None) };
                    oldest = Some(oldest.map_or(time, |oldest| oldest.min(time)));
                }
                // A partition without a record is one without a first.
                Next::End => break,
                Next::Trouble(text) => wait.note_trouble(text),
                Next::Idle => {
                    let mut open = None;
                    wait.note_silence(&reader, &mut |text: &str| open = Some(text.to_owned()))?;
                    if open.is_some() && oldest.is_some() {
                        break;
                    }
                }
            }
        }
    }
    Ok(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_judges_one_record_and_the_first_of_several_counts() {
        let mut labels = Labels::new(1 << 20);
        labels.note("a", Some(1));
        labels.note("a", Some(2));
        labels.note("b", None);
        assert_eq!((labels.take("a"), labels.take("a")), (Some(Some(1)), None));
        assert_eq!((labels.take("b"), labels.take("c")), (Some(None), None));
        assert_eq!(labels.counts.repeated, 1);
    }

    #[test]
    fn labels_beyond_the_bound_are_counted_and_not_kept() {
        let mut labels = Labels::new(3 * LABEL);
        (0..10).for_each(|at| labels.note(&format!("id-{at}"), Some(0)));
        assert_eq!((labels.classes.len(), labels.counts.beyond_bound), (3, 7));
        assert_eq!((labels.take("id-2"), labels.take("id-3")), (Some(Some(0)), None));
    }
}
