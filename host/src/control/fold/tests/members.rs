//! Several daemons that one decides for.

use super::*;

/// Two daemons run `tree` as revision 1.
fn two_daemons() -> Story {
    let mut story = Story::running();
    story.control.is_shared = true;
    story.control.members.clear();
    for daemon in ["eu-1", "eu-2"] {
        story.from(daemon).tell(Action::Runs { worker: 0, revision: Some(revision(1)) });
    }
    story
}

fn wish(classifier: &str) -> Action {
    Action::Wish { releases: Box::new(releases(classifier)), reason: "applied from iris.toml".into() }
}

#[test]
fn a_deployment_is_current_when_a_daemon_that_owns_partitions_has_it_staged_and_answered_when_all_have_taken_it() {
    let mut story = two_daemons();
    let of = story.deploy("logistic");
    story.from("eu-1").tell(Action::Staged { of, owns: false });
    assert_eq!(story.runs().0, 1, "who owns nothing proves nothing");
    story.from("eu-2").tell(Action::Staged { of, owns: true });
    assert_eq!(story.runs(), (2, "logistic".into()));
    story.from("eu-2").tell(Action::Runs { worker: 0, revision: Some(revision(2)) });
    assert!(!story.is_answered(of));
    story.from("eu-1").tell(Action::Runs { worker: 0, revision: Some(revision(2)) });
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { not_yet_taken_by, .. }) if not_yet_taken_by.is_empty()));
}

#[test]
fn a_deployment_that_no_daemon_can_run_is_refused_once_all_have_said_so() {
    let mut story = two_daemons();
    let of = story.deploy("logistic");
    story.from("eu-1").tell(Action::Unfit { of, why: "a column is missing".into() });
    assert!(!story.is_answered(of), "the other may be able to");
    story.from("eu-2").tell(Action::Unfit { of, why: "a column is missing".into() });
    assert_eq!(story.answer(of), &Err(Refused::Unfit { why: "a column is missing".into() }));
    assert_eq!((story.runs().0, story.control.staging.len()), (1, 0));
    let of = story.deploy("forest");
    story.from("eu-1").tell(Action::Unfit { of, why: "too old".into() });
    story.from("eu-2").tell(Action::Unfit { of, why: "no memory".into() });
    let why = story.answer(of).as_ref().unwrap_err().to_string();
    assert!(why.contains("eu-1: too old") && why.contains("eu-2: no memory"), "{why}");
}

#[test]
fn one_that_one_daemon_cannot_run_is_current_where_another_can() {
    let mut story = two_daemons();
    let of = story.deploy("logistic");
    story.from("eu-1").tell(Action::Unfit { of, why: "no memory".into() });
    story.from("eu-2").tell(Action::Staged { of, owns: false });
    assert_eq!(story.runs(), (2, "logistic".into()), "everybody has answered");
}

#[test]
fn daemons_that_say_nothing_are_waited_for_until_their_time_is_over() {
    let mut story = two_daemons();
    let of = story.deploy("logistic");
    story.from("eu-1").tell(Action::Staged { of, owns: false });
    story.tell(Action::Overdue { of });
    assert_eq!(story.runs().0, 2);
    let of = story.deploy("forest");
    story.tell(Action::Overdue { of });
    let why = story.answer(of).as_ref().unwrap_err().to_string();
    assert!(why.contains("no daemon has said"), "{why}");
}

#[test]
fn a_daemon_that_went_without_a_word_holds_up_one_deployment_and_no_more() {
    let mut story = two_daemons();
    let of = story.deploy("logistic");
    story.from("eu-1").tell(Action::Staged { of, owns: true });
    story.from("eu-1").tell(Action::Runs { worker: 0, revision: Some(revision(2)) });
    story.tell(Action::Overdue { of });
    assert!(
        matches!(story.answer(of), Ok(Outcome::Activated { not_yet_taken_by, .. }) if *not_yet_taken_by == ["eu-2/0"])
    );
    let of = story.deploy("forest");
    story.from("eu-1").tell(Action::Staged { of, owns: false });
    story.from("eu-1").tell(Action::Runs { worker: 0, revision: Some(revision(3)) });
    assert!(story.answer(of).is_ok(), "eu-2 is not waited for");
}

#[test]
fn a_file_is_applied_when_it_changes_and_not_when_a_daemon_comes_back_with_an_older_one() {
    let mut story = two_daemons();
    let staged = |story: &mut Story| {
        while let Some(of) = story.control.staging.keys().next().copied() {
            story.from("eu-1").tell(Action::Staged { of, owns: true });
        }
    };
    for daemon in ["eu-1", "eu-2"] {
        story.from(daemon).tell(wish("tree"));
        assert!(story.control.staging.is_empty(), "it runs already");
    }
    story.from("eu-1").tell(wish("logistic"));
    staged(&mut story);
    assert_eq!(story.runs(), (2, "logistic".into()));
    story.from("eu-2").tell(wish("tree"));
    assert!(story.control.staging.is_empty(), "it has asked for that before, and others have changed it since");
    story.from("eu-3").tell(wish("tree"));
    assert!(story.control.staging.is_empty(), "it comes late, with what is replaced by now");
    story.from("eu-2").tell(wish("logistic"));
    story.from("eu-3").tell(wish("logistic"));
    assert_eq!(story.control.history.deployments.len(), 2);
    story.from("eu-2").tell(wish("tree"));
    staged(&mut story);
    assert_eq!(story.runs(), (3, "tree".into()), "its file was changed back");
    story.from("eu-4").tell(wish("forest"));
    staged(&mut story);
    assert_eq!(story.runs(), (4, "forest".into()), "nobody has asked for it before");
}

#[test]
fn an_aborted_release_stays_refused_until_the_file_asks_for_something_else() {
    let mut story = two_daemons();
    story.from("eu-1").tell(wish("tree"));
    story.from("eu-1").tell(wish("logistic"));
    let of = *story.control.staging.keys().next().unwrap();
    story.from("eu-1").tell(Action::Staged { of, owns: true });
    let failed = story.tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    story.from("eu-1").tell(Action::Staged { of: failed, owns: true });
    assert_eq!(story.runs(), (3, "tree".into()));
    for daemon in ["eu-1", "eu-2", "eu-9"] {
        story.from(daemon).tell(wish("logistic"));
    }
    assert!(story.control.staging.is_empty());
    assert_eq!(story.runs(), (3, "tree".into()));
}

#[test]
fn a_step_is_judged_by_what_all_daemons_have_measured() {
    let mut story = two_daemons();
    let until = Until::Records(100);
    let of = story.tell(rollout::by_steps("logistic", vec![RolloutStep::Shadow { until }, RolloutStep::Pause]));
    story.from("eu-1").tell(Action::Staged { of, owns: true });
    story.from("eu-1").tell(Action::Runs { worker: 0, revision: Some(revision(2)) });
    story.from("eu-1").tell(rollout::measured(2, 60, 0));
    story.from("eu-1").tell(rollout::measured(2, 70, 0));
    assert_eq!(story.control.history.rollout.as_ref().unwrap().step, 0, "the same records are counted once");
    story.from("eu-2").tell(rollout::measured(2, 30, 0));
    assert_eq!(story.control.history.rollout.as_ref().unwrap().step, 1);
    assert_eq!(story.control.measured(revision(2)).comparison.judged(), 100);
}

#[test]
fn what_a_daemon_remembers_is_taken_back_where_the_journal_has_less() {
    let mut story = two_daemons();
    story.deployed("logistic");
    let history = story.control.history.clone();
    let lost = Control { is_shared: true, pipeline: "iris".into(), ..Control::default() };
    story.control = lost;
    let restore = || Action::Restore { history: Box::new(History::clone(&history)) };
    story.from("eu-1").tell(restore());
    story.from("eu-2").tell(restore());
    assert_eq!(story.control.history, history);
    let older = History { deployments: history.deployments[..1].to_vec(), ..History::default() };
    story.from("eu-3").tell(Action::Restore { history: Box::new(older) });
    assert_eq!(story.control.history, history, "and never goes back");
}

#[test]
fn artifacts_that_no_deployment_needs_are_forgotten_after_an_hour() {
    let mut story = two_daemons();
    let artifact = |upload: &str| Artifact { upload: upload.into(), offset: 0, chunks: 1, bytes: 1, at: 0 };
    let (needed, other) = (Digest::of(b"logistic"), Digest::of(b"never deployed"));
    for digest in [needed, other] {
        story.tell(Action::Shared { digest, artifact: artifact("a") });
    }
    story.deployed("logistic");
    assert_eq!(story.control.artifacts.len(), 2, "it may be on its way into a deployment");
    story.id += 1_000_000;
    story.deployed("forest");
    assert_eq!(story.control.artifacts.keys().copied().collect::<Vec<_>>(), [needed]);
}

#[test]
fn what_a_daemon_that_is_behind_takes_for_somebody_elses_is_the_current_one() {
    let mut story = two_daemons();
    story.deployed("logistic");
    let digest = story.control.history.current().unwrap().digest();
    let of = story.from("eu-2").tell(Action::Outrun { revision: revision(2), releases: Some(digest) });
    assert_eq!((story.answer(of), story.control.staging.len()), (&Ok(Outcome::Noted), 0));
    story.tell(Action::Outrun { revision: revision(2), releases: Some(Digest::of(b"other")) });
    assert_eq!(story.control.staging.len(), 1, "one number is one deployment");
}

#[test]
fn a_wish_that_could_not_be_run_is_tried_when_it_is_asked_for_again() {
    let control = Control { pipeline: "iris".into(), is_shared: true, ..Control::default() };
    let mut story = Story { control, ..Story::default() };
    for _ in 0..2 {
        let of = story.from("eu-1").tell(wish("tree"));
        story.from("eu-2").tell(wish("tree"));
        assert_eq!(story.control.staging.len(), 1, "daemons that start at once ask for the same");
        story.from("eu-1").tell(Action::Unfit { of, why: "no memory".into() });
        assert!(story.answer(of).is_err());
    }
    let mut story = two_daemons();
    for _ in 0..2 {
        let of = story.from("eu-1").tell(wish("logistic"));
        story.from("eu-1").tell(Action::Unfit { of, why: "no memory".into() });
        story.from("eu-2").tell(Action::Unfit { of, why: "no memory".into() });
        assert!(story.answer(of).is_err());
    }
}

#[test]
fn daemons_whose_workers_are_held_are_waited_for_and_one_that_leaves_is_not() {
    let mut story = two_daemons();
    let of = story.deploy("logistic");
    story.from("eu-1").tell(Action::Staged { of, owns: true });
    for daemon in ["eu-1", "eu-2"] {
        story.from(daemon).tell(Action::Runs { worker: 0, revision: Some(revision(2)) });
    }
    let failed = story.from("eu-1").tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    for daemon in ["eu-1", "eu-2"] {
        story.from(daemon).tell(Action::Runs { worker: 0, revision: None });
    }
    story.from("eu-1").tell(Action::Unfit { of: failed, why: "the disk is full".into() });
    assert!(story.control.history.paused.is_none(), "the other one may take over");
    story.from("eu-2").tell(Action::Staged { of: failed, owns: true });
    assert_eq!(story.runs(), (3, "tree".into()));
    let of = story.deploy("forest");
    story.from("eu-1").tell(Action::Unfit { of, why: "the disk is full".into() });
    story.from("eu-2").tell(Action::Leaves);
    assert!(story.answer(of).is_err(), "nobody else is there");
}

#[test]
fn an_artifact_that_is_not_there_any_more_is_given_anew() {
    let mut story = two_daemons();
    let digest = Digest::of(b"logistic");
    let artifact = Artifact { upload: "iris/a".into(), offset: 0, chunks: 1, bytes: 1, at: 0 };
    story.tell(Action::Shared { digest, artifact });
    story.tell(Action::Lacks { digest });
    assert!(story.control.artifacts.is_empty());
}
