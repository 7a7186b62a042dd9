//! A client instance: configured, made, destroyed.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use rdkafka::bindings as rd;

use super::reports::Reports;
use crate::config::plan::Properties;
use crate::stream::fault::Fault;

/// A client instance. Destroyed when dropped; queues and topics must be gone by then.
pub struct Client {
    client: ptr::NonNull<rd::rd_kafka_t>,
    // Behind the client, which reports to it until it is destroyed.
    reports: Box<Reports>,
}

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
        let reports = Box::<Reports>::default();
        let verifies = properties.0.get("enable.ssl.certificate.verification").is_none_or(|value| value != "false");
        // SAFETY: the configuration is alive; the reports are dropped after the client.
        unsafe { reports.listen(conf, verifies) };
        prepare(conf);
        let kind = match kind {
            Kind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            Kind::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        // SAFETY: conf is alive; rd_kafka_new owns it when it succeeds, else it stays ours.
        let client = unsafe {
            rd::rd_kafka_conf_set_events(conf, events);
            rd::rd_kafka_new(kind, conf, errors.as_mut_ptr(), errors.len())
        };
        ptr::NonNull::new(client).map(|client| Self { client, reports }).ok_or_else(|| {
            // SAFETY: rd_kafka_new failed and left conf to us.
            unsafe { rd::rd_kafka_conf_destroy(conf) };
            refused(&errors)
        })
    }

    pub fn ptr(&self) -> *mut rd::rd_kafka_t {
        self.client.as_ptr()
    }

    pub fn reports(&self) -> &Reports {
        &self.reports
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: alive until here. A consumer was closed by its owner, or is given up without a farewell.
        unsafe { rd::rd_kafka_destroy_flags(self.ptr(), rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}
