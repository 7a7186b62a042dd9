//! What librdkafka reports of a partition without a message, as that its topic is gone. It stands in the partition's queue,
//! and whoever reads records hands it to a callback; an idle member learns of it in no other way for minutes.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::vanished;
use crate::stream::source::Event;

/// A code and its text.
type Last = Mutex<Option<(c_int, String)>>;

/// The last error of a partition: they come by dozens, one for each partition of a topic.
#[derive(Default)]
pub(super) struct PartitionErrors(Box<Last>);

impl PartitionErrors {
    /// # Safety
    /// The configuration is alive, and this outlives the client that is made of it.
    pub(super) unsafe fn listen(&self, conf: *mut rd::rd_kafka_conf_t) {
        let last: *const Last = &raw const *self.0;
        // SAFETY: the caller's promise.
        unsafe {
            rd::rd_kafka_conf_set_opaque(conf, last.cast_mut().cast());
            rd::rd_kafka_conf_set_error_cb(conf, Some(keep));
        }
    }

    /// The last one as an event, once.
    pub(super) fn take(&self, topics: &[String]) -> Option<Event> {
        let (code, text) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        // It begins with the place: `flowers [3]: …`.
        let topic = topics.iter().find(|topic| text.starts_with(&format!("{topic} [")));
        Some(match topic {
            Some(topic) if code == Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as c_int => {
                Event::Missing(vanished(topic))
            }
            _ => Event::Trouble(text),
        })
    }
}

/// The error callback: called by whoever reads records, on the worker's thread.
unsafe extern "C" fn keep(_: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, last: *mut c_void) {
    // SAFETY: librdkafka hands a terminated string; the rest is the promise of `listen`.
    let (text, last) = unsafe { (CStr::from_ptr(reason).to_string_lossy(), &*last.cast::<Last>()) };
    tracing::warn!(target: "librdkafka", "{text}");
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, text.into_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_gone_is_named_and_anything_else_is_trouble() {
        let event_of = |code: Code, text: &str| {
            let errors = PartitionErrors::default();
            *errors.0.lock().unwrap() = Some((code as c_int, text.into()));
            errors.take(&["in".into(), "in.2".into()])
        };
        let gone = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        let event = event_of(gone, "in.2 [3]: topic does not exist");
        assert!(matches!(&event, Some(Event::Missing(text)) if text.contains("topic in.2 does not exist any more")));
        assert!(matches!(event_of(gone, "other [3]: topic does not exist"), Some(Event::Trouble(_))));
        assert!(matches!(event_of(Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, "in [3]: x"), Some(Event::Trouble(_))));
    }
}
