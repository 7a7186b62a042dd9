//! The waits between two attempts at the same thing: each twice as long as the one before, up to a longest.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait after an attempt that failed.
    pub fn failed(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait
    }

    /// An attempt succeeded: the next failure waits as long as the first did.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// What a loop tries again while it does other things.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    backoff: Backoff,
    /// Not before then; `None` until an attempt fails.
    due: Option<Instant>,
}

impl Retry {
    pub const fn new(backoff: Backoff) -> Self {
        Self { backoff, due: None }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    pub fn failed(&mut self, now: Instant) {
        self.due = Some(now + self.backoff.failed());
    }

    pub fn succeeded(&mut self) {
        self.due = None;
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(250));

    #[test]
    fn waits_double_up_to_the_longest_and_a_success_starts_anew() {
        let mut backoff = BACKOFF;
        let waits: Vec<u128> = (0..4).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(waits, [100, 200, 250, 250]);
        backoff.reset();
        assert_eq!(backoff.failed().as_millis(), 100);
    }

    #[test]
    fn what_never_failed_is_due_and_what_failed_is_when_its_wait_is_over() {
        let (mut retry, now) = (Retry::new(BACKOFF), Instant::now());
        assert!(retry.is_due(now));
        retry.failed(now);
        assert!(!retry.is_due(now + Duration::from_millis(99)));
        assert!(retry.is_due(now + Duration::from_millis(100)));
        retry.succeeded();
        assert!(retry.is_due(now));
    }
}
