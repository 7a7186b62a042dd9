//! A consumer's calls on its client. What they mean for a group stands where they are made.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::{CallError, Client, Code, List, Queue, checked, millis_until, outcome};

impl Client {
    /// Has the client's own events, errors above all, come by the consumer's queue.
    pub fn join_consumer_queue(&self) {
        // SAFETY: the client is alive and a consumer.
        unsafe { rd::rd_kafka_poll_set_consumer(self.ptr()) };
    }

    pub fn subscribe(&self, topics: &List) -> Result<(), Code> {
        // SAFETY: client and list are alive.
        checked(unsafe { rd::rd_kafka_subscribe(self.ptr(), topics.ptr()) })
    }

    pub fn unsubscribe(&self) {
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_unsubscribe(self.ptr()) };
    }

    /// Replaces the whole assignment.
    pub fn assign(&self, partitions: &List) -> Result<(), Code> {
        // SAFETY: client and list are alive; librdkafka copies the list.
        checked(unsafe { rd::rd_kafka_assign(self.ptr(), partitions.ptr()) })
    }

    pub fn assign_nothing(&self) -> Result<(), Code> {
        // SAFETY: the client is alive; a null list is the empty assignment.
        checked(unsafe { rd::rd_kafka_assign(self.ptr(), ptr::null()) })
    }

    pub fn incremental_assign(&self, partitions: &List) -> Result<(), CallError> {
        // SAFETY: client and list are alive; librdkafka copies the list.
        outcome(unsafe { rd::rd_kafka_incremental_assign(self.ptr(), partitions.ptr()) })
    }

    pub fn incremental_unassign(&self, partitions: &List) -> Result<(), CallError> {
        // SAFETY: client and list are alive.
        outcome(unsafe { rd::rd_kafka_incremental_unassign(self.ptr(), partitions.ptr()) })
    }

    /// Whether the present assignment was lost: another member may own its partitions already.
    pub fn is_assignment_lost(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_assignment_lost(self.ptr()) != 0 }
    }

    /// Whether the group's protocol is the cooperative one.
    pub fn is_cooperative(&self) -> bool {
        // SAFETY: the client is alive; the answer is a static string or null.
        unsafe {
            let protocol = rd::rd_kafka_rebalance_protocol(self.ptr());
            !protocol.is_null() && CStr::from_ptr(protocol) == c"COOPERATIVE"
        }
    }

    /// The id that the group has given to this member; empty before, and once it has asked to leave.
    pub fn member_id(&self) -> String {
        // SAFETY: the client is alive; the answer is null or a terminated string that is ours to free.
        unsafe {
            let id = rd::rd_kafka_memberid(self.ptr());
            let copy = if id.is_null() { String::new() } else { CStr::from_ptr(id).to_string_lossy().into_owned() };
            rd::rd_kafka_mem_free(self.ptr(), id.cast());
            copy
        }
    }

    pub fn pause(&self, partitions: &List) -> Result<(), Code> {
        // SAFETY: client and list are alive.
        checked(unsafe { rd::rd_kafka_pause_partitions(self.ptr(), partitions.ptr()) })
    }

    pub fn resume(&self, partitions: &List) -> Result<(), Code> {
        // SAFETY: client and list are alive.
        checked(unsafe { rd::rd_kafka_resume_partitions(self.ptr(), partitions.ptr()) })
    }

    /// Seeks each partition of the list; each that could not be has its error in the list.
    pub fn seek(&self, positions: &List, wait: Duration) -> Result<(), CallError> {
        // SAFETY: client and list are alive.
        outcome(unsafe { rd::rd_kafka_seek_partitions(self.ptr(), positions.ptr(), wait.as_millis() as c_int) })
    }

    /// Writes what the group has committed into the list.
    pub fn committed(&self, partitions: &List, deadline: Instant) -> Result<(), Code> {
        // SAFETY: client and list are alive; the answer is written into the list.
        checked(unsafe { rd::rd_kafka_committed(self.ptr(), partitions.ptr(), millis_until(deadline)) })
    }

    /// Commits outside of any transaction, and waits for the answer.
    pub fn commit(&self, positions: &List) -> Result<(), Code> {
        // SAFETY: client and list are alive.
        checked(unsafe { rd::rd_kafka_commit(self.ptr(), positions.ptr(), 0) })
    }

    /// The first offset of a partition and the one behind its last, asked of its leader. A consumer that reads committed
    /// records is told the last stable offset instead of the high watermark.
    pub fn query_watermarks(&self, topic: &CStr, partition: i32, wait: Duration) -> Result<(i64, i64), Code> {
        let (mut low, mut high) = (0, 0);
        let wait = wait.as_millis() as c_int;
        // SAFETY: the client is alive, the name terminated.
        checked(unsafe {
            rd::rd_kafka_query_watermark_offsets(self.ptr(), topic.as_ptr(), partition, &mut low, &mut high, wait)
        })?;
        Ok((low, high))
    }

    /// The high watermark as the last fetch told it, without a request.
    pub fn last_high_watermark(&self, topic: &CStr, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: the client is alive, the name terminated.
        let code =
            unsafe { rd::rd_kafka_get_watermark_offsets(self.ptr(), topic.as_ptr(), partition, &mut low, &mut high) };
        (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// Begins to close a member; what is still to be answered comes by that queue.
    pub fn begin_close(&self, events: &Queue) -> Result<(), CallError> {
        // SAFETY: the client and its queue are alive.
        outcome(unsafe { rd::rd_kafka_consumer_close_queue(self.ptr(), events.ptr()) })
    }

    pub fn is_closed(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_consumer_closed(self.ptr()) != 0 }
    }
}
