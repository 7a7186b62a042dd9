//! Time, so that a test can own it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send {
    /// Monotonic: for budgets and deadlines.
    fn now(&self) -> Instant;
    /// Milliseconds since the Unix epoch: for what people and records read, never for a decision.
    fn unix_ms(&self) -> i64;
    /// Between two attempts at the same thing.
    fn sleep(&self, time: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
