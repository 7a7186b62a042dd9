//! How far each partition has been read, and how far it is to be.

use std::collections::BTreeMap;

use super::Progress;

struct Partition {
    start: i64,
    /// The offset that is read next.
    position: i64,
    end: i64,
    /// Whether the position is the last stable offset, as far as is known: an open transaction begins there, or nothing does.
    at_stable_end: bool,
}

impl Partition {
    fn is_at_its_end(&self) -> bool {
        self.position >= self.end
    }
}

#[derive(Default)]
pub(super) struct Positions(BTreeMap<i32, Partition>);

impl Positions {
    pub(super) fn add(&mut self, partition: i32, start: i64, end: i64) {
        self.0.insert(partition, Partition { start, position: start, end, at_stable_end: false });
    }

    /// Partitions, the offsets that are read next and those at which reading ends.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, i64, i64)> {
        self.0.iter().map(|(partition, read)| (*partition, read.position, read.end))
    }

    pub(super) fn is_at_its_end(&self, partition: i32) -> bool {
        self.0.get(&partition).is_some_and(Partition::is_at_its_end)
    }

    pub(super) fn is_behind_the_end(&self, partition: i32, offset: i64) -> bool {
        self.0.get(&partition).is_some_and(|read| offset >= read.end)
    }

    /// A record before that offset was read.
    pub(super) fn advance(&mut self, partition: i32, position: i64) {
        self.set(partition, position, false);
    }

    /// Everything before that offset was read, and nothing behind it is stable yet.
    pub(super) fn reach_stable_end(&mut self, partition: i32, position: i64) {
        self.set(partition, position, true);
    }

    fn set(&mut self, partition: i32, position: i64, at_stable_end: bool) {
        if let Some(read) = self.0.get_mut(&partition) {
            // A topic that was made anew begins at 0 again: what is behind us stays behind us.
            read.position = read.position.max(position);
            read.at_stable_end = at_stable_end;
        }
    }

    pub(super) fn are_at_their_end(&self) -> bool {
        self.0.values().all(Partition::is_at_its_end)
    }

    /// The first partition that an open transaction holds back, and where, if nothing else is to be waited for.
    pub(super) fn held_back(&self) -> Option<(i32, i64)> {
        let mut behind = self.0.iter().filter(|(_, read)| !read.is_at_its_end()).peekable();
        let first = behind.peek().map(|(partition, read)| (**partition, read.position))?;
        behind.all(|(_, read)| read.at_stable_end).then_some(first)
    }

    pub(super) fn progress(&self) -> Progress {
        let offsets = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or_default();
        self.0.values().fold(Progress::default(), |sum, read| Progress {
            read: sum.read + offsets(read.start, read.position.min(read.end)),
            whole: sum.whole + offsets(read.start, read.end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_reached_by_records_and_by_positions_without_one() {
        let mut positions = Positions::default();
        positions.add(0, 10, 12);
        positions.add(1, 0, 5);
        positions.add(2, 7, 7);
        assert_eq!(positions.progress(), Progress { read: 0, whole: 7 });
        positions.advance(0, 12);
        positions.advance(1, 1);
        assert!(!positions.are_at_their_end());
        // Behind the only record stand those of an aborted transaction, and its marker.
        positions.reach_stable_end(1, 5);
        assert!(positions.are_at_their_end());
        positions.advance(1, 9);
        assert_eq!(positions.progress(), Progress { read: 7, whole: 7 }, "what is written later is not of the whole");
    }

    #[test]
    fn an_open_transaction_is_named_when_nothing_else_is_waited_for() {
        let mut positions = Positions::default();
        positions.add(0, 0, 2);
        positions.add(1, 0, 2);
        positions.reach_stable_end(0, 1);
        assert_eq!(positions.held_back(), None, "partition 1 has not been read yet");
        positions.advance(1, 2);
        assert_eq!(positions.held_back(), Some((0, 1)));
        positions.advance(0, 2);
        assert_eq!(positions.held_back(), None);
    }
}
