//! What librdkafka reports of a partition without a message, as that its topic is gone. It stands in the partition's queue,
//! and whoever reads records hands it to a callback; an idle member learns of it in no other way for minutes.

use std::ffi::c_int;

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::vanished;
use crate::kafka::raw::Reports;
use crate::stream::source::Event;

/// The last one as an event, once.
pub(super) fn take(reports: &Reports, topics: &[String]) -> Option<Event> {
    let (code, text) = reports.take_partition()?;
    // It begins with the place: `flowers [3]: …`.
    let topic = topics.iter().find(|topic| text.starts_with(&format!("{topic} [")));
    Some(match topic {
        Some(topic) if code == Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as c_int => {
            Event::Missing(vanished(topic))
        }
        _ => Event::Trouble(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_gone_is_named_and_anything_else_is_trouble() {
        let event_of = |code: Code, text: &str| {
            let reports = Reports::default();
            reports.report_partition(code as c_int, text);
            take(&reports, &["in".into(), "in.2".into()])
        };
        let gone = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        let event = event_of(gone, "in.2 [3]: topic does not exist");
        assert!(matches!(&event, Some(Event::Missing(text)) if text.contains("topic in.2 does not exist any more")));
        assert!(matches!(event_of(gone, "other [3]: topic does not exist"), Some(Event::Trouble(_))));
        assert!(matches!(event_of(Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, "in [3]: x"), Some(Event::Trouble(_))));
    }
}
