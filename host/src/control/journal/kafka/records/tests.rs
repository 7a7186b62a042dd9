//! What is written is what is read, whatever is known of it.

use super::*;
use crate::control::command::{Action, By, Command, NamedPlugin, Outcome, StageChange};
use crate::control::deployment::{Release, Releases};
use crate::control::fold::apply;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// A pipeline that was told those things, each staged at once.
fn control(names: &[&str]) -> Control {
    let mut control = Control { pipeline: "iris".into(), is_shared: true, ..Control::default() };
    let mut id = 0;
    let mut tell = |control: &mut Control, action| {
        id += 1;
        let by = Some(By { who: "admin".into(), from: "192.0.2.7".into() });
        let command = Command { id: CommandId(id), from: "eu-1".into(), by, against: None, action };
        *control = apply(control, &command, id as i64).unwrap().next;
        command.id
    };
    for name in names {
        let of = match control.history.current() {
            None => {
                let release =
                    Release { name: (*name).into(), plugin: digest(name), model: None, config: serde_json::json!({}) };
                let releases = Box::new(Releases { classify: Some(release), ..Releases::default() });
                tell(&mut control, Action::Wish { releases, reason: "applied".into() })
            }
            Some(_) => {
                let plugin = Some(NamedPlugin { name: (*name).into(), digest: digest(name) });
                let change = StageChange { plugin, ..StageChange::default() };
                let stages = [("classify".to_owned(), change)].into();
                tell(&mut control, Action::Deploy { stages, reason: "better".into(), rollout: None })
            }
        };
        tell(&mut control, Action::Staged { of, owns: true });
    }
    let revision = control.history.revision();
    tell(&mut control, Action::Runs { worker: 0, revision });
    tell(&mut control, Action::Pause { reason: "lunch".into() });
    let artifact = Artifact { upload: "iris/a".into(), offset: 3, chunks: 2, bytes: 9, at: 0 };
    tell(&mut control, Action::Shared { digest: digest("tree"), artifact });
    control
}

const DECIDED: Decided = Decided { position: 7, base: 0, at: 99 };

fn apply_to(view: &mut View, changes: &Changes) {
    for (at, (key, value)) in changes.iter().enumerate() {
        let (pipeline, part) = split(key.as_bytes()).unwrap();
        assert_eq!(pipeline, "iris");
        let is_head = view.take(part, value.as_deref()).unwrap();
        assert_eq!(is_head, at + 1 == changes.len(), "the head comes last");
    }
}

/// What is written of a control, read.
fn view_of(control: &Control) -> View {
    let mut view = View::default();
    let changes = view.changes("iris", control, DECIDED, &[], false).unwrap();
    apply_to(&mut view, &changes);
    view
}

#[test]
fn what_one_reader_has_written_another_reads_and_only_what_changed_is_written() {
    let (first, second) = (control(&["tree", "logistic"]), control(&["tree", "logistic", "forest"]));
    let mut view = view_of(&first);
    assert_eq!((view.control("iris"), view.decided()), (first.clone(), DECIDED));
    assert_eq!(view.changes("iris", &first, DECIDED, &[], false).unwrap().len(), 1, "the head alone");
    assert!(view.changes("iris", &first, DECIDED, &[], true).unwrap().len() > 5, "all of it where that is asked for");
    let answers = [(CommandId(6), Ok(Outcome::Superseded { by: Revision::FIRST }))];
    let changes = view.changes("iris", &second, DECIDED, &answers, false).unwrap();
    let keys: Vec<&str> = changes.iter().map(|(key, _)| key.as_str()).collect();
    assert!(!keys.contains(&"iris/revision/1") && keys.contains(&"iris/revision/3") && keys.contains(&"iris/answer/6"));
    apply_to(&mut view, &changes);
    assert_eq!(view.control("iris"), second);
    assert_eq!(view.news("iris").answers[&CommandId(6)], answers[0].1);
}

#[test]
fn what_is_not_in_the_control_any_more_gets_a_tombstone() {
    let (first, mut second) = (control(&["tree", "logistic"]), control(&["tree", "logistic"]));
    let mut view = view_of(&first);
    second.members.clear();
    second.artifacts.clear();
    Arc::make_mut(&mut second.history).deployments.remove(0);
    let changes = view.changes("iris", &second, DECIDED, &[], false).unwrap();
    let gone: Vec<&str> = changes.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
    assert_eq!(gone.len(), 3, "{gone:?}");
    apply_to(&mut view, &changes);
    assert_eq!(view.control("iris"), second);
}

#[test]
fn what_a_later_program_has_added_is_kept_when_a_part_is_written_again() {
    let first = control(&["tree", "logistic"]);
    let mut view = View::default();
    let mut changes = view.changes("iris", &first, DECIDED, &[], false).unwrap();
    for (_, value) in &mut changes {
        let mut object: Value = serde_json::from_slice(value.as_ref().unwrap()).unwrap();
        object["of_a_later_program"] = 1.into();
        if let Some(releases) = object.get_mut("releases") {
            releases["also"] = 2.into();
        }
        *value = Some(serde_json::to_vec(&object).unwrap());
    }
    apply_to(&mut view, &changes);
    assert_eq!(view.control("iris"), first);
    for (key, value) in view.changes("iris", &first, DECIDED, &[], true).unwrap() {
        let object: Value = serde_json::from_slice(&value.unwrap()).unwrap();
        assert_eq!(object["of_a_later_program"], 1, "{key}");
        if let Some(releases) = object.get("releases") {
            assert_eq!(releases["also"], 2, "{key}");
        }
    }
    // A part of a kind that this program does not know is passed over, and stays.
    assert!(!view.take("novelty/1", Some(br#"{"v":1}"#)).unwrap());
}

#[test]
fn a_record_of_a_later_version_is_not_understood_and_says_so() {
    for (value, expected) in [(&br#"{"v":2}"#[..], "version 2"), (b"{}", "no record of control"), (b"x", "no record")] {
        let error = format!("{:#}", View::default().take("", Some(value)).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_history_of_which_a_part_is_gone_is_none_and_what_was_decided_stands() {
    let first = control(&["tree", "logistic"]);
    let mut view = view_of(&first);
    view.take("revision/1", None).unwrap();
    let control = view.control("iris");
    assert_eq!((control.history.revision(), control.history.paused.is_some()), (None, false));
    assert_eq!((view.decided(), control.members), (DECIDED, first.members));
}

#[test]
fn what_no_topic_takes_is_refused_before_it_is_written() {
    let mut large = control(&["tree"]);
    let config = serde_json::json!({ "x": "x".repeat(MAX_RECORD) });
    let deployments = &mut Arc::make_mut(&mut large.history).deployments;
    deployments[0].releases.classify.as_mut().unwrap().config = config;
    let error = View::default().changes("iris", &large, DECIDED, &[], false).unwrap_err().to_string();
    assert!(error.contains("bytes"), "{error}");
}

#[test]
fn what_is_known_of_scorers_is_read_again_and_nothing_of_it_need_be_there() {
    let mut control = control(&["tree"]);
    let changes = View::default().changes("iris", &control, DECIDED, &[], true).unwrap();
    for (key, value) in changes {
        let text = String::from_utf8(value.unwrap()).unwrap();
        assert!(
            !text.contains("scorer") && !text.contains("_score"),
            "{key} is as it was before there were any: {text}"
        );
    }
    let history = Arc::make_mut(&mut control.history);
    history.applied_score = Some(digest("loss"));
    history.deployments[0].scorer_on_probation = true;
    history.deployments[0].releases.score = history.deployments[0].releases.classify.clone();
    control.failed_scorer = Some(Revision::FIRST);
    control.members.values_mut().for_each(|member| member.wish_score = Some(digest("loss")));
    assert_eq!(view_of(&control).control("iris"), control);
}
