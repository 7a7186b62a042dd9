//! What time a stream has come to by the clocks of its records, of which any may be wrong.
//!
//! A record moves the stream's time only with the others: the time is the median of what was read last. So a record that is
//! hours ahead, or in another unit, moves it by no more than its neighbours stand apart, and no record moves it beyond this
//! machine's clock.

use std::collections::VecDeque;

/// Records whose times count: a time is reached when more than half of them have reached it.
const RECENT: usize = 127;
/// Of a quiet stream only the records of the last minute count, as this machine's clock has it, and always the last one: its
/// time does not wait for sixty records more.
const MINUTE_MS: i64 = 60_000;
/// The year 2000: what lies before it is another unit than milliseconds, or a clock that was never set.
const OLDEST_MS: i64 = 946_684_800_000;

/// A record's time as far as it can be believed: no later than this machine's clock, which is `now`. `None` where it has none,
/// or one before the year 2000. Milliseconds since the Unix epoch.
pub fn believed(time: Option<i64>, now: i64) -> Option<i64> {
    time.filter(|time| *time >= OLDEST_MS).map(|time| time.min(now.max(OLDEST_MS)))
}

/// How far that time lies ahead of this machine's clock, milliseconds, where that is more than clocks usually differ.
pub fn ahead(time: Option<i64>, now: i64) -> Option<i64> {
    let ahead = time?.saturating_sub(now);
    (ahead > MINUTE_MS).then_some(ahead)
}

/// One side's time.
#[derive(Clone, Debug, Default)]
pub struct StreamTime {
    /// Time, and when it was read, in the order of reading.
    recent: VecDeque<(i64, i64)>,
    /// The same times in their own order.
    sorted: Vec<i64>,
}

impl StreamTime {
    /// A record of that time was read.
    pub fn read(&mut self, time: i64, now: i64) {
        while let Some((oldest, read)) = self.recent.front().copied()
            && (self.recent.len() >= RECENT || now.saturating_sub(read) > MINUTE_MS)
        {
            self.recent.pop_front();
            if let Ok(at) = self.sorted.binary_search(&oldest) {
                self.sorted.remove(at);
            }
        }
        self.recent.push_back((time, now));
        let at = self.sorted.partition_point(|known| *known < time);
        self.sorted.insert(at, time);
    }

    /// `None` before the first record that carries a time.
    pub fn now(&self) -> Option<i64> {
        self.sorted.get(self.sorted.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn after(times: impl IntoIterator<Item = i64>) -> Option<i64> {
        let mut stream = StreamTime::default();
        times.into_iter().for_each(|time| stream.read(time, START + 9 * HOUR));
        stream.now()
    }

    #[test]
    fn the_first_record_says_what_time_it_is_and_the_others_correct_it() {
        assert_eq!(after([]), None);
        assert_eq!(after([START + HOUR]), Some(START + HOUR));
        assert_eq!(after([START + HOUR, START, START + 1]), Some(START + 1));
    }

    #[test]
    fn fewer_than_half_of_the_records_move_nothing_however_far_ahead_they_are() {
        let mixed = (0..1_000).map(|at| if at % 3 == 0 { START + 8 * HOUR } else { START + at });
        let now = after(mixed).unwrap();
        assert!((START + 900..START + 1_000).contains(&now), "{now}");
    }

    #[test]
    fn a_quiet_stream_follows_its_last_record() {
        let mut stream = StreamTime::default();
        (0..50).for_each(|at| stream.read(START + at, START + at));
        stream.read(START + HOUR, START + HOUR);
        assert_eq!(stream.now(), Some(START + HOUR));
    }

    #[test]
    fn a_time_is_believed_from_the_year_2000_to_this_machines_clock() {
        let now = START;
        let believed = |time| believed(time, now);
        assert_eq!(believed(None), None);
        assert_eq!(believed(Some(0)), None);
        assert_eq!(believed(Some(START / 1_000)), None, "seconds");
        assert_eq!(believed(Some(START - HOUR)), Some(START - HOUR));
        assert_eq!(believed(Some(START + HOUR)), Some(START));
        assert_eq!(believed(Some(START * 1_000)), Some(START), "microseconds");
        assert_eq!(believed(Some(i64::MAX)), Some(START));
        assert_eq!(ahead(Some(START + HOUR), now), Some(HOUR));
        assert_eq!((ahead(Some(START + 999), now), ahead(None, now)), (None, None));
    }
}
