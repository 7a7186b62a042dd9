//! Commands in, records out; nothing of an aborted transaction stays.

use serde_json::json;

use super::*;
use crate::control::command::Outcome;
use crate::control::deployment::{Release, Releases};
use crate::record::{BatchBuilder, TopicIndex, Topics};
use sandpiper_sandbox::Digest;

fn decider() -> Decider {
    Decider::new(Properties::default(), "sandpiper.deployments".into(), Arc::default())
}

fn written(action: Action, by: Option<By>) -> Vec<u8> {
    let id = CommandId(0);
    commands::write(&Command { id, from: "eu-1".into(), by, against: None, action }).unwrap()
}

fn by() -> Option<By> {
    Some(By { who: "admin".into(), from: "192.0.2.7".into() })
}

fn wish() -> Vec<u8> {
    let release = Release { name: "tree".into(), plugin: Digest::of(b"tree"), model: None, config: json!({}) };
    let releases = Box::new(Releases { classify: Some(release), ..Releases::default() });
    written(Action::Wish { releases, reason: "applied".into() }, None)
}

/// Has those decided that stand from that offset on; what is written by it, without the members.
fn decide(decider: &mut Decider, offset: i64, at: i64, commands: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut builder = BatchBuilder::new(Topics::new(["sandpiper.commands"]));
    for (place, (key, value)) in commands.iter().enumerate() {
        let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: offset + place as i64 };
        builder.push(origin, Some(at), Some(key.as_bytes()), Some(value), None);
    }
    let mut outputs = Outputs::default();
    decider.process(&builder.finish(), &Forced::default(), at, &mut outputs);
    let key = |output: &Output| String::from_utf8(outputs.bytes(output.key.unwrap()).to_vec()).unwrap();
    outputs.records.iter().map(key).filter(|key| !key.contains("/member/")).collect()
}

#[test]
fn a_command_is_decided_and_written_with_the_head_last() {
    let mut decider = decider();
    assert_eq!(decide(&mut decider, 0, 1, &[("iris", wish())]), ["iris"]);
    decider.committed();
    let staged = written(Action::Staged { of: CommandId(0), owns: true }, None);
    assert_eq!(decide(&mut decider, 1, 2, &[("iris", staged)]), ["iris/revision/1", "iris/answer/0", "iris"]);
    decider.committed();
    let news = decider.views["iris"].news("iris");
    assert_eq!((news.control.history.revision(), news.position), (Some(crate::record::Revision::FIRST), 2));
    assert!(matches!(news.answers[&CommandId(0)], Ok(Outcome::Activated { .. })));
}

#[test]
fn nothing_of_a_transaction_that_was_aborted_stays() {
    let mut decider = decider();
    decide(&mut decider, 0, 1, &[("iris", wish())]);
    decider.aborted();
    assert!(decider.views.is_empty() && decider.staged.is_empty());
    assert_eq!(decide(&mut decider, 0, 1, &[("iris", wish())]), ["iris"], "it is decided when it is read again");
}

#[test]
fn commands_of_one_batch_follow_each_other() {
    let mut decider = decider();
    let staged = written(Action::Staged { of: CommandId(0), owns: true }, None);
    let pause = written(Action::Pause { reason: "lunch".into() }, by());
    decide(&mut decider, 0, 1, &[("iris", wish()), ("iris", staged), ("iris", pause.clone()), ("iris", pause)]);
    let answers = &decider.staged["iris"].news("iris").answers;
    assert!(matches!(answers[&CommandId(2)], Ok(Outcome::Paused { .. })));
    assert!(matches!(answers[&CommandId(3)], Err(Refused::PausedAlready { .. })));
}

#[test]
fn what_is_refused_stands_in_the_history_and_what_no_daemon_has_written_too() {
    let mut decider = decider();
    decide(&mut decider, 0, 1, &[("iris", wish())]);
    let resume = written(Action::Resume, by());
    decide(&mut decider, 1, 2, &[("iris", resume), ("iris", b"{\"action\":\"resume\"}".to_vec())]);
    let control = decider.staged["iris"].control("iris");
    let reasons: Vec<&str> = control.history.calls.iter().map(|call| call.reason.as_str()).collect();
    assert!(reasons[0].contains("is not paused") && reasons[1].contains("no daemon has written"), "{reasons:?}");
    assert!(control.history.paused.is_none());
}

#[test]
fn a_name_that_nobody_runs_leaves_nothing() {
    let mut decider = decider();
    assert!(decide(&mut decider, 0, 1, &[("orders", b"hello".to_vec()), ("a/b", wish())]).is_empty());
}

#[test]
fn what_is_read_again_is_decided_once_and_a_topic_that_was_made_anew_goes_on() {
    let mut decider = decider();
    let pause = || written(Action::Pause { reason: "lunch".into() }, by());
    decide(&mut decider, 0, 10, &[("iris", wish()), ("iris", pause())]);
    decider.committed();
    // The group's offset is gone, and the records are read once more.
    let resume = written(Action::Resume, by());
    let keys = decide(&mut decider, 0, 10, &[("iris", wish()), ("iris", pause())]);
    assert_eq!(keys, ["iris"], "nothing but the same head");
    decider.committed();
    // Another topic of that name: its offsets begin again, later.
    decide(&mut decider, 0, 20, &[("iris", resume)]);
    let news = decider.staged["iris"].news("iris");
    assert_eq!((news.position, news.base, news.id(0)), (1, 2, CommandId(2)));
    assert!(matches!(news.answers[&CommandId(2)], Ok(Outcome::Resumed { .. })));
}

#[test]
fn what_the_broker_does_not_take_is_refused() {
    let mut decider = decider();
    decide(&mut decider, 0, 1, &[("iris", wish())]);
    decider.committed();
    let mut builder = BatchBuilder::new(Topics::new(["sandpiper.commands"]));
    let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: 1 };
    builder.push(origin, Some(2), Some(b"iris"), Some(&written(Action::Pause { reason: "x".into() }, by())), None);
    let refusal = crate::stream::process::Refusal { output: Some("too large".into()), ..Default::default() };
    decider.process(&builder.finish(), &[(origin, refusal)].into(), 2, &mut Outputs::default());
    let news = decider.staged["iris"].news("iris");
    assert!(matches!(&news.answers[&CommandId(1)], Err(refused) if refused.to_string().contains("too large")));
    assert!(news.control.history.paused.is_none());
}

#[test]
fn chunks_of_an_artifact_that_is_in_no_control_any_more_get_tombstones() {
    let artifact = |upload: &str| Artifact { upload: upload.into(), offset: 0, chunks: 2, bytes: 9, at: 0 };
    let mut view = View::default();
    let mut control = Control { pipeline: "iris".into(), is_shared: true, ..Control::default() };
    control.artifacts.insert(Digest::of(b"tree"), artifact("iris/a"));
    for (key, value) in view.changes("iris", &control, Decided::default(), &[], false).unwrap() {
        view.take(split(key.as_bytes()).unwrap().1, value.as_deref()).unwrap();
    }
    assert!(gone(&view, &view.control("iris")).is_empty());
    control.artifacts.insert(Digest::of(b"tree"), artifact("iris/b"));
    assert_eq!(gone(&view, &control), [("iris/a/0".to_owned(), None), ("iris/a/1".to_owned(), None)]);
    control.artifacts.clear();
    assert_eq!(gone(&view, &control).len(), 2);
}

#[test]
fn commands_whose_result_no_topic_takes_are_answered_and_change_nothing() {
    let mut decider = decider();
    decide(&mut decider, 0, 1, &[("iris", wish())]);
    decide(&mut decider, 1, 2, &[("iris", written(Action::Staged { of: CommandId(0), owns: true }, None))]);
    decider.committed();
    // Two that fit by themselves: the head has both.
    let large = |stage: &str| {
        let config = serde_json::from_value(json!({ "x": "x".repeat(super::super::MAX_RECORD * 2 / 3) })).unwrap();
        let change = crate::control::command::StageChange { config, ..Default::default() };
        written(Action::Deploy { stages: [(stage.to_owned(), change)].into(), reason: "x".into(), rollout: None }, by())
    };
    decide(&mut decider, 2, 3, &[("iris", large("classify")), ("iris", large("classify"))]);
    let news = decider.staged["iris"].news("iris");
    assert_eq!((news.position, news.control.staging.len()), (4, 0));
    for id in [2, 3] {
        let refused = news.answers[&CommandId(id)].as_ref().unwrap_err().to_string();
        assert!(refused.contains("cannot be written"), "{refused}");
    }
}
