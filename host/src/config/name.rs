//! The rules for names of pipelines, topics and groups, for record ids and for JSON pointers.
//!
//! An error completes a sentence that begins with the value as found, and so does not repeat it.

use super::daemon::control;
use crate::record::{Pointer, RecordId};

/// The control topics of a daemon whose file does not name others: a pipeline neither reads nor writes them.
const CONTROL_TOPICS: [&str; 3] = ["sandpiper.commands", "sandpiper.deployments", "sandpiper.artifacts"];
/// The longest name that Kafka gives a topic, bytes.
const LONGEST_TOPIC: usize = 249;

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A pipeline's name.
pub(super) fn pipeline(text: &str) -> Result<String, String> {
    if (1..=100).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("is no pipeline name: 1 to 100 letters, digits, '.', '_' and '-'".into())
}

/// A topic's name, by Kafka's rule.
pub(super) fn topic(text: &str) -> Result<String, String> {
    if text.starts_with('^') {
        return Err("is a pattern, and topics are named one by one: co-partitioning, positions and the check for \
                    missing topics need a list that cannot grow under a running pipeline"
            .into());
    }
    if CONTROL_TOPICS.contains(&text) {
        return Err("belongs to Sandpiper's control plane".into());
    }
    if matches!(text, "__consumer_offsets" | "__transaction_state" | "__cluster_metadata" | "__share_group_state") {
        return Err("belongs to Kafka itself".into());
    }
    if (1..=LONGEST_TOPIC).contains(&text.len()) && text.chars().all(is_plain) && text != "." && text != ".." {
        return Ok(text.to_owned());
    }
    Err("is no topic name: 1 to 249 letters, digits, '.', '_' and '-', and not \".\" or \"..\"".into())
}

/// What the names of the control topics begin with.
pub(super) fn control_topics(text: &str) -> Result<String, String> {
    // The longest of the three ends with it.
    let longest = LONGEST_TOPIC - control::DEPLOYMENTS.len();
    if (1..=longest).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "is nothing that a topic's name begins with: 1 to {longest} letters, digits, '.', '_' and '-', as \"sandpiper\" for \
         sandpiper.commands, sandpiper.deployments and sandpiper.artifacts"
    ))
}

/// A daemon's name, which is part of transactional ids.
pub(super) fn instance(text: &str) -> Result<String, String> {
    if (1..=100).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("is no name of a daemon: 1 to 100 letters, digits, '.', '_' and '-'".into())
}

/// A name that a URL has for a machine.
pub(super) fn host(text: &str) -> Result<String, String> {
    if (1..=253).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
        return Ok(text.to_owned());
    }
    Err("is no host's name: write it without scheme, port and path, as \"sandpiper.example.com\"".into())
}

pub(super) fn group(text: &str) -> Result<String, String> {
    if (1..=249).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err("is no consumer group: 1 to 249 bytes without control characters or spaces at its ends".into())
}

/// `key`, `header:NAME`, `json:/pointer`, `position`.
pub(super) fn record_id(text: &str) -> Result<RecordId, String> {
    match text.split_once(':') {
        Some(("header", name)) if !name.is_empty() => Ok(RecordId::Header(name.to_owned())),
        Some(("json", pointer)) => json_pointer(pointer).map(RecordId::Json),
        _ => match text {
            "key" => Ok(RecordId::Key),
            "position" => Ok(RecordId::Position),
            _ => Err("is not allowed: \"key\", \"header:NAME\", \"json:/pointer\" or \"position\"".into()),
        },
    }
}

/// `json:/pointer`, as the pointer alone.
pub(super) fn json(text: &str) -> Result<Pointer, String> {
    match text.strip_prefix("json:") {
        Some(pointer) => json_pointer(pointer),
        None => {
            Err("is not allowed: \"json:/pointer\"; leave the key out when the value itself is the class name".into())
        }
    }
}

/// RFC 6901: empty, or steps that begin with '/', with `~0` for '~' and `~1` for '/'.
fn json_pointer(pointer: &str) -> Result<Pointer, String> {
    Pointer::new(pointer).map_err(|_| {
        "is no JSON pointer: each step begins with '/', as \"json:/order/id\"; a '~' is written ~0, a '/' in a name ~1".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_obeys_kafkas_rule() {
        for right in ["iris.measurements", "a", "A_b-9", "...", &"x".repeat(249)] {
            assert!(topic(right).is_ok(), "{right}");
        }
        for wrong in
            ["", ".", "..", "a b", "é", "a/b", "^iris", "__consumer_offsets", "sandpiper.commands", &"x".repeat(250)]
        {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pipeline_name_fits_into_group_and_transactional_ids() {
        assert!(pipeline(&"x".repeat(100)).is_ok());
        for wrong in ["", "a b", "ä", "a/b", &"x".repeat(101)] {
            assert!(pipeline(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_names_of_control_topics_are_topics_names_with_their_ends() {
        for right in ["sandpiper", "eu.1", &"x".repeat(237)] {
            let prefix = control_topics(right).unwrap();
            assert!(topic(&format!("{prefix}{}", control::DEPLOYMENTS)).is_ok() || right == "sandpiper", "{right}");
        }
        for wrong in ["", "a b", "^eu", "é", &"x".repeat(238)] {
            assert!(control_topics(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_named_without_scheme_port_and_path() {
        assert!(host("sandpiper.example.com").is_ok());
        for wrong in ["", "https://a", "a:8642", "a/b", "a b"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_has_no_stray_spaces() {
        assert!(group("fraud team").is_ok());
        for wrong in ["", " a", "a\n"] {
            assert!(group(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_record_id_has_four_forms() {
        assert_eq!(record_id("key"), Ok(RecordId::Key));
        assert_eq!(record_id("position"), Ok(RecordId::Position));
        assert_eq!(record_id("header:a:b"), Ok(RecordId::Header("a:b".into())));
        assert_eq!(record_id("json:/a/0~1b"), Ok(RecordId::Json(Pointer::new("/a/0~1b").unwrap())));
        for wrong in ["", "Key", "header:", "header", "json:a", "json:/a~2", "json:/a~", "offset"] {
            assert!(record_id(wrong).is_err(), "{wrong}");
        }
    }
}
