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
