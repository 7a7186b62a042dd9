//! Which offsets of one input partition which revision processed, as runs: from the first to the last record of a revision
//! with none of another between. Records come in any order; what counts is their offsets.
//!
//! A revision follows another on a partition and never goes back, so there is a run for each, and a few more. What a revision
//! processes once more, as a dead letter that is replayed, lies among the records of an older one: it splits no run, and is
//! kept beside them, offset by offset.

use std::collections::BTreeMap;

use crate::record::Revision;

#[derive(Clone, Copy, Debug)]
struct Run {
    last: i64,
    revision: Revision,
    /// Whether a record of the run stands at its first and its last offset; where a run was cut, that is not known.
    seen: [bool; 2],
}

/// The runs of one input partition.
pub(super) struct Runs {
    /// The revision that is asked for.
    wanted: Revision,
    /// By the first offset; no two overlap, and neighbours are of different revisions.
    runs: BTreeMap<i64, Run>,
    /// What the wanted revision processed within another one's run: first and last of offsets without a gap.
    again: BTreeMap<i64, i64>,
}

impl Runs {
    pub(super) fn new(wanted: Revision) -> Self {
        Self { wanted, runs: BTreeMap::new(), again: BTreeMap::new() }
    }

    /// How many there are to keep.
    pub(super) fn len(&self) -> usize {
        self.runs.len() + self.again.len()
    }

    /// That revision processed the record at that offset.
    pub(super) fn add(&mut self, offset: i64, revision: Revision) {
        let around = self.runs.range_mut(..=offset).next_back().filter(|(_, run)| run.last >= offset);
        match around {
            Some((first, run)) if run.revision == revision => {
                run.seen[0] |= *first == offset;
                run.seen[1] |= run.last == offset;
            }
            // The older revision has read on from here, so this one came back to it.
            Some((_, run)) if run.revision < revision => self.add_again(offset, revision),
            // Some of the newer one's records were its second time here: this shows which.
            Some((first, _)) => {
                let first = *first;
                self.cut(first, offset);
                self.join(offset, revision);
            }
            None => self.join(offset, revision),
        }
    }

    /// A record that no run covers: it goes to its neighbour, or is a run of its own.
    fn join(&mut self, offset: i64, revision: Revision) {
        let is_same = |run: &Run| run.revision == revision;
        let before = self.runs.range(..offset).next_back().filter(|(_, run)| is_same(run)).map(|(first, _)| *first);
        let behind =
            self.runs.range(offset..).next().filter(|(_, run)| is_same(run)).map(|(first, run)| (*first, *run));
        if let Some((first, _)) = behind {
            self.runs.remove(&first);
        }
        let (last, last_seen) = behind.map_or((offset, true), |(_, run)| (run.last, run.seen[1]));
        match before.and_then(|first| self.runs.get_mut(&first)) {
            Some(run) => (run.last, run.seen[1]) = (last, last_seen),
            None => drop(self.runs.insert(offset, Run { last, revision, seen: [true, last_seen] })),
        }
    }

    /// Takes an offset out of the run that begins there. Of what is left a part without a record that was seen goes too.
    fn cut(&mut self, first: i64, offset: i64) {
        let Some(run) = self.runs.remove(&first) else { return };
        let is_its_own = (first == offset && run.seen[0]) || (run.last == offset && run.seen[1]);
        if is_its_own {
            self.add_again(offset, run.revision);
        }
        if first < offset && run.seen[0] {
            self.runs.insert(first, Run { last: offset - 1, seen: [true, false], ..run });
        }
        if run.last > offset && run.seen[1] {
            self.runs.insert(offset + 1, Run { seen: [false, true], ..run });
        }
    }

    fn add_again(&mut self, offset: i64, revision: Revision) {
        if revision != self.wanted {
            return;
        }
        let before = self.again.range(..=offset).next_back().map(|(first, last)| (*first, *last));
        let first = match before {
            Some((_, last)) if last >= offset => return,
            Some((first, last)) if last + 1 == offset => first,
            _ => offset,
        };
        let last = self.again.remove(&(offset + 1)).unwrap_or(offset);
        self.again.insert(first, last);
    }

    /// First and last offset of each range that the wanted revision processed, in order.
    pub(super) fn ranges(&self) -> Vec<(i64, i64)> {
        let own =
            self.runs.iter().filter(|(_, run)| run.revision == self.wanted).map(|(first, run)| (*first, run.last));
        let mut all: Vec<(i64, i64)> = own.chain(self.again.iter().map(|(first, last)| (*first, *last))).collect();
        all.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    /// The ranges of a revision among these records, each an offset and its revision.
    fn ranges(wanted: u64, records: &[(i64, u64)]) -> Vec<(i64, i64)> {
        let mut runs = Runs::new(revision(wanted));
        records.iter().for_each(|(offset, of)| runs.add(*offset, revision(*of)));
        runs.ranges()
    }

    /// Offsets of one revision.
    fn of(number: u64, offsets: impl IntoIterator<Item = i64>) -> Vec<(i64, u64)> {
        offsets.into_iter().map(|offset| (offset, number)).collect()
    }

    #[test]
    fn a_revision_has_one_range_from_its_first_record_to_its_last() {
        let records = [of(1, 0..10), of(2, 10..25), of(3, 25..30)].concat();
        assert_eq!(ranges(1, &records), [(0, 9)]);
        assert_eq!(ranges(2, &records), [(10, 24)]);
        assert_eq!(ranges(3, &records), [(25, 29)]);
        assert_eq!(ranges(4, &records), []);
    }

    #[test]
    fn records_without_an_output_stand_inside_a_range_silently() {
        assert_eq!(ranges(2, &[(3, 1), (10, 2), (90, 2), (95, 3)]), [(10, 90)]);
    }

    #[test]
    fn what_another_revision_processed_splits_a_range() {
        let records = [of(2, [10, 20]), of(1, [25]), of(2, [30, 40])].concat();
        assert_eq!(ranges(2, &records), [(10, 20), (30, 40)]);
    }

    #[test]
    fn the_order_in_which_records_are_read_does_not_matter() {
        let sorted = [of(1, (0..100).step_by(3)), of(2, (101..200).step_by(7)), of(3, (200..240).step_by(5))].concat();
        let expected: Vec<_> = (1..4).map(|wanted| ranges(wanted, &sorted)).collect();
        assert_eq!(expected[1], [(101, 199)]);
        // Every so many-th record first: a topic of several partitions is read like that.
        for stride in [2, 3, 5, 7, 11, 13] {
            let mixed: Vec<(i64, u64)> =
                (0..stride).flat_map(|start| sorted.iter().copied().skip(start).step_by(stride)).collect();
            let backwards: Vec<(i64, u64)> = mixed.iter().rev().copied().collect();
            for wanted in 1..4 {
                assert_eq!(ranges(wanted, &mixed), expected[wanted as usize - 1], "{stride}");
                assert_eq!(ranges(wanted, &backwards), expected[wanted as usize - 1], "{stride}");
            }
        }
    }

    #[test]
    fn dead_letters_and_outputs_of_one_partition_make_one_range() {
        let is_dead = |offset: &i64| offset % 3 == 0;
        let letters = [of(1, (0..30).filter(is_dead)), of(2, (30..60).filter(is_dead))].concat();
        let outputs = [of(1, (0..30).filter(|o| !is_dead(o))), of(2, (30..60).filter(|o| !is_dead(o)))].concat();
        for records in [[letters.clone(), outputs.clone()].concat(), [outputs, letters].concat()] {
            assert_eq!(ranges(1, &records), [(0, 29)]);
            assert_eq!(ranges(2, &records), [(30, 59)]);
        }
    }

    #[test]
    fn a_replayed_letter_is_of_both_revisions_and_splits_neither() {
        let letters = of(1, [4, 5, 50]);
        let outputs = [of(1, (0..100).filter(|offset| ![4, 5, 50].contains(offset))), of(3, 100..150)].concat();
        let replayed = of(3, [4, 5, 50]);
        for records in [
            [letters.clone(), outputs.clone(), replayed.clone()].concat(),
            [letters.clone(), replayed.clone(), outputs.clone()].concat(),
        ] {
            assert_eq!(ranges(1, &records), [(0, 99)], "{records:?}");
            assert_eq!(ranges(3, &records), [(4, 5), (50, 50), (100, 149)], "{records:?}");
        }
        // Dead letters are read first. Were they not, what the newer revision came back to might be too little, never too much.
        let late = [replayed, outputs, letters].concat();
        assert_eq!(ranges(1, &late), [(0, 99)]);
        assert_eq!(ranges(3, &late), [(4, 4), (50, 50), (100, 149)]);
    }

    #[test]
    fn what_was_processed_twice_by_two_revisions_is_of_both() {
        // At-least-once: what was not committed is processed anew, by the revision that runs then.
        let records = [of(1, 0..100), of(2, 90..200)].concat();
        assert_eq!(ranges(1, &records), [(0, 99)]);
        assert_eq!(ranges(2, &records), [(90, 199)]);
        // A revision that reads everything anew, as after a group's offsets were set back.
        let anew = [of(1, 0..100), of(2, 100..200), of(3, 0..300)].concat();
        assert_eq!(ranges(2, &anew), [(100, 199)]);
        assert_eq!(ranges(3, &anew), [(0, 299)]);
    }

    #[test]
    fn a_run_costs_the_same_however_many_records_it_has() {
        let mut runs = Runs::new(revision(2));
        for offset in 0..10_000 {
            runs.add(offset, revision(1 + (offset / 5_000) as u64));
        }
        assert_eq!(runs.len(), 2);
        for offset in (0..5_000).step_by(10) {
            runs.add(offset, revision(2));
        }
        assert_eq!((runs.len(), runs.ranges().len()), (2 + 500, 501), "each record that it came back to is kept");
    }
}
