//! How a loop is told to finish: its transaction is closed, and it leaves its group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Tells one loop, or with its parent all of a daemon's. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    own: Arc<AtomicBool>,
    parent: Option<Arc<AtomicBool>>,
}

impl Stop {
    /// One that is set with this one, and on its own.
    pub fn child(&self) -> Self {
        Self { own: Arc::default(), parent: Some(self.own.clone()) }
    }

    pub fn set(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.is_set_itself() || self.is_set_above()
    }

    /// Whether this one is, whatever its parent is.
    pub fn is_set_itself(&self) -> bool {
        self.own.load(Ordering::Relaxed)
    }

    fn is_set_above(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.load(Ordering::Relaxed))
    }
}

/// Sleeps, but not through what it is told to wake up for.
pub fn wait(time: Duration, wakes: impl Fn() -> bool) {
    let slice = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() && !wakes() {
        std::thread::sleep(slice.min(left));
        left = left.saturating_sub(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_stops_alone_or_with_its_parent() {
        let all = Stop::default();
        let (one, other) = (all.child(), all.child());
        one.set();
        assert!(one.is_set() && one.clone().is_set_itself() && !other.is_set() && !all.is_set());
        all.set();
        assert!(other.is_set() && !other.is_set_itself());
    }
}
