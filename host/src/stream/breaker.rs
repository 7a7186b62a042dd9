//! Watches how many of a worker's records become dead letters, so that a change upstream does not drain a topic into them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::record::output::Counts;

/// The time whose records are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Transactions that are counted together.
const BUCKET: Duration = Duration::from_secs(1);
/// Fewer dead letters than these are no sign of a change upstream.
pub const FEW: u64 = 10;

/// One worker's last minute.
pub struct Breaker {
    above: f32,
    window: VecDeque<(Instant, Counts)>,
}

impl Breaker {
    /// `above` is a share of the records, 0 to 1; 1 is never exceeded.
    pub fn new(above: f32) -> Self {
        Self { above, window: VecDeque::new() }
    }

    /// Adds a transaction. Answers the window's counts when they are too many.
    pub fn add(&mut self, now: Instant, counts: &Counts) -> Option<Counts> {
        match self.window.back_mut() {
            Some((at, bucket)) if now.saturating_duration_since(*at) < BUCKET => bucket.add(counts),
            _ => self.window.push_back((now, counts.clone())),
        }
        while self.window.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.window.pop_front();
        }
        if counts.dead_letters.is_empty() {
            return None;
        }
        let mut sum = Counts::default();
        self.window.iter().for_each(|(_, bucket)| sum.add(bucket));
        let letters: u64 = sum.dead_letters.values().sum();
        (letters >= FEW && letters as f64 > f64::from(self.above) * sum.records as f64).then_some(sum)
    }

    /// Starts anew: whoever resumes has seen what was counted.
    pub fn clear(&mut self) {
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(records: u64, letters: u64) -> Counts {
        let mut counts = Counts { records: records - letters, ..Counts::default() };
        (0..letters).for_each(|_| counts.dead_letter("bad"));
        counts
    }

    #[test]
    fn it_opens_above_its_share_and_not_at_it() {
        let now = Instant::now();
        assert_eq!(Breaker::new(0.2).add(now, &counts(100, 20)), None);
        assert_eq!(Breaker::new(0.2).add(now, &counts(100, 21)).unwrap().dead_letters["bad"], 21);
    }

    #[test]
    fn a_few_dead_letters_say_nothing() {
        let now = Instant::now();
        assert_eq!(Breaker::new(0.2).add(now, &counts(9, 9)), None);
        assert!(Breaker::new(0.2).add(now, &counts(10, 10)).is_some());
    }

    #[test]
    fn transactions_of_a_minute_are_counted_together_and_older_ones_are_not() {
        let start = Instant::now();
        let mut breaker = Breaker::new(0.2);
        for second in 0..9 {
            assert_eq!(breaker.add(start + Duration::from_secs(second), &counts(1, 1)), None);
        }
        assert!(breaker.add(start + Duration::from_secs(9), &counts(1, 1)).is_some());
        breaker.clear();
        assert_eq!(breaker.add(start + Duration::from_secs(10), &counts(1, 1)), None);
        for second in 0..20 {
            assert_eq!(breaker.add(start + Duration::from_secs(70 + 7 * second), &counts(1, 1)), None);
        }
    }

    #[test]
    fn a_share_of_one_never_opens() {
        assert_eq!(Breaker::new(1.0).add(Instant::now(), &counts(1_000, 1_000)), None);
    }
}
