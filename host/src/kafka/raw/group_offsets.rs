//! What a whole group has committed, asked of its coordinator without waiting for the answer.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::list::{Element, elements_of};
use super::{Client, Queue, QueueEvent};

/// The longest time that librdkafka lets a request take.
pub const LONGEST_REQUEST: Duration = Duration::from_hours(1);

impl Client {
    /// Has the committed offsets of all partitions come to that queue, or an error. Transactions that are open are not waited
    /// for. The client must be gone within `LONGEST_REQUEST` if no answer comes: a request that ends while its coordinator is
    /// sought is freed by librdkafka 2.12, and used once more when the coordinator is found, which aborts the process.
    pub fn ask_for_group_offsets(&self, group: &CStr, answers: &Queue) {
        // SAFETY: client, name and queue are alive; librdkafka copies request and options, which are freed here.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(
                self.ptr(),
                rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
            );
            let millis = LONGEST_REQUEST.as_millis() as c_int;
            rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
            // Null for all partitions.
            let mut request = rd::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null());
            rd::rd_kafka_ListConsumerGroupOffsets(self.ptr(), &mut request, 1, options, answers.ptr());
            rd::rd_kafka_ListConsumerGroupOffsets_destroy(request);
            rd::rd_kafka_AdminOptions_destroy(options);
        }
    }
}

impl QueueEvent {
    /// The offsets that an answer holds; none where it is another event or an error.
    pub fn group_offsets(&self) -> Vec<Element> {
        if self.kind() != rd::RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT {
            return Vec::new();
        }
        // SAFETY: the event is alive, and with it its groups and their partitions; the count says how many groups there are.
        unsafe {
            let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(self.ptr());
            if result.is_null() {
                return Vec::new();
            }
            let mut count = 0;
            let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
            let groups = if groups.is_null() { &[][..] } else { std::slice::from_raw_parts(groups, count) };
            groups.iter().flat_map(|group| elements_of(rd::rd_kafka_group_result_partitions(*group))).collect()
        }
    }
}
