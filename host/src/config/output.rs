//! `[output]` and `[errors]`: the topics that the pipeline writes, and what becomes of a record that fails.

use crate::config::plan::{Errors, Output, Partition, Policy, Stamp, Timestamp};

use super::name;
use super::section::Section;
use super::value::Setting;

/// The default share of dead letters that pauses a pipeline: a healthy stream stays far below it.
const PAUSE_ABOVE: f32 = 0.2;

/// `[output]`.
pub(super) struct OutputSettings {
    pub topic: Setting<String>,
    stamp: Stamp,
    timestamp: Timestamp,
    partition: Partition,
    min_confidence: f32,
}

impl OutputSettings {
    pub fn plan(self) -> Output {
        Output {
            topic: self.topic.value,
            stamp: self.stamp,
            timestamp: self.timestamp,
            partition: self.partition,
            min_confidence: self.min_confidence,
        }
    }
}

pub(super) fn read(section: &Section<'_>, has_classifier: bool, has_feedback: bool) -> Option<OutputSettings> {
    let topic = section.required("topic", section.text("topic", name::topic), "write topic = \"iris.predictions\"");
    let stamp = stamp(section, has_classifier, has_feedback);
    let timestamp = section.choice("timestamp", &[("input", Timestamp::Input), ("now", Timestamp::Now)]);
    let timestamp = timestamp.or(Timestamp::Input, "input");
    let partition = section.choice("partition", &[("input", Partition::Input), ("key", Partition::Key)]);
    let partition = partition.or(Partition::Input, "input");
    let min_confidence = section.fraction("min_confidence", 0.0);
    if !has_classifier {
        section.refuse(
            "min_confidence",
            "only a prediction has a confidence, and this pipeline has no [classify]: leave it out",
        );
    }
    section.finish();
    Some(OutputSettings {
        topic: topic?,
        stamp: stamp?,
        timestamp: timestamp?.value,
        partition: partition?.value,
        min_confidence: min_confidence?.value,
    })
}

fn stamp(section: &Section<'_>, has_classifier: bool, has_feedback: bool) -> Option<Stamp> {
    let (default, shown) = if has_classifier { (Stamp::Value, "value") } else { (Stamp::Header, "header") };
    let found = section.choice("stamp", &[("value", Stamp::Value), ("header", Stamp::Header), ("none", Stamp::None)]);
    let stamp = found.or(default, shown)?;
    let reason = match stamp.value {
        Stamp::Value if !has_classifier => {
            "needs [classify]: a transform writes the value itself, so the stamp stands in a header: \"header\" or \"none\""
        }
        // Without [classify], [feedback] itself is the mistake.
        Stamp::Header | Stamp::None if has_feedback && has_classifier => {
            "does not go with [feedback], which reads id, revision and role from the predictions' values: \"value\""
        }
        _ => return Some(stamp.value),
    };
    if let Some(at) = &stamp.at {
        section.file.mistake(at, section.key("stamp"), format!("{} {reason}", stamp.shown));
    }
    Some(stamp.value)
}

/// `[errors]`.
pub(super) struct ErrorsSettings {
    pub dead_letters: Setting<String>,
    rejected: Policy,
    failed: Policy,
    pause_above: f32,
}

impl ErrorsSettings {
    pub fn plan(self) -> Errors {
        Errors {
            dead_letters: self.dead_letters.value,
            rejected: self.rejected,
            failed: self.failed,
            pause_above: self.pause_above,
        }
    }
}

pub(super) fn errors(section: &Section<'_>, pipeline: &str) -> Option<ErrorsSettings> {
    let default = format!("{pipeline}.dead-letters");
    let dead_letters = section.text("dead_letters", name::topic).or(default.clone(), default);
    let policy = |key| {
        let all = [("dead-letter", Policy::DeadLetter), ("drop", Policy::Drop), ("stop", Policy::Stop)];
        section.choice(key, &all).or(Policy::DeadLetter, "dead-letter")
    };
    let (rejected, failed) = (policy("rejected"), policy("failed"));
    let pause_above = section.fraction("pause_above", PAUSE_ABOVE);
    section.finish();
    Some(ErrorsSettings {
        dead_letters: dead_letters?,
        rejected: rejected?.value,
        failed: failed?.value,
        pause_above: pause_above?.value,
    })
}
