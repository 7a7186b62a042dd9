//! Where partitions begin and end, asked of their leaders for many at once.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::{Client, Code, List, Queue, checked};

/// Beyond its time, for a request that does keep it.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq)]
pub enum OffsetSpec {
    /// The oldest offset that is left.
    Earliest,
    /// The offset behind the last that the isolation level can see.
    Latest,
    /// The first record of that time or later, milliseconds since the Unix epoch. Where there is none, the answer has no offset.
    At(i64),
}

/// What a partition's leader answers.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    pub partition: i32,
    /// `None` where no record is of the time that was asked for, or later.
    pub offset: Option<i64>,
    /// Of the record that stands there, where a time was asked for.
    pub timestamp: Option<i64>,
    pub error: Code,
}

/// Whose end is asked for, whatever the client itself reads.
#[derive(Clone, Copy, PartialEq)]
pub enum Isolation {
    /// The high watermark.
    ReadUncommitted,
    /// The last stable offset, where the first open transaction begins.
    ReadCommitted,
}

impl Client {
    /// An offset of each of these partitions, or its error.
    ///
    /// # Errors
    /// When no leader answers in time.
    pub fn list_offsets(
        &self,
        topic: &CStr,
        partitions: impl Iterator<Item = i32>,
        spec: OffsetSpec,
        isolation: Isolation,
        wait: Duration,
    ) -> Result<Vec<Listed>, Code> {
        let spec = match spec {
            OffsetSpec::Earliest => rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
            OffsetSpec::Latest => rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
            // What is negative means something else to librdkafka.
            OffsetSpec::At(time) => time.max(0),
        };
        let isolation = match isolation {
            Isolation::ReadUncommitted => rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            Isolation::ReadCommitted => rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        };
        let mut list = List::default();
        for partition in partitions {
            list.add(topic, partition, spec, "");
        }
        let answers = Queue::own(self);
        // SAFETY: client, list and queue are alive; librdkafka copies list and options, which are freed here.
        unsafe {
            let options =
                rd::rd_kafka_AdminOptions_new(self.ptr(), rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS);
            let millis = wait.as_millis().max(1) as c_int;
            rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
            let refused = rd::rd_kafka_AdminOptions_set_isolation_level(options, isolation);
            if refused.is_null() {
                rd::rd_kafka_ListOffsets(self.ptr(), list.ptr(), options, answers.ptr());
            }
            rd::rd_kafka_AdminOptions_destroy(options);
            if !refused.is_null() {
                rd::rd_kafka_error_destroy(refused);
                return Err(Code::RD_KAFKA_RESP_ERR__INVALID_ARG);
            }
        }
        let answer = answers.poll(wait + GRACE).ok_or(Code::RD_KAFKA_RESP_ERR__TIMED_OUT)?;
        checked(answer.error())?;
        // SAFETY: the answer is alive, and with it the infos; the count says how many they are.
        unsafe {
            let result = rd::rd_kafka_event_ListOffsets_result(answer.ptr());
            if result.is_null() {
                return Err(Code::RD_KAFKA_RESP_ERR__FAIL);
            }
            let mut count = 0;
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &mut count);
            let infos = if infos.is_null() { &[][..] } else { std::slice::from_raw_parts(infos, count) };
            Ok(infos.iter().filter_map(|info| listed(*info)).collect())
        }
    }
}

/// # Safety
/// The info is alive.
unsafe fn listed(info: *const rd::rd_kafka_ListOffsetsResultInfo_t) -> Option<Listed> {
    // SAFETY: the caller's promise; the partition lives as long as its info.
    let (partition, timestamp) = unsafe {
        let partition = rd::rd_kafka_ListOffsetsResultInfo_topic_partition(info).as_ref()?;
        (partition, rd::rd_kafka_ListOffsetsResultInfo_timestamp(info))
    };
    let known = |number: i64| (number >= 0).then_some(number);
    Some(Listed {
        partition: partition.partition,
        offset: known(partition.offset),
        timestamp: known(timestamp),
        error: partition.err,
    })
}
