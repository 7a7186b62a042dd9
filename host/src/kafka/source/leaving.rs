//! How a member leaves its group, so that nobody waits out its session.
//!
//! A client that is closed does not always leave. One that owns nothing does not (with the cooperative protocol), nor one in
//! the middle of a rebalance; and one that asked to join, and was not told its id yet, cannot. So a member takes its
//! subscription back first, which does leave, and is closed when it has.

use std::time::{Duration, Instant};

use super::{EVENTS, KafkaSource};
use crate::config::plan::Properties;
use crate::stream::source::{Event, Source};

/// Time to be told an id.
const JOIN: Duration = Duration::from_secs(1);
/// Between heartbeats, where the user set nothing else.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// What a rebalance takes when all others have learned of it.
const REBALANCE: Duration = Duration::from_millis(1_500);
/// Time to leave, whatever the heartbeats.
const LEAVE: Duration = Duration::from_secs(4);
/// Time for all of it.
const CLOSE: Duration = Duration::from_secs(8);
/// Between two checks whether a client that closes has closed.
const CLOSE_CHECK: Duration = Duration::from_millis(20);

/// How long a rebalance that is under way may take: the others join again with their next heartbeat.
pub(super) fn rebalance_patience(properties: &Properties) -> Duration {
    let millis = properties.0.get("heartbeat.interval.ms").and_then(|millis| millis.parse().ok());
    millis.map_or(HEARTBEAT, Duration::from_millis).saturating_add(REBALANCE).min(LEAVE)
}

impl KafkaSource {
    /// Closes the client once; what it still holds is given up.
    pub(super) fn shut_down(&mut self) {
        self.held.clear();
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let deadline = Instant::now() + CLOSE;
        self.leave();
        if self.client.begin_close(&self.events).is_err() {
            // There is nothing to close.
            return;
        }
        loop {
            // First: a client that is closed just now would never answer what comes below.
            self.events.poll(CLOSE_CHECK);
            if self.client.is_closed() || Instant::now() >= deadline {
                return;
            }
            // Whatever the group asked of this member and asks of it while it leaves, assignments too, waits for an answer,
            // and the client could not be destroyed without one. From here on every answer means: nothing.
            let _ = self.client.assign_nothing();
        }
    }

    fn leave(&mut self) {
        let began = Instant::now();
        while self.client.member_id().is_empty() && began.elapsed() < JOIN {
            self.answer();
        }
        // In the middle of a rebalance it is put off until the rebalance is over, with its events answered.
        self.client.unsubscribe();
        while !self.client.member_id().is_empty() && began.elapsed() < self.rebalance_patience {
            self.answer();
        }
    }

    /// Answers an event, if one comes: what is assigned is not started, what is revoked is let go. Nobody is there any
    /// more to be told of errors.
    fn answer(&mut self) {
        if let Ok(Some(Event::Revoked { partitions, .. })) = self.poll_event(EVENTS) {
            drop(self.unassign(&partitions));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebalance_takes_as_long_as_the_heartbeats_of_the_others() {
        let of =
            |millis: &str| rebalance_patience(&Properties([("heartbeat.interval.ms".into(), millis.into())].into()));
        assert_eq!(rebalance_patience(&Properties::default()), LEAVE);
        assert_eq!(of("500"), Duration::from_secs(2));
    }
}
