//! `[input]`: what the pipeline reads.

use crate::config::plan::{Input, Start, Tombstones};
use crate::record::RecordId;

use toml::de::DeValue;

use super::name;
use super::section::Section;
use super::value::{self, Found, Written, kind};

pub(super) struct Read {
    pub topics: Vec<Written<String>>,
    pub group: Written<String>,
    id: RecordId,
    start: Start,
    tombstones: Tombstones,
}

impl Read {
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

pub(super) fn read(section: &Section<'_>, pipeline: &str, feeds_back: bool) -> Option<Read> {
    let topics = topics(section);
    let group = format!("sandpiper.{pipeline}");
    let group = section.text("group", name::group).or(group.clone(), group);
    let id = id(section, feeds_back);
    let start = section.choice("start", &[("earliest", Start::Earliest), ("latest", Start::Latest)]);
    let start = start.or(Start::Earliest, "earliest");
    let tombstones = section.choice(
        "tombstones",
        &[("dead-letter", Tombstones::DeadLetter), ("drop", Tombstones::Drop), ("pass", Tombstones::Pass)],
    );
    let tombstones = tombstones.or(Tombstones::DeadLetter, "dead-letter");
    section.finish();
    Some(Read { topics: topics?, group: group?, id: id?.value, start: start?.value, tombstones: tombstones?.value })
}

fn topics(section: &Section<'_>) -> Option<Vec<Written<String>>> {
    let key = section.key("topics");
    let Some(value) = section.get("topics") else {
        section.file.absent(&section.at, key, "missing: write topics = [\"iris.measurements\"]");
        return None;
    };
    let DeValue::Array(items) = value.get_ref() else {
        let message = format!("found {}: expected a list, as [\"iris.measurements\"]", kind(value));
        section.file.mistake(&value.span(), key, message);
        return None;
    };
    if items.is_empty() {
        section.file.mistake(&value.span(), key, "is empty: name at least one topic");
        return None;
    }
    super::all(items.iter().map(|item| value::text(section.file, item, &key, name::topic).right()).collect())
}

/// Keys repeat in most topics, so a pipeline whose labels look for their predictions says what it goes by.
fn id(section: &Section<'_>, feeds_back: bool) -> Option<Written<RecordId>> {
    let found = section.text("id", name::record_id);
    if feeds_back && matches!(found, Found::Absent) {
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
