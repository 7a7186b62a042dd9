//! What the documents say of the tree is true.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};

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

/// The rooms of `host/src` as the architecture lists them, the lowest first.
fn rooms() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("## The rooms").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let room = |line: &str| Some(line.strip_prefix("| `host/src/")?.split('/').next()?.to_owned());
    table.lines().filter_map(room).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// What a file of the product holds; tests may look into any room, to tell a story that goes through several.
fn production(path: &Path) -> Option<String> {
    let is_test = |name: &str| name == "tests" || name == "fakes";
    let parts = path.components().map(|part| part.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned());
    if parts.skip_while(|part| part != "src").any(|part| is_test(&part)) {
        return None;
    }
    let text = std::fs::read_to_string(path).unwrap();
    Some(text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned())
}

/// The modules that a line names from the crate's root, for a file that stands so many modules below it.
fn named(line: &str, depth: usize) -> Vec<String> {
    let from = |start: &str| {
        let rest = line.split(start).skip(1);
        rest.map(|rest| rest.split(|end: char| !end.is_alphanumeric() && end != '_').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut all = from("crate::");
    all.extend(from(&"super::".repeat(depth)).into_iter().filter(|name| name != "super"));
    all
}

#[test]
fn a_room_imports_downwards_only() {
    let (rooms, source) = (rooms(), root().join("host/src"));
    let rank = |name: &str| rooms.iter().position(|room| room == name);
    for entry in std::fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // An empty folder is what another checkout left behind.
        let is_room = path.is_dir() && !files(&path).is_empty();
        assert!(!is_room || rank(name).is_some(), "{name} is a room that ARCHITECTURE.md does not list");
        assert!(path.is_dir() || ["lib.rs", "main.rs"].contains(&name), "{name} stands outside of every room");
    }
    let (mut imports, mut upwards) = (0, Vec::new());
    for (height, room) in rooms.iter().enumerate() {
        for path in files(&source.join(room)) {
            let Some(text) = production(&path) else { continue };
            let shown = path.strip_prefix(&source).unwrap();
            let depth = shown.components().count() - usize::from(shown.ends_with("mod.rs"));
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                assert!(!line.contains("crate::{"), "{}:{}: a line for each room, please", shown.display(), at + 1);
                for other in named(line, depth).iter().filter_map(|name| rank(name)) {
                    imports += 1;
                    if other > height {
                        upwards.push(format!("{}:{}: {}", shown.display(), at + 1, line.trim()));
                    }
                }
            }
        }
    }
    assert!(imports > 200, "only {imports} imports were found: has the notation changed?");
    assert!(upwards.is_empty(), "these import from a room above their own:\n{}", upwards.join("\n"));
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
        "output_bytes",
        "fetch_queue",
        "producer_queue",
        "worker_memory",
        "pipelines",
        "instance",
        "state",
        "listen",
        "certificate",
        "key",
        "hosts",
        "token_file",
        "time",
        "memory",
    ];
    for key in keys {
        assert!(
            quoted(&text).any(|quote| quote == key || quote.ends_with(&format!(".{key}"))),
            "{key} is not documented"
        );
    }
}

#[test]
fn the_signatures_that_a_plugin_author_is_shown_are_the_sdks() {
    let page = std::fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let shown = page.split("```rust\n").find(|block| block.starts_with("pub trait Parser")).unwrap();
    let shown = shown.split("```").next().unwrap().replace("serde::de::", "");
    let sources: String = ["parser", "classifier", "learner", "scorer", "transform"]
        .map(|file| std::fs::read_to_string(root().join(format!("plugins/sdk/src/{file}.rs"))).unwrap())
        .concat();
    let signatures: Vec<&str> = shown.lines().map(|line| line.trim().trim_end_matches([';', '{']).trim()).collect();
    let signatures: Vec<&&str> = signatures.iter().filter(|line| line.len() > 1).collect();
    assert!(signatures.len() > 20, "only {} signatures were found", signatures.len());
    let missing: Vec<&&&str> = signatures.iter().filter(|signature| !sources.contains(**signature)).collect();
    assert!(missing.is_empty(), "the SDK has no {missing:?}");
}

#[test]
fn no_length_is_cast_to_a_smaller_number() {
    let (mut casts, mut files_read) = (Vec::new(), 0);
    for path in files(&root().join("host")).into_iter().filter(|path| path.extension().is_some_and(|it| it == "rs")) {
        let Some(text) = production(&path) else { continue };
        files_read += 1;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            // A duration's milliseconds, which the caller bounds, are no length.
            let cast = ["u8", "u16", "u32", "i8", "i16", "i32"].iter().any(|to| {
                let cast = format!(" as {to}");
                let whole = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
                line.split(cast.as_str()).skip(1).any(whole)
            });
            if cast && !line.contains("as_millis()") {
                casts.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(files_read > 100, "only {files_read} files were read");
    assert!(casts.is_empty(), "what does not fit must not wrap; use try_from:\n{}", casts.join("\n"));
}

/// Each route of the admin API and the methods that it answers, as the source has them.
fn routes() -> Vec<(String, String)> {
    let source = std::fs::read_to_string(root().join("host/src/api/routes.rs")).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let mut routes = Vec::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, methods) = route.split_once('"').unwrap();
        let methods = methods.split('\n').next().unwrap();
        for method in ["get", "post", "put"].into_iter().filter(|method| methods.contains(&format!("{method}("))) {
            routes.push((path.to_owned(), method.to_owned()));
        }
    }
    routes.sort();
    routes
}

#[test]
fn the_admin_apis_document_has_every_route_and_no_other_and_refers_to_what_it_has() {
    let text = std::fs::read_to_string(root().join("host/src/api/openapi.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut documented: Vec<(String, String)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() && operation["responses"]["200"].is_object(), "{method} {path}");
            documented.push((path.clone(), method.clone()));
        }
    }
    documented.sort();
    assert!(documented.len() > 15, "only {documented:?}");
    assert_eq!(documented, routes());
    for reference in text.split("\"$ref\": \"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer} is not there");
    }
}
