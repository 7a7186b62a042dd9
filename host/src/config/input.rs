//! `[input]`: the topics that the pipeline reads, from where, and what identifies a record.

use crate::config::plan::{Input, Start, Tombstones};
use crate::record::RecordId;

use super::name;
use super::section::Section;
use super::value::{Field, Setting};

pub(super) struct InputSettings {
    pub topics: Vec<Setting<String>>,
    pub group: Setting<String>,
    id: RecordId,
    start: Start,
    tombstones: Tombstones,
}

impl InputSettings {
    pub fn plan(self) -> Input {
        Input {
            topics: self.topics.into_iter().map(|topic| topic.value).collect(),
            group: self.group.value,
            id: self.id,
            start: self.start,
            tombstones: self.tombstones,
        }
    }
}

pub(super) fn read(section: &Section<'_>, pipeline: &str, has_feedback: bool) -> Option<InputSettings> {
    let topics = topics(section);
    let group = format!("sandpiper.{pipeline}");
    let group = section.text("group", name::group).or(group.clone(), group);
    let id = id(section, has_feedback);
    let start = section.choice("start", &[("earliest", Start::Earliest), ("latest", Start::Latest)]);
    let start = start.or(Start::Earliest, "earliest");
    let tombstones = section.choice(
        "tombstones",
        &[("dead-letter", Tombstones::DeadLetter), ("drop", Tombstones::Drop), ("pass", Tombstones::Pass)],
    );
    let tombstones = tombstones.or(Tombstones::DeadLetter, "dead-letter");
    section.finish();
    Some(InputSettings {
        topics: topics?,
        group: group?,
        id: id?.value,
        start: start?.value,
        tombstones: tombstones?.value,
    })
}

fn topics(section: &Section<'_>) -> Option<Vec<Setting<String>>> {
    let found = section.list("topics", "[\"iris.measurements\"]", name::topic);
    let topics = section.required("topics", found, "write topics = [\"iris.measurements\"]")?;
    if let Some(at) = topics.at.as_ref().filter(|_| topics.value.is_empty()) {
        section.file.mistake(at, section.key("topics"), "is empty: name at least one topic");
        return None;
    }
    Some(topics.value)
}

/// With feedback there is no default: keys repeat in most topics, and a label must find exactly its prediction.
fn id(section: &Section<'_>, has_feedback: bool) -> Option<Setting<RecordId>> {
    let found = section.text("id", name::record_id);
    if has_feedback && matches!(found, Field::Absent) {
        section.file.absent(
            &section.at,
            section.key("id"),
            "missing: with [feedback] it must be said what a label finds its prediction by: \
             id = \"key\", \"header:NAME\", \"json:/pointer\" or \"position\" (topic-partition-offset)",
        );
        return None;
    }
    found.or(RecordId::Position, "position")
}
