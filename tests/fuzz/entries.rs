//! The functions of the host that take bytes from outside. The fuzz targets call these with anything, the hostile corpus's test
//! with the seeds. Each may return any result, and must not panic.

#[path = "allocation.rs"]
pub mod allocation;
#[path = "answers.rs"]
mod answers;

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use sandpiper::api::access::Access;
use sandpiper::api::bodies;
use sandpiper::api::routes::Why;
use sandpiper::api::tokens::{self, Role, Tokens};
use sandpiper::control::command::{Action, Command, CommandId, MAX_REASON};
use sandpiper::control::controller::{Change, PluginRequest};
use sandpiper::control::fold;
use sandpiper::control::journal::kafka::commands;
use sandpiper::control::journal::kafka::records::{self, View};
use sandpiper::feedback::classes::ClassLists;
use sandpiper::feedback::message;
use sandpiper::record::dead_letter::{DeadLetter, DeadLetterWriter, Form, Reason};
use sandpiper::record::output::Outputs;
use sandpiper::record::{Batch, BatchBuilder, Headers, Origin, Pointer, RecordId, TopicIndex, Topics};
use sandpiper::replay::Found;
use sandpiper::replay::process::Request;
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::stage::{Classify as _, Parse as _, WasmClassifier, WasmParser};
use sandpiper_sandbox::wit::latest::Matrix;
use sandpiper_sandbox::{Compiler, Engine, Limits, Plugin};

#[path = "history.rs"]
mod history_file;
#[path = "join_model.rs"]
mod join_model;

mod join_api {
    pub use sandpiper::feedback::join::*;
    pub use sandpiper::record::{Revision, Role};
}

/// A pipeline file, or a daemon's.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A secret's file would be read from this machine, and may be one that never ends.
    if text.contains("${file") {
        return;
    }
    let env = |name: &str| (name == "SET").then(|| "value".to_owned());
    let read = sandpiper::config::parse(Path::new("pipeline.toml"), text, &sandpiper_sandbox::stock::names(), &env);
    let as_daemon = sandpiper::config::daemon::parse(Path::new("daemon.toml"), text, &env);
    for mistakes in read.err().into_iter().chain(as_daemon.err()) {
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
    let pointer = Pointer::new(pointer).ok().filter(|_| !pointer.is_empty());
    if let Ok(label) = message::label(&batch, 0, pointer.as_ref()) {
        assert!(!label.class.is_empty(), "an empty class");
    }
}

/// A value in the predictions' topic.
pub fn prediction(data: &[u8]) {
    if let Some(prediction) = message::prediction(data, &mut ClassLists::default()) {
        assert_eq!(prediction.scores.len(), prediction.classes.len());
        assert!((prediction.predicted as usize) < prediction.classes.len());
    }
}

/// A record of the dead letters' topic: a header a line, its value behind a colon, null where there is none. And the same
/// headers on an input record: whatever they are, its letter is no note, speaks for us alone, and gives them back.
pub fn letter(data: &[u8]) {
    let header = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        (String::from_utf8_lossy(name).into_owned(), value.get(1..).map(<[u8]>::to_vec))
    };
    let headers: Headers = data.split(|byte| *byte == b'\n').map(header).collect();
    if let Found::Foreign(why) = Found::read((0, 1), None, Some(data), &headers) {
        assert!(!why.is_empty(), "without a reason");
    }
    for (value, form) in [(None, Form::default()), (Some(data), Form::default()), (Some(data), Form::LEAST)] {
        let mut builder = BatchBuilder::new(Topics::new(["in"]));
        let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: 7 };
        builder.push(origin, None, Some(data), value, Some(Box::new(headers.clone())));
        let mut outputs = Outputs::default();
        let reason = Reason::of_host("input", "null-value", "why");
        let writer = DeadLetterWriter { pipeline: "p".into(), instance: "i".into() };
        let letter = DeadLetter { reason: &reason, id: None, revision: None, form, time: 9 };
        writer.write(&mut outputs, &builder.finish(), 0, &letter);
        let written = outputs.records.first().expect("a letter");
        let bytes = |span| outputs.bytes(span);
        let read = Found::read(
            (0, 1),
            written.key.map(bytes),
            written.value.map(bytes),
            written.headers.as_deref().expect("our headers"),
        );
        let Found::Letter(read) = read else { panic!("a letter reads as {read:?}") };
        assert_eq!((read.facts.topic.as_str(), read.facts.offset, read.facts.reason.as_str()), ("in", 7, "null-value"));
        if form == Form::default() {
            assert_eq!((read.key.as_deref(), read.value.as_deref(), &read.headers), (Some(data), value, &headers));
        }
    }
}

/// A value, behind a line that holds the pointer to its id.
pub fn pointer(data: &[u8]) {
    let (pointer, value) = split_first_line(data);
    let batch = batch_of_one(value);
    if let Ok(pointer) = Pointer::new(pointer) {
        let pointed = sandpiper::record::id::pointed(&pointer, value).ok();
        let id = sandpiper::record::id::of(&RecordId::Json(pointer), &batch, 0).ok();
        assert_eq!(pointed.as_deref(), id.as_deref());
    }
    for id in [RecordId::Key, RecordId::Header("id".into()), RecordId::Position] {
        let _ = sandpiper::record::id::of(&id, &batch, 0);
    }
}

/// A transform's answer, made of the bytes: checked, and its records laid out within a bound of memory.
pub fn answer(data: &[u8]) {
    answers::enter(data);
}

/// Predictions, labels and how their transactions end.
pub fn join(data: &[u8]) {
    join_model::check(data);
}

/// A pipeline's history in the state directory.
pub fn history(data: &[u8]) {
    history_file::check(data);
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

/// A request of the admin API: its first line, its headers a line each, an empty line and its body.
pub fn admin(data: &[u8]) {
    static ACCESS: LazyLock<(Access, String)> = LazyLock::new(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = Tokens::open(directory.path(), None).expect("tokens");
        let token = tokens::read(&directory.path().join(tokens::ADMIN_FILE), tokens::Kept::InState).expect("a token");
        (Access::new(tokens, ([127, 0, 0, 1], 8642).into(), Vec::new()), token)
    });
    let at = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = data.split_at(at.unwrap_or(data.len()));
    let body = body.get(2..).unwrap_or_default();
    let (access, token) = &*ACCESS;
    if let Some((method, uri, headers)) = request(head) {
        let role = access.admit(&method, &uri, Version::HTTP_11, &headers);
        if !matches!(method, Method::GET | Method::HEAD) && matches!(role, Ok(Some(Role::Admin) | None)) {
            let shown = headers.get("authorization").map(HeaderValue::as_bytes).unwrap_or_default();
            assert!(shown.ends_with(token.as_bytes()), "a command without the token");
        }
    }
    command(body);
}

fn request(head: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let header = |line: &[u8]| {
        let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(header) {
        headers.append(name, value);
    }
    Some((method, uri, headers))
}

/// What is read of a command's body is bounded when it is remembered, and so is what is said of one that cannot be read.
fn command(body: &[u8]) {
    let json =
        HeaderMap::from_iter([("content-type".parse().expect("a name"), HeaderValue::from_static("application/json"))]);
    let change = bodies::json::<Change>(&json, body);
    if let Err(refusal) = &change {
        assert!(refusal.why().len() < 2_048, "a refusal of {} bytes", refusal.why().len());
    }
    let why = bodies::json::<Why>(&json, body);
    let _ = bodies::json::<Request>(&json, body);
    let control = fold::Control { pipeline: "iris".into(), ..fold::Control::default() };
    let stages = |change: Change| {
        let change_of =
            |request: sandpiper::control::controller::StageRequest| sandpiper::control::command::StageChange {
                plugin: request.plugin.and_then(|plugin| match plugin {
                    PluginRequest::Artifact(plugin) => Some(plugin),
                    PluginRequest::Stock(_) => None,
                }),
                model: request.model,
                config: request.config,
            };
        change.stages.into_iter().map(|(name, request)| (name, change_of(request))).collect()
    };
    let actions = [
        change.ok().map(|change| Action::Deploy {
            reason: change.reason.clone(),
            stages: stages(change),
            rollout: None,
        }),
        why.ok().map(|why| Action::Pause { reason: why.reason }),
    ];
    for action in actions.into_iter().flatten() {
        let command = Command { id: CommandId(1), from: String::new(), by: None, against: None, action };
        let Ok(fold::Applied { next, .. }) = fold::apply(&control, &command, 0) else { continue };
        let said = next
            .history
            .paused
            .iter()
            .map(|pause| &pause.why)
            .chain(next.history.calls.iter().map(|call| &call.reason));
        for text in said {
            assert!(text.len() <= MAX_REASON, "{} bytes are remembered", text.len());
        }
    }
}

/// A record of the control topics: a line that says which part of a pipeline's control it is, and its value; and the value as a
/// command. What was read can be written, and is the same when it is read again.
pub fn control(data: &[u8]) {
    let (part, value) = split_first_line(data);
    if let Err(refused) = commands::read(Some(value)) {
        assert!(!refused.to_string().is_empty(), "refused without a reason");
    }
    let mut view = View::default();
    if view.take(part, Some(value)).is_err() {
        return;
    }
    let control = view.control("iris");
    let Ok(changes) = view.changes("iris", &control, view.decided(), &[], true) else { return };
    let mut again = View::default();
    for (key, value) in changes {
        let (_, part) = records::split(key.as_bytes()).expect("a key that was just written");
        if again.take(part, value.as_deref()).is_err() {
            return;
        }
    }
    assert_eq!(again.control("iris"), control);
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
