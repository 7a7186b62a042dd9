//! The functions of the host that take bytes from outside. The fuzz targets call these with anything, the hostile corpus's test
//! with the seeds. Each may return any result, and must not panic.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sandpiper::feedback::message;
use sandpiper::record::{Batch, BatchBuilder, Headers, Origin, RecordId, TopicIndex, Topics};
use sandpiper::replay::Found;
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::stage::{Classify as _, Parse as _, WasmClassifier, WasmParser};
use sandpiper_sandbox::wit::latest::Matrix;
use sandpiper_sandbox::{Compiler, Engine, Limits, Plugin};

/// A pipeline file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A secret's file would be read from this machine, and may be one that never ends.
    if text.contains("${file") {
        return;
    }
    let env = |name: &str| (name == "SET").then(|| "value".to_owned());
    let read = sandpiper::config::parse(Path::new("pipeline.toml"), text, &sandpiper_sandbox::stock::names(), &env);
    if let Err(mistakes) = read {
        assert!(!mistakes.is_empty(), "refused without a reason");
        for mistake in mistakes {
            assert!(mistake.line >= 1 && mistake.column >= 1, "{mistake}");
        }
    }
}

/// A label's value, behind a line that holds the pointer to its class: empty where the value is the class.
pub fn label(data: &[u8]) {
    let (pointer, value) = split_first_line(data);
    let batch = batch_of_one(value);
    if let Ok(label) = message::label(&batch, 0, (!pointer.is_empty()).then_some(pointer)) {
        assert!(!label.class.is_empty(), "an empty class");
    }
}

/// A value in the predictions' topic.
pub fn prediction(data: &[u8]) {
    if let Some(prediction) = message::prediction(data) {
        assert_eq!(prediction.scores.len(), prediction.classes.len());
        assert!((prediction.predicted as usize) < prediction.classes.len());
    }
}

/// A record of the dead letters' topic: a header a line, its value behind a colon, null where there is none.
pub fn letter(data: &[u8]) {
    let header = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        (String::from_utf8_lossy(name).into_owned(), value.get(1..).map(<[u8]>::to_vec))
    };
    let headers: Headers = data.split(|byte| *byte == b'\n').map(header).collect();
    match Found::read((0, 1), None, Some(data), &headers) {
        Found::Letter(letter) => assert_eq!(headers.get(..letter.headers.len()), Some(letter.headers.as_slice())),
        Found::Replayed(_) => {}
        Found::Foreign(why) => assert!(!why.is_empty(), "without a reason"),
    }
}

/// A value, behind a line that holds the pointer to its id.
pub fn pointer(data: &[u8]) {
    let (pointer, value) = split_first_line(data);
    let batch = batch_of_one(value);
    let pointed = sandpiper::record::id::pointed(pointer, value).ok();
    let id = sandpiper::record::id::of(&RecordId::Json(pointer.to_owned()), &batch, 0).ok();
    assert_eq!(pointed.as_deref(), id.as_deref());
    for id in [RecordId::Key, RecordId::Header("id".into()), RecordId::Position] {
        let _ = sandpiper::record::id::of(&id, &batch, 0);
    }
}

/// A plugin's file: loaded, opened as what it says it is, and called.
pub fn component(data: &[u8]) {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(None, Compiler::InProcess).expect("an engine"));
    let Ok(plugin) = Plugin::load(&ENGINE, "fuzzed", data).map(Arc::new) else { return };
    let deadline = Duration::from_millis(20);
    let limits = Limits { memory: 8 << 20, deadline, answer: 8 << 20 };
    let opening = || Opening { config: "{}".into(), ..Opening::default() };
    if let Ok((mut parser, _)) = WasmParser::open(plugin.clone(), limits, opening()) {
        let _ = parser.parse(&batch_of_one(b"1"), deadline);
    }
    if let Ok((mut classifier, signature)) = WasmClassifier::open(plugin, limits, opening()) {
        let columns = signature.columns.len();
        let _ = classifier.classify(&Matrix { columns: columns as u32, values: vec![0.5; columns] }, deadline);
    }
}

fn split_first_line(data: &[u8]) -> (&str, &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, value) = data.split_at(at);
    (std::str::from_utf8(line).unwrap_or_default(), value.get(1..).unwrap_or_default())
}

/// A batch of one record; its key and its header are the value too.
fn batch_of_one(value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(Topics::new(["in"]));
    let headers = ["id", "source"].map(|name| (name.to_owned(), Some(value.to_vec()))).to_vec();
    builder.push(
        Origin { topic: TopicIndex::FIRST, partition: 0, offset: 0 },
        None,
        Some(value),
        Some(value),
        Some(Box::new(headers)),
    );
    builder.finish()
}
