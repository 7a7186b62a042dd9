//! What the documents say of the tree is true.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_path_in_the_architecture_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let is_path = |quote: &&str| {
        let top = ["wit/", "plugins/", "host/", "tests/", "data/", "deploy/", "docs/"];
        top.iter().any(|folder| quote.starts_with(folder)) && !quote.contains(' ')
    };
    let paths: Vec<&str> = quoted(&text).filter(is_path).collect();
    assert!(paths.len() > 30, "only {} paths were found: has the notation changed?", paths.len());
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what does not exist: {missing:?}");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let documents = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(Into::into);
    let docs = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()));
    for document in documents.into_iter().chain(docs) {
        let path = root().join(&document);
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(target).exists(), "{document} links to {target}, which does not exist");
        }
    }
}

#[test]
fn every_configuration_key_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let keys = [
        "topics",
        "group",
        "id",
        "start",
        "tombstones",
        "plugin",
        "model",
        "config",
        "outputs",
        "topic",
        "stamp",
        "timestamp",
        "partition",
        "min_confidence",
        "dead_letters",
        "labels",
        "class",
        "scores",
        "wait",
        "max_entries",
        "score",
        "guarantee",
        "commit_interval",
        "max_records",
        "max_bytes",
        "budget",
        "transaction_timeout",
        "max_poll_interval",
        "workers",
        "plugin_memory",
        "deadline",
        "batch_records",
        "batch_bytes",
        "fetch_queue",
        "producer_queue",
        "worker_memory",
    ];
    for key in keys {
        assert!(
            quoted(&text).any(|quote| quote == key || quote.ends_with(&format!(".{key}"))),
            "{key} is not documented"
        );
    }
}

/// The rooms of `host/src`, from the bottom.
const ROOMS: [&str; 13] = [
    "record",
    "config",
    "stream",
    "pipeline",
    "kafka",
    "feedback",
    "replay",
    "control",
    "daemon",
    "api",
    "authoring",
    "demo",
    "cli",
];

#[test]
fn rooms_import_downwards_only() {
    let mut upwards = Vec::new();
    for (at, room) in ROOMS.iter().enumerate() {
        for (file, text) in sources(&root().join("host/src").join(room)) {
            let above = ROOMS.iter().skip(at + 1);
            upwards.extend(
                above.filter(|other| text.contains(&format!("crate::{other}"))).map(|other| (file.clone(), other)),
            );
        }
    }
    assert!(upwards.is_empty(), "{upwards:?}");
    let texts: Vec<_> = ROOMS.iter().flat_map(|room| sources(&root().join("host/src").join(room))).collect();
    let of_many = texts.iter().filter(|(_, text)| text.contains("use crate::{"));
    let of_many: Vec<_> = of_many.map(|(file, _)| file.strip_prefix(root()).unwrap().to_owned()).collect();
    assert_eq!(of_many, [Path::new("host/src/stream/worker/tests.rs")], "the stories run what stands above them");
}

fn sources(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}
