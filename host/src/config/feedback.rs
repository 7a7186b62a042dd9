//! `[feedback]`: the topic of labels, how each finds its prediction, and the scorer that compares them.

use std::time::Duration;

use crate::config::plan::{Feedback, Stage};
use crate::record::{Pointer, RecordId};

use super::file::File;
use super::section::Section;
use super::unit::{GIB, MIB};
use super::value::{Field, Setting};
use super::{input, name, stage};

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) struct FeedbackSettings {
    pub labels: Setting<String>,
    pub scores: Setting<String>,
    group: Setting<String>,
    id: RecordId,
    class: Option<Pointer>,
    wait: Duration,
    max_entries: usize,
    pub max_bytes: Setting<usize>,
    score: Stage,
}

impl FeedbackSettings {
    pub fn plan(self) -> Feedback {
        Feedback {
            labels: self.labels.value,
            id: self.id,
            class: self.class,
            scores: self.scores.value,
            group: self.group.value,
            wait: self.wait,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes.value,
            score: self.score,
        }
    }
}

pub(super) fn read(section: &Section<'_>, pipeline: &str, has_classifier: bool) -> Option<FeedbackSettings> {
    if !has_classifier {
        let message = "needs [classify]: a label judges a prediction, and this pipeline makes none";
        section.file.absent(&section.at, "[feedback]", message);
    }
    let labels = section.required("labels", section.text("labels", name::topic), "write labels = \"iris.labels\"");
    let id = section.text("id", label_id).or(RecordId::Key, "key");
    let class = match section.text("class", name::json) {
        Field::Absent => Some(None),
        found => found.valid().map(|class| Some(class.value)),
    };
    let scores = format!("{pipeline}.scores");
    let scores = section.text("scores", name::topic).or(scores.clone(), scores);
    let group = format!("sandpiper.{pipeline}.feedback");
    let group = section.text("group", name::group).or(group.clone(), group);
    let wait = section.duration("wait", 24 * HOUR, Duration::from_secs(1)..=3650 * 24 * HOUR);
    let max_entries = section.count("max_entries", 1_000_000, 1..=100_000_000);
    let max_bytes = section.size("max_bytes", 256 * MIB, MIB..=1024 * GIB);
    let score = section.table("score", "score = { plugin = \"loss\", config = { metric = \"error\" } }");
    let score = score.and_then(|score| stage::scorer(score.as_ref()));
    section.finish();
    Some(FeedbackSettings {
        labels: labels?,
        scores: scores?,
        group: group?,
        id: id?.value,
        class: class?,
        wait: wait?.value,
        max_entries: max_entries?.value,
        max_bytes: max_bytes?,
        score: score?,
    })
}

/// A label's own position does not identify the record that it judges.
fn label_id(text: &str) -> Result<RecordId, String> {
    match name::record_id(text) {
        Ok(RecordId::Position) => Err(
            "is where the label stands, not the record that it judges: \"key\", \"header:NAME\" or \"json:/pointer\""
                .into(),
        ),
        Err(_) if !text.starts_with("json:") => {
            Err("is not allowed: \"key\", \"header:NAME\" or \"json:/pointer\"".into())
        }
        other => other,
    }
}

/// Two loops in one group would take each other's partitions.
pub(super) fn check_group(file: &File<'_>, feedback: &FeedbackSettings, input: &input::InputSettings) {
    if feedback.group.value != input.group.value {
        return;
    }
    let (key, group) = match &feedback.group.at {
        Some(_) => ("[feedback] group", &feedback.group),
        None => ("[input] group", &input.group),
    };
    if let Some(at) = &group.at {
        let message = "is the group of [input] and of [feedback]: each is a loop of its own and needs its own group";
        file.mistake(at, key, format!("{} {message}", group.shown));
    }
}
