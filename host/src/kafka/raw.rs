//! librdkafka's handles with an owner each, safe calls on them, and its errors as ours.
//!
//! What is unsafe about reading stands behind these: who reads holds a `Client`, polls a `Queue`, hands over a `List` and
//! looks at a `Message`. A handle never outlives its client, because its owner declares it before the client.

mod client;
mod consumer;
mod group;
mod group_offsets;
mod list;
mod list_offsets;
mod message;
mod queue;
mod reports;

use std::ffi::{CStr, c_int};
use std::time::Instant;

pub use rdkafka::bindings::rd_kafka_resp_err_t as Code;

pub use client::{Client, Kind};
pub use group::Group;
pub use group_offsets::LONGEST_REQUEST;
pub use list::List;
pub use list_offsets::{Isolation, Listed, OffsetSpec};
pub use message::{HeaderLimits, Message, MessageRef};
pub use queue::{MessageBuffer, Queue, QueueEvent};
pub use reports::Reports;

use crate::stream::fault::Fault;
use rdkafka::bindings as rd;

/// An error string of librdkafka, which is static.
pub fn describe(code: Code) -> String {
    // SAFETY: librdkafka answers a static string for every code.
    let text = unsafe { CStr::from_ptr(rd::rd_kafka_err2str(code)) };
    text.to_string_lossy().into_owned()
}

/// A code as a result; success is no error.
fn checked(code: Code) -> Result<(), Code> {
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code) }
}

/// What the error of a call asks of its caller.
pub enum CallError {
    /// The same call again, under the same deadline.
    Retry(String),
    Fault(Fault),
    /// Another producer with our transactional id has taken over.
    Fenced(String),
}

/// What a call came to. Reads and frees its error; a null one is success.
pub fn outcome(error: *mut rd::rd_kafka_error_t) -> Result<(), CallError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is alive and ours; its string is copied before it goes.
    let (code, message, retriable, abort, fatal) = unsafe {
        let facts = (
            rd::rd_kafka_error_code(error),
            CStr::from_ptr(rd::rd_kafka_error_string(error)).to_string_lossy().into_owned(),
            rd::rd_kafka_error_is_retriable(error) != 0,
            rd::rd_kafka_error_txn_requires_abort(error) != 0,
            rd::rd_kafka_error_is_fatal(error) != 0,
        );
        rd::rd_kafka_error_destroy(error);
        facts
    };
    let fenced = [
        Code::RD_KAFKA_RESP_ERR__FENCED,
        Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ];
    Err(if fenced.contains(&code) {
        CallError::Fenced(message)
    } else if is_configuration(code) {
        CallError::Fault(fault(code, message))
    } else if fatal {
        CallError::Fault(Fault::Unknown(message))
    } else if abort {
        CallError::Fault(Fault::Abortable(message))
    } else if retriable {
        CallError::Retry(message)
    } else {
        CallError::Fault(Fault::Unknown(message))
    })
}

/// Errors that only a person can mend, here or elsewhere.
pub fn is_configuration(code: Code) -> bool {
    is_denied(code)
        || [
            Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
            Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
            Code::RD_KAFKA_RESP_ERR__INVALID_ARG,
        ]
        .contains(&code)
}

/// Those that pass when somebody grants a right, mends an account or ends another group's members.
fn is_denied(code: Code) -> bool {
    [
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
        Code::RD_KAFKA_RESP_ERR__AUTHENTICATION,
        Code::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
    ]
    .contains(&code)
}

/// An error that needs a person as a fault; any other is one whose outcome is unknown.
pub fn fault(code: Code, message: String) -> Fault {
    match code {
        code if is_denied(code) => Fault::Denied(message),
        code if is_configuration(code) => Fault::Configuration(message),
        _ => Fault::Unknown(message),
    }
}

/// Errors that say that a topic, or a partition of it, does not exist.
pub fn is_missing(code: Code) -> bool {
    [
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
    ]
    .contains(&code)
}

/// Milliseconds until the deadline, as librdkafka takes them; at least one, since zero and less mean other things.
pub fn millis_until(deadline: Instant) -> c_int {
    deadline.saturating_duration_since(Instant::now()).as_millis().clamp(1, 60_000) as c_int
}
