//! What becomes of records in a pipeline, stage by stage.

mod challenger;

use std::sync::Arc;

use super::fakes::{Fate, MAX_VALUE, Part, model, settings, to, transform};
use super::*;
use crate::config::plan::{Policy, Stamp, Timestamp, Tombstones};
use crate::record::dead_letter::Form;
use crate::record::{BatchBuilder, Pointer, RecordId, Route, TopicIndex, Topics};
use crate::stream::process::Refusal;
use sandpiper_sandbox::wit::latest::EmittedKey;

/// The columns that the fake classifier wants.
const WANTED: [&str; 2] = ["class", "size"];
/// A named output.
const ELSEWHERE: Route = Route::Named(0);

/// One record to come in.
struct Record {
    key: Option<&'static [u8]>,
    value: Option<Vec<u8>>,
    headers: Option<Box<Headers>>,
}

fn valued(value: &str) -> Record {
    Record { key: Some(b"k"), value: Some(value.into()), headers: None }
}

fn null() -> Record {
    Record { key: Some(b"k"), value: None, headers: None }
}

fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (name.into(), Some(value.into()))
}

fn origin(offset: i64) -> Origin {
    Origin { topic: TopicIndex::FIRST, partition: 3, offset }
}

fn batch(records: Vec<Record>) -> Batch {
    let mut builder = BatchBuilder::new(Topics::new(["in"]));
    for (offset, record) in records.into_iter().enumerate() {
        let timestamp = Some(1_000 + offset as i64);
        builder.push(origin(offset as i64), timestamp, record.key, record.value.as_deref(), record.headers);
    }
    builder.finish()
}

fn values(values: &[&str]) -> Batch {
    batch(values.iter().map(|value| valued(value)).collect())
}

/// What a batch came to, readable.
struct Came {
    outputs: Outputs,
}

/// One output, as bytes.
#[derive(Debug, PartialEq)]
struct Out {
    offset: i64,
    route: Route,
    key: Option<Vec<u8>>,
    value: Option<String>,
    timestamp: Option<i64>,
    headers: Headers,
}

impl Out {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.value.as_deref().unwrap()).unwrap()
    }

    fn says(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| header == name)?;
        Some(String::from_utf8(value.clone()?).unwrap())
    }

    fn error(&self, name: &str) -> Option<String> {
        self.says(&format!("{}{name}", crate::record::dead_letter::PREFIX))
    }
}

impl Came {
    fn to(&self, route: Route) -> Vec<Out> {
        let bytes = |span| self.outputs.bytes(span).to_vec();
        let out = |output: &Output| Out {
            offset: output.origin.offset,
            route: output.route,
            key: output.key.map(bytes),
            value: output.value.map(|span| String::from_utf8(bytes(span)).unwrap()),
            timestamp: output.timestamp,
            headers: output.headers.as_deref().cloned().unwrap_or_default(),
        };
        self.outputs.records.iter().filter(|output| output.route == route).map(out).collect()
    }

    fn emitted(&self) -> Vec<Out> {
        self.to(Route::Output)
    }

    fn letters(&self) -> Vec<Out> {
        self.to(Route::DeadLetters)
    }

    /// `0 1 dead 3`: each output's offset in the order in which they go out.
    fn order(&self) -> String {
        let name = |output: &Output| match output.route {
            Route::DeadLetters => format!("{} dead", output.origin.offset),
            Route::Output => output.origin.offset.to_string(),
            Route::Named(at) => format!("{} to {at}", output.origin.offset),
        };
        self.outputs.records.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Offset and code of each dead letter.
    fn codes(&self) -> Vec<(i64, String)> {
        self.letters().iter().map(|letter| (letter.offset, letter.error("reason").unwrap())).collect()
    }

    /// Emitted, dropped, dead-lettered; every record has one outcome.
    fn counts(&self) -> (u64, u64, u64) {
        let counts = &self.outputs.counts;
        let dead = counts.dead_letters.values().sum();
        assert_eq!(counts.records, counts.emitted + counts.dropped + dead, "{counts:?}");
        (counts.emitted, counts.dropped, dead)
    }
}

fn run(pipeline: &mut Pipeline, batch: &Batch, forced: &Forced) -> Came {
    let mut outputs = Outputs::default();
    outputs.put(b"left over");
    outputs.counts.emitted = 99;
    pipeline.process(batch, forced, 5_000, &mut outputs);
    Came { outputs }
}

fn process(pipeline: &mut Pipeline, batch: &Batch) -> Came {
    run(pipeline, batch, &Forced::new())
}

fn pipeline(settings: Settings, transforms: Vec<TransformStage>, model: Option<ModelStage>) -> Pipeline {
    Pipeline::new(fakes::revision(17), Arc::new(settings), transforms, model)
}

/// Parses two columns, classifies by the first.
fn predicting(settings: Settings) -> Pipeline {
    pipeline(settings, Vec::new(), Some(model(17, 2, &WANTED, None)))
}

/// One transform to the output topic.
fn transforming(fate: impl FnMut(&str) -> Fate + Send + 'static) -> Pipeline {
    pipeline(settings(), vec![transform("transform[0]", &[None, Some(ELSEWHERE)], fate)], None)
}

fn passes(text: &str) -> Fate {
    Fate::Emit(vec![to(0, text)])
}

// Records without any stage.

#[test]
fn without_a_stage_a_record_goes_out_as_it_came_with_its_stamp() {
    let mut pipeline = pipeline(settings(), Vec::new(), None);
    let record = Record {
        key: None,
        value: Some(b"a".to_vec()),
        headers: Some(Box::new(vec![header("trace", "7"), ("n".into(), None)])),
    };
    let came = process(&mut pipeline, &batch(vec![record]));
    let expected = Out {
        offset: 0,
        route: Route::Output,
        key: None,
        value: Some("a".into()),
        timestamp: Some(1_000),
        headers: vec![header("trace", "7"), ("n".into(), None), header("sandpiper", "17 champion in/3@0")],
    };
    assert_eq!(came.emitted(), [expected]);
    assert_eq!(came.counts(), (1, 0, 0));
}

#[test]
fn null_and_empty_stay_told_apart() {
    let mut pipeline = pipeline(settings(), Vec::new(), None);
    let came = process(&mut pipeline, &batch(vec![null(), valued("")]));
    let values: Vec<Option<String>> = came.emitted().into_iter().map(|out| out.value).collect();
    assert_eq!(values, [None, Some(String::new())]);
}

#[test]
fn a_stamp_stands_where_the_plan_says() {
    for stamp in [Stamp::Value, Stamp::None] {
        let mut pipeline = pipeline(Settings { stamp, ..settings() }, Vec::new(), None);
        assert_eq!(process(&mut pipeline, &values(&["a"])).emitted()[0].headers, [], "{stamp:?}");
    }
}

#[test]
fn a_timestamp_is_the_inputs_or_none_of_ours() {
    for (timestamp, expected) in [(Timestamp::Input, Some(1_000)), (Timestamp::Now, None)] {
        let mut pipeline = pipeline(Settings { timestamp, ..settings() }, Vec::new(), None);
        assert_eq!(process(&mut pipeline, &values(&["a"])).emitted()[0].timestamp, expected);
    }
}

#[test]
fn a_value_above_the_limit_is_a_dead_letter_before_any_stage_and_one_at_the_limit_is_not() {
    let (fits, over) = ("x".repeat(MAX_VALUE), "x".repeat(MAX_VALUE + 1));
    let mut pipeline = transforming(|text| {
        assert!(text.len() <= MAX_VALUE, "it reached the transform");
        passes(text)
    });
    let came = process(&mut pipeline, &values(&["a", &over, &fits, "b"]));
    assert_eq!(came.order(), "0, 1 dead, 2, 3");
    assert_eq!(came.codes(), [(1, "too-large".to_owned())]);
    assert_eq!(came.letters()[0].value.as_ref().map(String::len), Some(MAX_VALUE + 1), "byte for byte");
    assert_eq!(came.letters()[0].error("stage").as_deref(), Some("input"));
    assert_eq!(
        came.letters()[0].error("message").as_deref(),
        Some("the value has 1001 bytes, more than limits.batch_bytes = 1000")
    );
    assert_eq!(came.counts(), (3, 0, 1));
}

// Forced outcomes.

fn refusal(form: Form) -> Refusal {
    Refusal { output: Some("Broker: Message size too large".into()), form }
}

#[test]
fn a_forced_record_is_a_dead_letter_and_reaches_no_stage() {
    let mut pipeline = transforming(|text| {
        assert_ne!(text, "b");
        passes(text)
    });
    let came = run(&mut pipeline, &values(&["a", "b", "c"]), &Forced::from([(origin(1), refusal(Form::default()))]));
    assert_eq!(came.order(), "0, 1 dead, 2");
    let letter = &came.letters()[0];
    assert_eq!((letter.value.as_deref(), letter.error("reason").as_deref()), (Some("b"), Some("refused-by-broker")));
    assert_eq!(letter.error("message").as_deref(), Some("Broker: Message size too large"));
    assert_eq!(letter.error("value-size"), None);
    assert!(!came.outputs.records[1].last_resort);
}

#[test]
fn the_last_resort_has_no_value_and_its_place_for_a_key() {
    let mut pipeline = pipeline(settings(), Vec::new(), None);
    let came = run(&mut pipeline, &values(&["a"]), &Forced::from([(origin(0), refusal(Form::LEAST))]));
    let letter = &came.letters()[0];
    assert_eq!((&letter.value, letter.key.as_deref()), (&None, Some(b"in/3@0".as_slice())));
    assert_eq!(letter.error("key-size").as_deref(), Some("1"));
    assert_eq!(letter.error("value-size").as_deref(), Some("1"));
    assert_eq!(letter.error("value-digest"), Some(sandpiper_sandbox::Digest::of(b"a").to_string()));
    assert!(came.outputs.records[0].last_resort);
}

#[test]
fn a_forced_outcome_concerns_that_partition_and_offset_only() {
    let mut pipeline = pipeline(settings(), Vec::new(), None);
    let other = Origin { partition: 4, ..origin(0) };
    let came = run(&mut pipeline, &values(&["a"]), &Forced::from([(other, refusal(Form::default()))]));
    assert_eq!(came.counts(), (1, 0, 0));
}

// Predictions.

#[test]
fn a_prediction_carries_id_class_features_and_where_it_came_from() {
    let came = process(&mut predicting(settings()), &values(&["1,2.5"]));
    let json = came.emitted()[0].json();
    assert_eq!(json["id"], "in-3-0");
    assert_eq!((&json["class"], &json["revision"], &json["origin"]), (&"dog".into(), &17.into(), &"in/3@0".into()));
    assert_eq!((&json["features"]["class"], &json["features"]["size"]), (&1.0.into(), &2.5.into()));
    assert_eq!(came.emitted()[0].key.as_deref(), Some(b"k".as_slice()));
}

#[test]
fn rejected_rows_stay_beside_accepted_ones_in_order() {
    let batch = values(&["0,0", "reject", "1,0", "100,0", "drop", "2,0"]);
    let came = process(&mut predicting(settings()), &batch);
    assert_eq!(came.order(), "0, 1 dead, 2, 3 dead, 5");
    assert_eq!(came.codes(), [(1, "bad-number".to_owned()), (3, "out-of-domain".into())]);
    let classes: Vec<_> = came.emitted().iter().map(|out| out.json()["class"].clone()).collect();
    assert_eq!(classes, ["cat", "dog", "cow"]);
    let stages: Vec<_> = came.letters().iter().map(|letter| (letter.error("stage"), letter.error("release"))).collect();
    let expected = |stage: &str, release: &str| (Some(stage.to_owned()), Some(release.to_owned()));
    assert_eq!(stages, [expected("parse", "parser-1"), expected("classify", "classifier-1")]);
    assert_eq!(came.counts(), (3, 1, 2));
}

#[test]
fn a_row_that_only_the_classifier_rejects_is_told_by_its_place_in_the_input() {
    // The parser's rejection shifts the classifier's rows by one.
    let came = process(&mut predicting(settings()), &values(&["reject", "0,0", "100,0", "1,0"]));
    assert_eq!(came.codes(), [(0, "bad-number".to_owned()), (2, "out-of-domain".into())]);
    assert_eq!(came.letters()[1].value.as_deref(), Some("100,0"));
}

#[test]
fn columns_are_gathered_by_name() {
    // The parser's columns are size, colour, class.
    let mut pipeline = pipeline(settings(), Vec::new(), Some(model(17, 3, &WANTED, Some(vec![2, 0]))));
    let came = process(&mut pipeline, &values(&["2.5,9,1", "reject", "3.5,9,2"]));
    let read = |out: &Out| {
        (out.json()["class"].clone(), out.json()["features"]["class"].clone(), out.json()["features"]["size"].clone())
    };
    let expected = [("dog".into(), 1.0.into(), 2.5.into()), ("cow".into(), 2.0.into(), 3.5.into())];
    assert_eq!(came.emitted().iter().map(read).collect::<Vec<_>>(), expected);
    assert_eq!(came.order(), "0, 1 dead, 2");
}

#[test]
fn a_row_that_poisons_a_plugin_is_a_dead_letter_and_its_neighbours_are_predicted() {
    let batch = values(&["0,0", "poison", "1,0", "200,0", "2,0", "reject"]);
    let came = process(&mut predicting(settings()), &batch);
    assert_eq!(came.order(), "0, 1 dead, 2, 3 dead, 4, 5 dead");
    let traps = "plugin-trap".to_owned();
    assert_eq!(came.codes(), [(1, traps.clone()), (3, traps), (5, "bad-number".into())]);
    let letters = came.letters();
    assert_eq!(letters[0].error("message").as_deref(), Some("the parser met poison"));
    assert_eq!(letters[1].error("message").as_deref(), Some("the classifier met poison"));
    assert_eq!(letters[1].error("log").as_deref(), Some("the last words"));
    assert_eq!(letters[1].error("stage").as_deref(), Some("classify"));
    let classes: Vec<_> = came.emitted().iter().map(|out| out.json()["class"].clone()).collect();
    assert_eq!(classes, ["cat", "dog", "cow"]);
    assert_eq!(came.counts(), (3, 0, 3));
}

#[test]
fn a_batch_of_nothing_but_poison_is_all_dead_letters() {
    let came = process(&mut predicting(settings()), &values(&["poison", "poison", "poison"]));
    assert_eq!((came.order().as_str(), came.counts()), ("0 dead, 1 dead, 2 dead", (0, 0, 3)));
}

#[test]
fn what_the_budget_left_undecided_is_the_releases_failure() {
    let spent = Settings { budget: Duration::ZERO, ..settings() };
    let came = process(&mut predicting(spent), &values(&["0,0", "poison"]));
    assert!(came.letters().is_empty(), "rows that nobody tried are nobody's dead letters");
    let Some(Halt::Release(why)) = &came.outputs.halt else { panic!("the batch would be committed") };
    assert!(why.contains("too many rows") && why.contains("the parser met poison"), "{why}");
}

#[test]
fn while_a_plugin_is_developed_every_row_that_it_fails_on_leaves_its_letter() {
    let spent = Settings { budget: Duration::ZERO, ..settings() };
    let mut pipeline = predicting(spent);
    pipeline.probation = Probation::Developing;
    let came = process(&mut pipeline, &values(&["0,0", "poison"]));
    assert!(came.outputs.halt.is_none(), "{:?}", came.outputs.halt);
    assert_eq!(came.order(), "0 dead, 1 dead");
    assert!(came.letters().iter().all(|letter| {
        let is_said = |value: &[u8]| {
            let message = String::from_utf8_lossy(value);
            message.contains("too many rows failed") && message.contains("the parser met poison")
        };
        letter
            .headers
            .iter()
            .any(|(name, value)| name == "__sandpiper.errors.message" && value.as_deref().is_some_and(is_said))
    }));
}

#[test]
fn what_a_plugin_does_not_take_is_dropped_where_that_is_configured() {
    let lax = Settings { rejected: Policy::Drop, ..settings() };
    let came = process(&mut predicting(lax), &values(&["0,0", "reject", "poison"]));
    assert_eq!(came.order(), "0, 2 dead");
    assert_eq!((came.counts(), came.outputs.counts.failed), ((1, 1, 1), 1));
    let lax = Settings { failed: Policy::Drop, ..settings() };
    let came = process(&mut predicting(lax), &values(&["0,0", "reject", "poison"]));
    assert_eq!(came.order(), "0, 1 dead");
    assert_eq!((came.counts(), came.outputs.counts.failed), ((1, 1, 1), 1));
}

#[test]
fn a_record_to_stop_at_is_named_and_the_batch_must_not_be_committed() {
    let strict = Settings { failed: Policy::Stop, ..settings() };
    let came = process(&mut predicting(strict), &values(&["0,0", "poison"]));
    let Some(Halt::Record(why)) = &came.outputs.halt else { panic!("the batch would be committed") };
    assert!(why.contains("@1: parse says plugin-trap: the parser met poison"), "{why}");
}

// Tombstones.

#[test]
fn a_tombstone_becomes_what_the_policy_says_and_never_reaches_a_parser() {
    // "" is no number: the fake parser would panic over a null value.
    for (tombstones, order, counts) in [
        (Tombstones::DeadLetter, "0, 1 dead, 2", (2, 0, 1)),
        (Tombstones::Drop, "0, 2", (2, 1, 0)),
        (Tombstones::Pass, "0, 1, 2", (3, 0, 0)),
    ] {
        let mut pipeline = predicting(Settings { tombstones, ..settings() });
        let came = process(&mut pipeline, &batch(vec![valued("0,0"), null(), valued("1,0")]));
        assert_eq!((came.order().as_str(), came.counts()), (order, counts), "{tombstones:?}");
        if tombstones == Tombstones::Pass {
            assert_eq!((&came.emitted()[1].value, &came.emitted()[1].key), (&None, &Some(b"k".to_vec())));
        }
        if tombstones == Tombstones::DeadLetter {
            assert_eq!(came.codes(), [(1, "null-value".to_owned())]);
            assert_eq!(came.letters()[0].value, None);
        }
    }
}

#[test]
fn a_batch_of_nothing_but_tombstones_calls_no_plugin() {
    let mut pipeline = predicting(Settings { tombstones: Tombstones::Drop, ..settings() });
    let came = process(&mut pipeline, &batch(vec![null(), null()]));
    assert_eq!((came.order().as_str(), came.counts()), ("", (0, 2, 0)));
}

#[test]
fn rejections_behind_tombstones_are_told_by_their_place_in_the_input() {
    let mut pipeline = predicting(Settings { tombstones: Tombstones::Drop, ..settings() });
    let came = process(
        &mut pipeline,
        &batch(vec![null(), valued("reject"), null(), valued("100,0"), valued("200,0"), valued("2,0")]),
    );
    assert_eq!(came.order(), "1 dead, 3 dead, 4 dead, 5");
    assert_eq!(came.emitted()[0].json()["origin"], "in/3@5");
}

// Ids.

#[test]
fn a_record_without_its_id_is_a_dead_letter() {
    let mut pipeline = predicting(Settings { id: RecordId::Key, ..settings() });
    let keyless = Record { key: None, ..valued("1,0") };
    let binary = Record { key: Some(b"\xff"), ..valued("1,0") };
    let came = process(&mut pipeline, &batch(vec![valued("0,0"), keyless, binary, valued("2,0")]));
    assert_eq!(came.order(), "0, 1 dead, 2 dead, 3");
    assert_eq!(came.codes(), [(1, "no-id".to_owned()), (2, "no-id".into())]);
    assert_eq!(came.letters()[0].error("id"), None);
    assert_eq!(came.emitted()[0].json()["id"], "k");
}

#[test]
fn a_dead_letter_names_the_records_id_and_place() {
    let mut pipeline = predicting(Settings { id: RecordId::Key, ..settings() });
    let record = Record { headers: Some(Box::new(vec![header("trace", "7")])), ..valued("reject") };
    let letter = process(&mut pipeline, &batch(vec![record])).letters().remove(0);
    let facts =
        ["topic", "partition", "offset", "timestamp", "id", "pipeline", "stage", "revision", "instance", "time"];
    let found: Vec<String> = facts.iter().map(|fact| letter.error(fact).unwrap()).collect();
    assert_eq!(found, ["in", "3", "0", "1000", "k", "fake", "parse", "17", "here", "5000"]);
    assert_eq!(letter.headers[0], header("trace", "7"), "the original's headers stand first");
    assert_eq!(
        (letter.value.as_deref(), letter.key.as_deref(), letter.timestamp),
        (Some("reject"), Some(b"k".as_slice()), Some(1_000))
    );
}

fn id_of_one(id: &RecordId, record: Record) -> Result<String, String> {
    id::of(id, &batch(vec![record]), 0).map(|id| id.into_owned())
}

#[test]
fn an_id_is_the_key_a_header_a_place_in_the_json_or_the_position() {
    let headers = Some(Box::new(vec![header("id", "first"), header("other", "x"), header("id", "last")]));
    let record = || Record {
        key: Some(b"key"),
        value: Some(br#"{"x":1e400,"a":{"n":1.1,"b":[1.5,"two"],"n":1.10}}"#.to_vec()),
        headers: headers.clone(),
    };
    for (id, expected) in [
        (RecordId::Key, "key"),
        (RecordId::Header("id".into()), "last"),
        (RecordId::Json(Pointer::new("/a/b/0").unwrap()), "1.5"),
        (RecordId::Json(Pointer::new("/a/b/1").unwrap()), "two"),
        (RecordId::Json(Pointer::new("/a/n").unwrap()), "1.10"),
        (RecordId::Position, "in-3-0"),
    ] {
        assert_eq!(id_of_one(&id, record()).as_deref(), Ok(expected), "{id:?}");
    }
}

#[test]
fn an_id_that_is_missing_says_why() {
    let headers = Some(Box::new(vec![("null".to_owned(), None), ("binary".into(), Some(vec![0xff]))]));
    let record = || Record { key: None, value: Some(br#"{"a":{}}"#.to_vec()), headers: headers.clone() };
    for (id, expected) in [
        (RecordId::Key, "the key is null"),
        (RecordId::Header("null".into()), "header null is null"),
        (RecordId::Header("none".into()), "there is no header none"),
        (RecordId::Header("binary".into()), "header binary is not UTF-8"),
        (RecordId::Json(Pointer::new("/a").unwrap()), "what stands at \"/a\" is neither a string nor a number"),
        (RecordId::Json(Pointer::new("/b").unwrap()), "nothing stands at \"/b\""),
    ] {
        let error = id_of_one(&id, record()).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = id_of_one(&RecordId::Json(Pointer::new("/a").unwrap()), valued("{")).unwrap_err();
    assert!(error.starts_with("the value is not JSON"), "{error}");
}

// Transforms.

#[test]
fn a_transforms_outputs_go_to_their_topics_or_on() {
    let mut pipeline = transforming(|text| Fate::Emit(vec![to(0, format!("{text}!")), to(1, format!("{text}?"))]));
    let came = process(&mut pipeline, &values(&["a", "b"]));
    assert_eq!(came.order(), "0 to 0, 0, 1 to 0, 1");
    let values = |outs: Vec<Out>| outs.into_iter().filter_map(|out| out.value).collect::<Vec<_>>();
    assert_eq!(
        (values(came.emitted()), values(came.to(ELSEWHERE))),
        (vec!["a!".to_owned(), "b!".into()], vec!["a?".to_owned(), "b?".into()])
    );
    assert_eq!(came.counts(), (2, 0, 0), "records are counted, not outputs");
}

#[test]
fn transforms_are_chained_in_their_order() {
    let first = transform("transform[0]", &[None], |text| {
        Fate::Emit(vec![to(0, format!("{text}1")), to(0, format!("{text}2"))])
    });
    let second =
        transform("transform[1]", &[None], |text| if text == "b1" { Fate::Drop } else { passes(&format!("{text}x")) });
    let mut pipeline = pipeline(settings(), vec![first, second], None);
    let came = process(&mut pipeline, &values(&["a", "b"]));
    let values: Vec<_> = came.emitted().into_iter().filter_map(|out| out.value).collect();
    assert_eq!(values, ["a1x", "a2x", "b2x"]);
    assert_eq!((came.order().as_str(), came.counts()), ("0, 0, 1", (2, 0, 0)));
}

#[test]
fn what_a_transform_makes_of_a_record_is_what_is_predicted() {
    let stage = transform("transform[0]", &[None], |text| match text {
        "null" => Fate::Emit(vec![Part { value: None, ..to(0, "") }]),
        _ => Fate::Emit(vec![to(0, format!("{text},0"))]),
    });
    let mut pipeline = pipeline(settings(), vec![stage], Some(model(17, 2, &WANTED, None)));
    let came = process(&mut pipeline, &values(&["1", "null", "2"]));
    assert_eq!(came.order(), "0, 1 dead, 2");
    assert_eq!(came.emitted()[0].json()["class"], "dog");
    assert_eq!(came.letters()[0].error("reason").as_deref(), Some("null-value"));
    assert_eq!(
        came.letters()[0].value.as_deref(),
        Some("null"),
        "the dead letter is the input, not what was made of it"
    );
}

#[test]
fn rejected_dropped_and_forgotten_rows_each_have_their_outcome() {
    let mut pipeline = transforming(|text| match text {
        "reject" => Fate::Reject,
        "drop" => Fate::Drop,
        "forget" => Fate::Emit(Vec::new()),
        _ => passes(text),
    });
    let came = process(&mut pipeline, &values(&["drop", "a", "reject", "forget", "b"]));
    assert_eq!((came.order().as_str(), came.counts()), ("1, 2 dead, 4", (2, 2, 1)));
    let letter = &came.letters()[0];
    assert_eq!(
        (letter.error("stage").as_deref(), letter.error("release").as_deref()),
        (Some("transform[0]"), Some("transform[0]-1"))
    );
    assert_eq!(letter.error("message").as_deref(), Some("row 2 is rejected"));
}

#[test]
fn a_row_that_poisons_a_transform_stands_alone() {
    let mut pipeline = transforming(|text| if text == "poison" { Fate::Poison } else { passes(text) });
    let came = process(&mut pipeline, &values(&["a", "b", "poison", "c", "d"]));
    assert_eq!((came.order().as_str(), came.counts()), ("0, 1, 2 dead, 3, 4", (4, 0, 1)));
    let values: Vec<_> = came.emitted().into_iter().filter_map(|out| out.value).collect();
    assert_eq!(values, ["a", "b", "c", "d"]);
}

#[test]
fn a_dead_lettered_part_takes_back_what_the_record_had_emitted() {
    // Each record is split into two; of "b" the second part is rejected behind the first, of "c" only one went elsewhere.
    let split = transform("transform[0]", &[None, Some(ELSEWHERE)], |text| {
        Fate::Emit(vec![to(0, format!("{text}1")), to(0, format!("{text}2")), to(1, format!("{text}3"))])
    });
    let strict = transform("transform[1]", &[None], |text| if text == "b2" { Fate::Reject } else { passes(text) });
    let mut pipeline = pipeline(settings(), vec![split, strict], None);
    let came = process(&mut pipeline, &values(&["a", "b", "c"]));
    assert_eq!(came.order(), "0 to 0, 0, 0, 1 dead, 2 to 0, 2, 2");
    assert_eq!(came.letters()[0].value.as_deref(), Some("b"));
    assert_eq!(came.counts(), (2, 0, 1));
}

#[test]
fn two_dead_parts_of_one_record_are_one_dead_letter() {
    let split = transform("transform[0]", &[None], |text| Fate::Emit(vec![to(0, text), to(0, text)]));
    let strict = transform("transform[1]", &[None], |_| Fate::Reject);
    let mut pipeline = pipeline(settings(), vec![split, strict], None);
    let came = process(&mut pipeline, &values(&["a", "b"]));
    assert_eq!((came.order().as_str(), came.counts()), ("0 dead, 1 dead", (0, 0, 2)));
}

#[test]
fn a_transform_keeps_or_replaces_the_key() {
    let mut pipeline = transforming(|text| {
        let key = |key| Part { key, ..to(0, "") };
        Fate::Emit(match text {
            "all" => vec![key(EmittedKey::Input), key(EmittedKey::None), key(EmittedKey::Bytes(b"new".to_vec()))],
            _ => vec![key(EmittedKey::Input)],
        })
    });
    let keyless = Record { key: None, ..valued("") };
    let keys: Vec<_> =
        process(&mut pipeline, &batch(vec![valued("all"), keyless])).emitted().into_iter().map(|out| out.key).collect();
    assert_eq!(keys, [Some(b"k".to_vec()), None, Some(b"new".to_vec()), None]);
}

#[test]
fn headers_are_kept_through_every_stage_and_added_ones_stand_behind() {
    let add = |name: &'static str| {
        transform("transform", &[None, Some(ELSEWHERE)], move |text| {
            let part = |output| Part { header: Some((name, "added")), ..to(output, text) };
            Fate::Emit(vec![part(0), part(1)])
        })
    };
    let stages = vec![add("one"), add("two")];
    let mut pipeline = pipeline(settings(), stages, Some(model(17, 2, &WANTED, None)));
    let record = Record { headers: Some(Box::new(vec![header("trace", "7"), header("trace", "8")])), ..valued("1,0") };
    let came = process(&mut pipeline, &batch(vec![record]));
    let stamp = header("sandpiper", "17 champion in/3@0");
    let kept =
        [header("trace", "7"), header("trace", "8"), header("one", "added"), header("two", "added"), stamp.clone()];
    assert_eq!(came.emitted()[0].headers, kept);
    assert_eq!(came.to(ELSEWHERE)[0].headers, [&kept[..3], &[stamp]].concat());
}

#[test]
fn a_tombstone_that_a_transform_emits_is_null() {
    let mut pipeline = transforming(|_| {
        Fate::Emit(vec![Part { value: None, ..to(0, "") }, Part { value: None, ..to(1, "") }, to(1, "")])
    });
    let came = process(&mut pipeline, &values(&["a"]));
    assert_eq!(came.emitted()[0].value, None);
    assert_eq!(came.to(ELSEWHERE).into_iter().map(|out| out.value).collect::<Vec<_>>(), [None, Some(String::new())]);
}

#[test]
fn when_every_row_ended_the_stages_behind_are_not_called() {
    let first = transform("transform[0]", &[None], |_| Fate::Drop);
    let second = transform("transform[1]", &[None], |_| panic!("called with nothing"));
    let mut pipeline = pipeline(settings(), vec![first, second], Some(model(17, 2, &WANTED, None)));
    assert_eq!(process(&mut pipeline, &values(&["a", "b"])).counts(), (0, 2, 0));
}

#[test]
fn outputs_of_an_earlier_batch_are_cleared() {
    let mut pipeline = pipeline(settings(), Vec::new(), None);
    let mut outputs = Outputs::default();
    for value in ["a", "b"] {
        pipeline.process(&values(&[value]), &Forced::new(), 0, &mut outputs);
    }
    assert_eq!((outputs.records.len(), outputs.counts.records), (1, 1));
}

#[test]
fn records_of_each_partition_go_out_in_the_order_in_which_they_came() {
    let mut builder = BatchBuilder::new(Topics::new(["in"]));
    for (partition, offset, value) in [(1, 5, "poison"), (0, 7, "a"), (1, 6, "b"), (0, 8, "reject"), (0, 9, "c")] {
        builder.push(Origin { topic: TopicIndex::FIRST, partition, offset }, None, None, Some(value.as_bytes()), None);
    }
    let mut pipeline = transforming(|text| match text {
        "poison" => Fate::Poison,
        "reject" => Fate::Reject,
        _ => passes(text),
    });
    let came = process(&mut pipeline, &builder.finish());
    let of = |partition| {
        let ours = came.outputs.records.iter().filter(move |output| output.origin.partition == partition);
        ours.map(|output| output.origin.offset).collect::<Vec<_>>()
    };
    assert_eq!((of(0), of(1)), (vec![7, 8, 9], vec![5, 6]));
}

// What comes of a batch is bounded.

/// A record with a key of 10,000 bytes, which each emitted record inherits.
fn amplified(value: &'static str) -> Record {
    const KEY: [u8; 10_000] = [b'k'; 10_000];
    Record { key: Some(&KEY), ..valued(value) }
}

/// Emits so many records that inherit the key for `many`, and one for anything else.
fn amplifying(output: u32) -> Pipeline {
    transforming(move |text| match text {
        "many" => Fate::Emit((0..1_000).map(|_| to(output, "x")).collect()),
        text => passes(text),
    })
}

#[test]
fn a_record_that_comes_to_too_much_is_a_dead_letter_that_names_the_bound() {
    for output in [0, 1] {
        let came = process(&mut amplifying(output), &batch(vec![amplified("many")]));
        assert_eq!((came.codes(), came.counts()), (vec![(0, "too-much-output".into())], (0, 0, 1)));
        let letter = came.letters().remove(0);
        assert!(letter.error("message").unwrap().contains("limits.output_bytes = 1048576"), "{letter:?}");
        assert_eq!(letter.error("stage").as_deref(), Some("transform[0]"));
        assert_eq!(letter.error("release").as_deref(), Some("transform[0]-1"));
        assert_eq!(letter.value.as_deref(), Some("many"));
        assert_eq!(came.outputs.counts.failed, 1);
        assert!(came.outputs.size() < 20_000, "{} bytes were copied", came.outputs.size());
    }
}

#[test]
fn a_batch_of_several_that_comes_to_too_much_leaves_nothing_and_says_so() {
    let mut pipeline = amplifying(0);
    let came = process(&mut pipeline, &batch(vec![valued("a"), amplified("many"), valued("b")]));
    assert!(came.outputs.overflowed && came.outputs.halt.is_none());
    assert_eq!((came.outputs.records.len(), came.outputs.size(), came.counts()), (0, 0, (0, 0, 0)));
    assert!(!process(&mut pipeline, &values(&["a"])).outputs.overflowed);
}

#[test]
fn answers_that_were_narrowed_down_are_counted_together() {
    // Each row alone fits; the call for all fails for another reason, and the rows are asked about one by one.
    let mut pipeline = transforming(|text| match text {
        "poison" => Fate::Poison,
        text => Fate::Emit(vec![to(0, text.repeat(300_000))]),
    });
    let came = process(&mut pipeline, &values(&["a", "b", "poison", "c", "d"]));
    assert!(came.outputs.overflowed && came.outputs.halt.is_none());
}

#[test]
fn headers_are_counted_for_each_record_that_inherits_them() {
    let headers: Headers = (0..100).map(|at| header(&at.to_string(), "value")).collect();
    let record = || Record { headers: Some(Box::new(headers.clone())), ..valued("many") };
    let mut pipeline =
        transforming(|_| Fate::Emit((0..200).map(|_| Part { key: EmittedKey::None, ..to(0, "x") }).collect()));
    let came = process(&mut pipeline, &batch(vec![record()]));
    assert_eq!(came.codes(), [(0, "too-much-output".to_owned())]);
    assert!(process(&mut pipeline, &values(&["many"])).codes().is_empty());
}

#[test]
fn predictions_are_counted_while_they_are_written() {
    let mut pipeline = predicting(Settings { max_output: 1_000, ..settings() });
    assert!(process(&mut pipeline, &values(&["1,2", "1,2", "1,2"])).outputs.overflowed);
    assert_eq!(process(&mut pipeline, &values(&["1,2"])).counts(), (1, 0, 0));
    let mut pipeline = predicting(Settings { max_output: 100, ..settings() });
    let came = process(&mut pipeline, &values(&["1,2"]));
    assert_eq!(came.codes(), [(0, "too-much-output".to_owned())]);
}
