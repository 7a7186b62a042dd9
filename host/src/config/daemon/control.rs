//! `[control]`: how a daemon is controlled through Kafka, and which topics that takes.

use crate::config::plan::Properties;

use super::super::section::Section;
use super::super::{kafka, name};

/// The longest of what the names of the three topics end with.
pub(in crate::config) const DEPLOYMENTS: &str = ".deployments";

const DEFAULT: &str = "sandpiper";

/// Control through Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// What the names of its topics begin with.
    pub topics: String,
    /// librdkafka's own properties, as pasted, secrets substituted.
    pub kafka: Properties,
}

impl Control {
    pub fn commands(&self) -> String {
        format!("{}.commands", self.topics)
    }

    pub fn deployments(&self) -> String {
        format!("{}{DEPLOYMENTS}", self.topics)
    }

    pub fn artifacts(&self) -> String {
        format!("{}.artifacts", self.topics)
    }
}

/// `None` when something is wrong.
pub(super) fn read(section: &Section<'_>) -> Option<Control> {
    let topics = section.text("topics", name::control_topics).or(DEFAULT.to_owned(), DEFAULT);
    let kafka = section.section("kafka", "bootstrap.servers = \"127.0.0.1:9092\"")?;
    section.finish();
    if !kafka.is_present() {
        section.file.absent(
            &section.at,
            "[control.kafka]",
            "missing: [control] is control through Kafka, so write [control.kafka], and below it bootstrap.servers = \
             \"127.0.0.1:9092\"; or leave [control] out",
        );
        return None;
    }
    let properties = kafka::read_for_control(&kafka);
    Some(Control { topics: topics?.value, kafka: properties })
}
