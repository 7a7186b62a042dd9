//! librdkafka's handles with an owner each, and its errors as ours.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use crate::config::plan::Properties;
use crate::stream::fault::Fault;

/// An error string of librdkafka, which is static.
pub fn describe(code: rd::rd_kafka_resp_err_t) -> String {
    // SAFETY: librdkafka answers a static string for every code.
    let text = unsafe { CStr::from_ptr(rd::rd_kafka_err2str(code)) };
    text.to_string_lossy().into_owned()
}

/// A client instance. Destroyed when dropped; queues and topics must be gone by then.
pub struct Client(ptr::NonNull<rd::rd_kafka_t>);

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for Client {}
// SAFETY: and by several at once.
unsafe impl Sync for Client {}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Consumer,
    Producer,
}

impl Client {
    /// `events` is a mask of `RD_KAFKA_EVENT_…` that are to be polled.
    ///
    /// # Errors
    /// `Configuration` when librdkafka refuses a property or their combination.
    pub fn new(kind: Kind, properties: &Properties, events: c_int) -> Result<Self, Fault> {
        Self::with(kind, properties, events, |_| {})
    }

    /// As `new`; `prepare` has the configuration before the client is made of it.
    pub fn with(
        kind: Kind,
        properties: &Properties,
        events: c_int,
        prepare: impl Fn(*mut rd::rd_kafka_conf_t),
    ) -> Result<Self, Fault> {
        // SAFETY: no preconditions; the result is owned here until rd_kafka_new takes it.
        let conf = unsafe { rd::rd_kafka_conf_new() };
        let mut errors = [0 as c_char; 512];
        let refused = |errors: &[c_char; 512]| {
            // SAFETY: librdkafka terminated the string within the buffer.
            let message = unsafe { CStr::from_ptr(errors.as_ptr()) };
            Fault::Configuration(format!("librdkafka refuses the configuration: {}", message.to_string_lossy()))
        };
        for (name, value) in &properties.0 {
            let (Ok(name), Ok(value)) = (CString::new(name.as_str()), CString::new(value.as_str())) else {
                return Err(Fault::Configuration(format!("[kafka] {name} holds a NUL byte")));
            };
            // SAFETY: conf is alive, strings are terminated, the buffer's length is told.
            let result = unsafe {
                rd::rd_kafka_conf_set(conf, name.as_ptr(), value.as_ptr(), errors.as_mut_ptr(), errors.len())
            };
            if result != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                // SAFETY: conf was not handed on.
                unsafe { rd::rd_kafka_conf_destroy(conf) };
                return Err(refused(&errors));
            }
        }
        prepare(conf);
        let kind = match kind {
            Kind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            Kind::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        // SAFETY: conf is alive; rd_kafka_new owns it when it succeeds, else it stays ours.
        let client = unsafe {
            rd::rd_kafka_conf_set_events(conf, events);
            rd::rd_kafka_conf_set_log_cb(conf, Some(log));
            rd::rd_kafka_new(kind, conf, errors.as_mut_ptr(), errors.len())
        };
        ptr::NonNull::new(client).map(Self).ok_or_else(|| {
            // SAFETY: rd_kafka_new failed and left conf to us.
            unsafe { rd::rd_kafka_conf_destroy(conf) };
            refused(&errors)
        })
    }

    pub fn ptr(&self) -> *mut rd::rd_kafka_t {
        self.0.as_ptr()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: alive until here. A consumer was closed by its owner, or is given up without a farewell.
        unsafe { rd::rd_kafka_destroy_flags(self.ptr(), rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

unsafe extern "C" fn log(_: *const rd::rd_kafka_t, level: c_int, facility: *const c_char, message: *const c_char) {
    // SAFETY: librdkafka hands terminated strings that live during the call.
    let (facility, message) = unsafe { (CStr::from_ptr(facility), CStr::from_ptr(message)) };
    let (facility, message) = (facility.to_string_lossy(), message.to_string_lossy());
    match level {
        0..=3 => tracing::warn!(target: "librdkafka", %facility, "{message}"),
        // Properties are given to both kinds of client, and each names those of the other.
        4..=5 if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", %facility, "{message}"),
        4..=5 => tracing::info!(target: "librdkafka", %facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", %facility, "{message}"),
    }
}

/// A queue of ours, or a reference to one of the client's.
pub struct Queue(*mut rd::rd_kafka_queue_t);

// SAFETY: queues may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    pub fn own(client: &Client) -> Self {
        // SAFETY: the client is alive.
        Self(unsafe { rd::rd_kafka_queue_new(client.ptr()) })
    }

    pub fn of_consumer(client: &Client) -> Self {
        // SAFETY: the client is alive and a consumer.
        Self(unsafe { rd::rd_kafka_queue_get_consumer(client.ptr()) })
    }

    pub fn main(client: &Client) -> Self {
        // SAFETY: the client is alive.
        Self(unsafe { rd::rd_kafka_queue_get_main(client.ptr()) })
    }

    pub fn ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.0
    }

    /// The next event, if one comes within the time.
    pub fn poll(&self, wait: Duration) -> Option<QueueEvent> {
        // SAFETY: the queue is alive.
        let event = unsafe { rd::rd_kafka_queue_poll(self.0, wait.as_millis() as c_int) };
        if event.is_null() { None } else { Some(QueueEvent(event)) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: this is the only owner of this reference.
        unsafe { rd::rd_kafka_queue_destroy(self.0) }
    }
}

/// An event that was polled.
pub struct QueueEvent(*mut rd::rd_kafka_event_t);

impl QueueEvent {
    pub fn ptr(&self) -> *mut rd::rd_kafka_event_t {
        self.0
    }

    /// One of `RD_KAFKA_EVENT_…`.
    pub fn kind(&self) -> c_int {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_type(self.0) }
    }

    pub fn error(&self) -> rd::rd_kafka_resp_err_t {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_error(self.0) }
    }

    pub fn message(&self) -> String {
        // SAFETY: the event is alive and owns the string, which may be absent.
        unsafe {
            let text = rd::rd_kafka_event_error_string(self.0);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }
}

impl Drop for QueueEvent {
    fn drop(&mut self) {
        // SAFETY: polled once, destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0) }
    }
}

/// A list of partitions with offsets.
pub struct List(*mut rd::rd_kafka_topic_partition_list_t);

impl Default for List {
    fn default() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { rd::rd_kafka_topic_partition_list_new(8) })
    }
}

impl List {
    pub fn ptr(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0
    }

    /// A negative offset is one of librdkafka's logical ones.
    pub fn add(&mut self, topic: &CStr, partition: i32, offset: i64, metadata: &str) {
        // SAFETY: the list is alive and owns the element, whose metadata it frees with free(): so malloc.
        unsafe {
            let element = rd::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition);
            (*element).offset = offset;
            if !metadata.is_empty() {
                let copy = libc::malloc(metadata.len());
                ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                (*element).metadata = copy.cast();
                (*element).metadata_size = metadata.len();
            }
        }
    }

    pub fn elements(&self) -> Vec<Element> {
        view(self.0)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: owned here.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// One entry of a list, copied out.
pub struct Element {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
    pub error: rd::rd_kafka_resp_err_t,
}

/// A list that somebody else owns, copied out.
pub fn view(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<Element> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list is alive; its first `cnt` elements are initialised, and an empty one has no memory at all.
    let elements = unsafe {
        if (*list).elems.is_null() {
            &[][..]
        } else {
            std::slice::from_raw_parts((*list).elems, (*list).cnt.max(0) as usize)
        }
    };
    elements
        .iter()
        .map(|element| {
            // SAFETY: the topic is terminated; metadata has the length that stands beside it.
            let (topic, metadata) = unsafe {
                let metadata = if element.metadata.is_null() {
                    &[][..]
                } else {
                    std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
                };
                (CStr::from_ptr(element.topic), metadata)
            };
            Element {
                topic: topic.to_string_lossy().into_owned(),
                partition: element.partition,
                offset: element.offset,
                metadata: String::from_utf8_lossy(metadata).into_owned(),
                error: element.err,
            }
        })
        .collect()
}

/// What an error of a transactional call asks for.
pub enum Verdict {
    /// The same call again, under the same deadline.
    Again(String),
    Fault(Fault),
    /// Another producer with our transactional id has taken over.
    Fenced(String),
}

/// Reads and frees an error; `None` is success.
pub fn verdict(error: *mut rd::rd_kafka_error_t) -> Option<Verdict> {
    use rd::rd_kafka_resp_err_t as Code;
    if error.is_null() {
        return None;
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
    Some(if fenced.contains(&code) {
        Verdict::Fenced(message)
    } else if is_configuration(code) {
        Verdict::Fault(Fault::Configuration(message))
    } else if fatal {
        Verdict::Fault(Fault::Unknown(message))
    } else if abort {
        Verdict::Fault(Fault::Abortable(message))
    } else if retriable {
        Verdict::Again(message)
    } else {
        Verdict::Fault(Fault::Unknown(message))
    })
}

/// Errors that only a person can mend.
pub fn is_configuration(code: rd::rd_kafka_resp_err_t) -> bool {
    use rd::rd_kafka_resp_err_t as Code;
    [
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
        Code::RD_KAFKA_RESP_ERR__AUTHENTICATION,
        Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
        Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT,
        Code::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
        Code::RD_KAFKA_RESP_ERR__INVALID_ARG,
    ]
    .contains(&code)
}

/// Milliseconds until the deadline, as librdkafka takes them; at least one, since zero and less mean other things.
pub fn millis_until(deadline: Instant) -> c_int {
    deadline.saturating_duration_since(Instant::now()).as_millis().clamp(1, 60_000) as c_int
}
