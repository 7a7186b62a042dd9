//! How a member leaves its group, so that nobody waits out its session.
//!
//! A client that is closed does not always leave. One that owns nothing does not (with the cooperative protocol), nor one in
//! the middle of a rebalance; and one that asked to join, and was not told its id yet, cannot. So a member takes its
//! subscription back first, which does leave, and is closed when it has.

use std::ffi::CStr;
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::super::raw::verdict;
use super::{EVENTS, KafkaSource};
use crate::config::plan::Properties;
use crate::stream::source::{Event, Source};

/// Time to be told an id.
const JOIN: Duration = Duration::from_secs(1);
/// Between heartbeats, where the user set nothing else.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// What a rebalance takes when all others have heard of it.
const REBALANCE: Duration = Duration::from_millis(1_500);
/// Time to leave, whatever the heartbeats.
const LEAVE: Duration = Duration::from_secs(4);
/// Time for all of it.
const CLOSE: Duration = Duration::from_secs(8);
/// Between two looks at a client that closes.
const CLOSING: Duration = Duration::from_millis(20);

/// How long a rebalance that is under way may take: the others join again with their next heartbeat.
pub(super) fn patience(properties: &Properties) -> Duration {
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
        // SAFETY: the client and its queue are alive; an error means that there is nothing to close.
        let error = unsafe { rd::rd_kafka_consumer_close_queue(self.client.ptr(), self.events.ptr()) };
        if verdict(error).is_some() {
            return;
        }
        loop {
            // First: a client that is closed just now would never answer what comes below.
            self.events.poll(CLOSING);
            // SAFETY: the client is alive.
            if unsafe { rd::rd_kafka_consumer_closed(self.client.ptr()) } != 0 || Instant::now() >= deadline {
                return;
            }
            // Whatever the group asked of this member and asks of it while it leaves, assignments too, waits for an answer,
            // and the client could not be destroyed without one. From here on every answer means: nothing.
            // SAFETY: the client is alive; a null list is the empty assignment.
            unsafe { rd::rd_kafka_assign(self.client.ptr(), ptr::null()) };
        }
    }

    fn leave(&mut self) {
        let began = Instant::now();
        while !self.is_member() && began.elapsed() < JOIN {
            self.answer();
        }
        // In the middle of a rebalance it is put off until the rebalance is over, with its events answered.
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_unsubscribe(self.client.ptr()) };
        while self.is_member() && began.elapsed() < self.patience {
            self.answer();
        }
    }

    /// Answers an event, if one comes: whatever is given is not started, whatever is taken is let go. Nobody is there to be
    /// told of errors.
    fn answer(&mut self) {
        if let Ok(Some(Event::Revoked { partitions, .. })) = self.event(EVENTS) {
            drop(self.unassign(&partitions));
        }
    }

    /// Whether the group has told this member its id, and it has not asked to leave since.
    fn is_member(&self) -> bool {
        // SAFETY: the client is alive; the answer is null or a terminated string that is ours to free.
        unsafe {
            let id = rd::rd_kafka_memberid(self.client.ptr());
            let named = !id.is_null() && !CStr::from_ptr(id).is_empty();
            rd::rd_kafka_mem_free(self.client.ptr(), id.cast());
            named
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebalance_takes_as_long_as_the_heartbeats_of_the_others() {
        let of = |millis: &str| patience(&Properties([("heartbeat.interval.ms".into(), millis.into())].into()));
        assert_eq!(patience(&Properties::default()), LEAVE);
        assert_eq!(of("500"), Duration::from_secs(2));
    }
}
