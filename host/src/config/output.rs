//! `[output]` and `[errors]`: what the pipeline writes, and how.

use crate::config::plan::{Errors, Output, Partition, Policy, Stamp, Timestamp};

use super::name;
use super::section::Section;
use super::value::Written;

/// Share of dead letters that a stream in good order does not come near.
const PAUSE_ABOVE: f32 = 0.2;

/// `[output]`.
pub(super) struct Read {
    pub topic: Written<String>,
    stamp: Stamp,
    timestamp: Timestamp,
    partition: Partition,
    min_confidence: f32,
}

impl Read {
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

pub(super) fn read(section: &Section<'_>, classifies: bool, feeds_back: bool) -> Option<Read> {
    let topic = section.required("topic", section.text("topic", name::topic), "write topic = \"iris.predictions\"");
    let stamp = stamp(section, classifies, feeds_back);
    let timestamp = section.choice("timestamp", &[("input", Timestamp::Input), ("now", Timestamp::Now)]);
    let timestamp = timestamp.or(Timestamp::Input, "input");
    let partition = section.choice("partition", &[("input", Partition::Input), ("key", Partition::Key)]);
    let partition = partition.or(Partition::Input, "input");
    let min_confidence = section.fraction("min_confidence", 0.0);
    if !classifies {
        section.refuse(
            "min_confidence",
            "only a prediction has a confidence, and this pipeline has no [classify]: leave it out",
        );
    }
    section.finish();
    Some(Read {
        topic: topic?,
        stamp: stamp?,
        timestamp: timestamp?.value,
        partition: partition?.value,
        min_confidence: min_confidence?.value,
    })
}

fn stamp(section: &Section<'_>, classifies: bool, feeds_back: bool) -> Option<Stamp> {
    let (default, shown) = if classifies { (Stamp::Value, "value") } else { (Stamp::Header, "header") };
    let found = section.choice("stamp", &[("value", Stamp::Value), ("header", Stamp::Header), ("none", Stamp::None)]);
    let stamp = found.or(default, shown)?;
    let reason = match stamp.value {
        Stamp::Value if !classifies => {
            "needs [classify]: a transform writes the value itself, so the stamp stands in a header: \"header\" or \"none\""
        }
        // Without [classify], [feedback] itself is the mistake.
        Stamp::Header | Stamp::None if feeds_back && classifies => {
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
pub(super) struct ErrorsRead {
    pub dead_letters: Written<String>,
    rejected: Policy,
    failed: Policy,
    pause_above: f32,
}

impl ErrorsRead {
    pub fn plan(self) -> Errors {
        Errors {
            dead_letters: self.dead_letters.value,
            rejected: self.rejected,
            failed: self.failed,
            pause_above: self.pause_above,
        }
    }
}

pub(super) fn errors(section: &Section<'_>, pipeline: &str) -> Option<ErrorsRead> {
    let default = format!("{pipeline}.dead-letters");
    let dead_letters = section.text("dead_letters", name::topic).or(default.clone(), default);
    let policy = |key| {
        let all = [("dead-letter", Policy::DeadLetter), ("drop", Policy::Drop), ("stop", Policy::Stop)];
        section.choice(key, &all).or(Policy::DeadLetter, "dead-letter")
    };
    let (rejected, failed) = (policy("rejected"), policy("failed"));
    let pause_above = section.fraction("pause_above", PAUSE_ABOVE);
    section.finish();
    Some(ErrorsRead {
        dead_letters: dead_letters?,
        rejected: rejected?.value,
        failed: failed?.value,
        pause_above: pause_above?.value,
    })
}
