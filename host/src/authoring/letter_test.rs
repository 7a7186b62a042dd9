//! A dead letter as a test of the plugin that did not take its record: Rust for the plugin's own crate.
//!
//! It compiles wherever `export_parser!` or `export_transform!` stands at the crate's root, whatever the record holds.

use std::fmt::Write as _;

use crate::record::Headers;
use crate::replay::Facts;

/// One record as the stage saw it.
pub struct Seen {
    pub key: Option<Vec<u8>>,
    /// `None` is a null value.
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
}

/// What the stage's plugin is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tested {
    Parser,
    Transform,
}

impl Tested {
    /// The SDK's type that drives it, what the crate's root calls it, and its call.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Parser => ("OpenParser", "crate::ExportedParser", "parse"),
            Self::Transform => ("OpenTransform", "crate::ExportedTransform", "transform"),
        }
    }
}

/// The test's text. `config` is the failing release's; `seen` are the records that stages before handed on, in their order.
pub fn text(facts: &Facts, tested: Tested, config: &str, seen: &[Seen]) -> String {
    let (open, plugin, call) = tested.names();
    let (mut payload, mut offsets) = (String::new(), vec![0]);
    let mut length = 0;
    for record in seen {
        let value = record.value.as_deref().unwrap_or_default();
        length += value.len();
        offsets.push(length);
        payload.push_str(&value.escape_ascii().to_string());
    }
    let contexts: String = seen.iter().map(|record| context(facts, record)).collect();
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = facts.reason.chars().map(word).collect();
    // A plugin that failed should take the record, or reject it with a code that its author chooses.
    let expected = match facts.reason.starts_with("plugin-") {
        true => "None".to_owned(),
        false => format!("Some({:?})", facts.reason),
    };
    format!(
        "// {topic}/{partition}@{offset}: {release} said {reason}: {message}\n\
         #[test]\n\
         fn letter_{name}_at_{partition}_{offset}() {{\n    \
             sandpiper_sdk::testing::set_context(vec![\n{contexts}    ]);\n    \
             let mut plugin = sandpiper_sdk::{open}::<{plugin}>::open({config:?}).unwrap();\n    \
             let answer = plugin.{call}(b\"{payload}\", &{offsets:?}).unwrap();\n    \
             assert_eq!(answer.rejected.first().map(|rejection| rejection.code.as_str()), {expected});\n\
         }}\n",
        topic = facts.topic.escape_debug(),
        partition = facts.partition,
        offset = facts.offset,
        release = facts.release.as_deref().unwrap_or("the plugin").escape_debug(),
        reason = facts.reason.escape_debug(),
        message = facts.message.lines().next().unwrap_or_default().escape_debug(),
    )
}

/// What the host answered about a record.
fn context(facts: &Facts, record: &Seen) -> String {
    let bytes = |bytes: &[u8]| format!("b\"{}\".to_vec()", bytes.escape_ascii());
    let optional = |value: Option<&[u8]>| value.map_or("None".to_owned(), |value| format!("Some({})", bytes(value)));
    let mut headers = String::new();
    for (name, value) in &record.headers {
        let _ = write!(headers, "({name:?}.into(), {}), ", optional(value.as_deref()));
    }
    format!(
        "        sandpiper_sdk::testing::Context {{\n            \
             key: {},\n            \
             headers: vec![{}],\n            \
             timestamp: {:?},\n            \
             origin: Some(sandpiper_sdk::Position {{ topic: {:?}.into(), partition: {}, offset: {} }}),\n            \
             null: {},\n        \
         }},\n",
        optional(record.key.as_deref()),
        headers.trim_end_matches(", "),
        record.timestamp,
        facts.topic,
        facts.partition,
        facts.offset,
        record.value.is_none(),
    )
}
