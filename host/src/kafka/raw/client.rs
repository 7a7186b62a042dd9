//! A client instance: configured, made, destroyed.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use rdkafka::bindings as rd;

use crate::config::plan::Properties;
use crate::stream::fault::Fault;

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

/// What librdkafka logs becomes log lines of ours.
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
