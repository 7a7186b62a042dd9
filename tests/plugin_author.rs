//! What a plugin's author is told works as it is told, outside of the checkout.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sandpiper::authoring::letter_test::{Seen, Tested, text};
use sandpiper::replay::Facts;
use sandpiper_sandbox::stage::{Parse as _, WasmParser};
use sandpiper_sandbox::{Engine, Limits, Opening, Plugin};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The first block of that language in the page on plugins that contains these words.
fn block(language: &str, words: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.find(|block| block.contains(words)).unwrap().to_owned()
}

/// A folder with the checkout beside the crate of the page's first example, as the page says.
fn crate_beside_checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root(), folder.path().join("sandpiper")).unwrap();
    std::fs::create_dir_all(folder.path().join("celsius/src")).unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join("celsius").join(file), text).unwrap();
    write("Cargo.toml", &block("toml", "name = \"celsius\""));
    write("src/lib.rs", &block("rust", "export_parser!(Celsius)"));
    // The versions that are here already.
    std::fs::copy(root().join("Cargo.lock"), folder.path().join("celsius/Cargo.lock")).unwrap();
    folder
}

fn cargo(folder: &Path, arguments: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") || name.starts_with("RUSTFLAGS") || name == "RUSTC" {
            cargo.env_remove(name);
        }
    }
    // One for all: each of these crates has the same dependencies.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin_author");
    cargo.args(arguments).arg("--offline").arg("--target-dir").arg(target);
    let output = cargo.current_dir(folder.join("celsius")).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cargo {arguments:?}:\n{out}\n{errors}");
}

#[test]
fn the_first_example_runs_as_written_outside_of_the_checkout() {
    let folder = crate_beside_checkout();
    cargo(folder.path(), &["test"]);
    cargo(folder.path(), &["build", "--release", "--target", "wasm32-wasip2"]);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin_author/wasm32-wasip2/release/celsius.wasm");
    let engine = Engine::new(None, sandpiper_sandbox::Compiler::InProcess).unwrap();
    let plugin = Arc::new(Plugin::load(&engine, "celsius", &std::fs::read(built).unwrap()).unwrap());
    let opening = Opening { config: r#"{"column": "temperature"}"#.into(), ..Opening::default() };
    let (mut parser, columns) = WasmParser::open(plugin, Limits::default(), opening).unwrap();
    assert_eq!(columns.len(), 1);
    let topics = sandpiper::record::Topics::new(["in"]);
    let mut batch = sandpiper::record::BatchBuilder::new(topics);
    let origin = sandpiper::record::Origin { topic: sandpiper::record::TopicIndex::FIRST, partition: 0, offset: 0 };
    batch.push(origin, None, None, Some(b"212F"), None);
    let parsed = parser.parse(&batch.finish(), Limits::default().deadline).unwrap();
    assert_eq!(parsed.rows.values, [100.0]);
}

/// Rejects a row whose context is not the one of `the_letters`.
const TRANSFORM: &str = r#"
pub struct Strict;

#[derive(Deserialize)]
pub struct Nothing {}

impl sandpiper_sdk::Transform for Strict {
    type Config = Nothing;

    fn open(_: Self::Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn outputs(&self) -> Vec<String> {
        vec!["out".to_owned()]
    }

    fn transform(&mut self, record: &Record<'_>, out: &mut sandpiper_sdk::Emitter) -> Result<(), Reject> {
        let null = record.value().is_empty();
        let given = (record.key(), record.header("null"), record.header("q\"uote"), record.timestamp());
        if given != (Some(b"k\"\\\xff\0".to_vec()), None, Some(b"\r\n\xfe".to_vec()), Some(-7)) || record.is_null() != null {
            return Err(reject("other-context", format!("{given:?}")));
        }
        if record.origin().offset != 9 {
            return Err(reject("other-origin", ""));
        }
        out.emit(0, record.value());
        Ok(())
    }
}

sandpiper_sdk::export_transform!(Strict);

#[cfg(test)]
mod letters;
"#;

/// Letters whose records, messages, reasons and configurations hold what ends a string or a comment in Rust.
fn the_letters() -> String {
    let facts = |stage: &str, reason: &str, partition: i32| Facts {
        topic: "in".into(),
        partition,
        offset: 9,
        stage: stage.into(),
        release: Some("p\"@0c1d\n".into()),
        reason: reason.into(),
        message: "\"##; */ \u{2028}\r panic!()\nsecond line".into(),
        ..Facts::default()
    };
    let seen = |value: Option<&[u8]>| Seen {
        key: Some(b"k\"\\\xff\0".to_vec()),
        value: value.map(<[u8]>::to_vec),
        headers: vec![
            ("null".into(), Some(b"x".to_vec())),
            ("null".into(), None),
            ("q\"uote".into(), Some(b"\r\n\xfe".to_vec())),
        ],
        timestamp: Some(-7),
    };
    let config = r###"{"column": "a\"##\\ {} \n"}"###;
    [
        text(&facts("parse", "invalid-utf8", 0), Tested::Parser, config, &[seen(Some(b"\xff\"\\{}\n"))]),
        text(&facts("parse", "no-temperature", 1), Tested::Parser, config, &[seen(Some(b"21C")), seen(Some(b"warm"))]),
        text(&facts("parse", "plugin-trap", 2), Tested::Parser, config, &[seen(Some(b"21C"))]),
        text(&facts("transform[0]", "plugin-trap", 3), Tested::Transform, "{}", &[seen(Some(b"a\"")), seen(None)]),
    ]
    .join("\n")
}

#[test]
fn a_letter_as_a_test_compiles_whatever_it_holds_and_gives_the_plugin_what_the_stage_saw() {
    let folder = crate_beside_checkout();
    let library = folder.path().join("celsius/src/lib.rs");
    let example = std::fs::read_to_string(&library).unwrap();
    std::fs::write(&library, example + TRANSFORM).unwrap();
    let letters = the_letters();
    assert_eq!(letters.matches("#[test]").count(), 4);
    std::fs::write(folder.path().join("celsius/src/letters.rs"), letters).unwrap();
    cargo(folder.path(), &["test"]);
}
