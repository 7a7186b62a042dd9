//! What follows from each command, and what holds for all sequences of them.

mod members;
mod rollout;
mod scorer;

use std::collections::BTreeSet;

use proptest::prelude::*;
use sandpiper_sandbox::Digest;
use serde_json::json;

use super::*;
use crate::config::plan::{RolloutStep, Until};
use crate::control::command::NamedPlugin;
use crate::control::history::Line;

fn release(name: &str, content: &str) -> Release {
    Release { name: name.into(), plugin: Digest::of(content.as_bytes()), model: None, config: json!({}) }
}

fn releases(classifier: &str) -> Releases {
    Releases {
        transforms: Vec::new(),
        parse: Some(release("csv", "csv")),
        classify: Some(release(classifier, classifier)),
        score: None,
    }
}

fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

/// Control, what it was told, and what came of that.
#[derive(Default)]
struct Story {
    control: Control,
    id: u64,
    from: String,
    /// Accepted commands in their order: what a journal has.
    journal: Vec<(Command, i64)>,
    answers: Vec<(CommandId, Result<Outcome, Refused>)>,
}

impl Story {
    /// A pipeline that runs `tree` as revision 1, past its probation.
    fn running() -> Self {
        let mut story = Self::default();
        story.control.pipeline = "iris".into();
        let of =
            story.tell(Action::Wish { releases: Box::new(releases("tree")), reason: "applied from iris.toml".into() });
        story.tell(Action::Staged { of, owns: true });
        story.tell(Action::Passed { revision: revision(1) });
        story
    }

    fn tell(&mut self, action: Action) -> CommandId {
        self.tell_against(None, action)
    }

    fn tell_against(&mut self, against: Option<Revision>, action: Action) -> CommandId {
        self.id += 1;
        let from = std::mem::take(&mut self.from);
        let command = Command { id: CommandId(self.id), from, by: None, against, action };
        let now = self.id as i64 * 10;
        match apply(&self.control, &command, now) {
            Ok(applied) => {
                self.control = applied.next;
                self.answers.extend(applied.answers);
                self.journal.push((command.clone(), now));
            }
            Err(refused) => self.answers.push((command.id, Err(refused))),
        }
        command.id
    }

    /// The next command comes through that daemon.
    fn from(&mut self, daemon: &str) -> &mut Self {
        self.from = daemon.into();
        self
    }

    /// How much what that command wants deployed is trusted.
    fn probation(&self, of: CommandId) -> Probation {
        self.control.probation(&self.control.staging[&of].deployment)
    }

    fn deploy(&mut self, classifier: &str) -> CommandId {
        self.tell(deploy(classifier))
    }

    /// Deploys, and has it staged.
    fn deployed(&mut self, classifier: &str) -> CommandId {
        let of = self.deploy(classifier);
        self.tell(Action::Staged { of, owns: true });
        of
    }

    /// The one answer to a command.
    fn answer(&self, to: CommandId) -> &Result<Outcome, Refused> {
        let all: Vec<_> = self.answers.iter().filter(|(of, _)| *of == to).map(|(_, answer)| answer).collect();
        assert_eq!(all.len(), 1, "{to:?} was answered {all:?}");
        all[0]
    }

    fn is_answered(&self, to: CommandId) -> bool {
        self.answers.iter().any(|(of, _)| *of == to)
    }

    fn runs(&self) -> (u64, String) {
        let current = self.control.history.current().unwrap();
        (current.revision.get(), current.releases.classify.as_ref().unwrap().name.clone())
    }
}

fn deploy(classifier: &str) -> Action {
    let plugin = NamedPlugin { name: classifier.into(), digest: Digest::of(classifier.as_bytes()) };
    let change = StageChange { plugin: Some(plugin), ..StageChange::default() };
    Action::Deploy { stages: [("classify".to_owned(), change)].into(), reason: "better".into(), rollout: None }
}

#[test]
fn the_files_wish_is_the_first_revision_and_the_same_wish_stands() {
    let mut story = Story::running();
    assert_eq!(story.runs(), (1, "tree".into()));
    // The process ends: only the history is left of it.
    story.control = Control { pipeline: "iris".into(), history: story.control.history.clone(), ..Control::default() };
    let of = story.tell(Action::Wish { releases: Box::new(releases("tree")), reason: "again".into() });
    assert_eq!(story.probation(of), Probation::Passed);
    let before = story.control.history.clone();
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.control.history, before);
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { .. })));
    assert_eq!((story.runs(), story.control.history.deployments.len()), ((1, "tree".into()), 1));
}

#[test]
fn a_file_that_asks_for_something_else_is_a_new_revision_on_probation() {
    let mut story = Story::running();
    let of = story.tell(Action::Wish { releases: Box::new(releases("logistic")), reason: "applied".into() });
    assert_eq!(story.probation(of), Probation::Replaceable);
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.runs(), (2, "logistic".into()));
    assert!(story.control.history.current().unwrap().on_probation);
}

#[test]
fn a_deployment_is_kept_handed_over_and_answered_when_every_running_worker_has_taken_it() {
    let mut story = Story::running();
    story.tell(Action::Runs { worker: 0, revision: Some(revision(1)) });
    story.tell(Action::Runs { worker: 1, revision: Some(revision(1)) });
    let of = story.deploy("logistic");
    assert!(!story.is_answered(of));
    assert_eq!(story.runs(), (1, "tree".into()), "what runs is untouched while it is staged");
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.control.handover, Some(Handover { of, revision: revision(2) }));
    story.tell(Action::Runs { worker: 0, revision: Some(revision(2)) });
    assert!(!story.is_answered(of), "worker 1 runs the old one");
    story.tell(Action::Runs { worker: 1, revision: Some(revision(2)) });
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { not_yet_taken_by, .. }) if not_yet_taken_by.is_empty()));
}

#[test]
fn a_worker_that_runs_nothing_is_not_waited_for_and_one_that_is_late_is_named() {
    let mut story = Story::running();
    story.tell(Action::Runs { worker: 0, revision: None });
    story.tell(Action::Runs { worker: 1, revision: Some(revision(1)) });
    let of = story.deployed("logistic");
    assert!(!story.is_answered(of));
    story.tell(Action::Overdue { of });
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { not_yet_taken_by, .. }) if *not_yet_taken_by == ["1"]));
    story.tell(Action::Runs { worker: 1, revision: Some(revision(2)) });
    story.answer(of);
}

#[test]
fn an_unfit_deployment_is_refused_with_its_reason_and_what_runs_is_untouched() {
    let mut story = Story::running();
    let before = story.control.clone();
    let of = story.deploy("logistic");
    story.tell(Action::Unfit { of, why: "a column is missing".into() });
    assert_eq!(story.answer(of), &Err(Refused::Unfit { why: "a column is missing".into() }));
    assert_eq!(story.control, before);
}

#[test]
fn of_two_deployments_at_once_the_second_is_superseded() {
    let mut story = Story::running();
    let (first, second) = (story.deploy("logistic"), story.deploy("forest"));
    story.tell(Action::Staged { of: second, owns: true });
    story.tell(Action::Staged { of: first, owns: true });
    assert_eq!(story.answer(first), &Ok(Outcome::Superseded { by: revision(2) }));
    assert_eq!(story.runs(), (2, "forest".into()));
}

#[test]
fn a_deployment_that_nobody_has_taken_yet_is_superseded_by_the_next() {
    let mut story = Story::running();
    story.tell(Action::Runs { worker: 0, revision: Some(revision(1)) });
    let first = story.deployed("logistic");
    let second = story.deployed("forest");
    assert_eq!(story.answer(first), &Ok(Outcome::Superseded { by: revision(3) }));
    assert!(!story.is_answered(second));
}

#[test]
fn what_was_made_against_another_revision_is_refused() {
    let mut story = Story::running();
    story.deployed("logistic");
    let of = story.tell_against(Some(revision(1)), deploy("forest"));
    let message = story.answer(of).as_ref().unwrap_err().to_string();
    assert_eq!(message, "pipeline iris runs revision 2, and the change was made against 1: look again");
}

#[test]
fn what_cannot_be_asked_for_is_refused_by_name() {
    let mut story = Story::running();
    let of_stage = |stage: &str| Action::Deploy {
        stages: [(stage.to_owned(), StageChange::default())].into(),
        reason: "x".into(),
        rollout: None,
    };
    let none = Action::Deploy { stages: BTreeMap::new(), reason: "x".into(), rollout: None };
    let Action::Deploy { stages, .. } = deploy("logistic") else { unreachable!() };
    for (action, expected) in [
        (Action::Deploy { stages, reason: " ".into(), rollout: None }, "--reason TEXT"),
        (none, "changes nothing"),
        (of_stage("judge"), "no stage \"judge\"; it has parse, classify"),
        (of_stage("transform[0]"), "no stage \"transform[0]\""),
        (of_stage("transform[x]"), "no stage \"transform[x]\""),
        (of_stage("classify"), "runs exactly this already, as revision 1"),
        (Action::Undo { reason: String::new(), to: None }, "nothing to go back to"),
        (Action::Resume, "not paused"),
    ] {
        let before = story.control.clone();
        let of = story.tell(action);
        let message = story.answer(of).as_ref().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(story.control, before);
    }
}

#[test]
fn a_plugin_of_another_name_starts_with_an_empty_configuration_and_null_removes_a_key() {
    let mut story = Story::running();
    let set = |key: &str, value: serde_json::Value| {
        let config = [(key.to_owned(), value)].into_iter().collect();
        let change = StageChange { config, ..StageChange::default() };
        Action::Deploy { stages: [("classify".to_owned(), change)].into(), reason: "x".into(), rollout: None }
    };
    let config = |story: &Story| story.control.history.current().unwrap().releases.classify.clone().unwrap().config;
    for (key, value, expected) in [
        ("depth", json!(4), json!({ "depth": 4 })),
        ("width", json!(2), json!({ "depth": 4, "width": 2 })),
        ("depth", json!(null), json!({ "width": 2 })),
    ] {
        let of = story.tell(set(key, value));
        story.tell(Action::Staged { of, owns: true });
        assert_eq!(config(&story), expected);
    }
    story.deployed("logistic");
    assert_eq!(config(&story), json!({}));
}

#[test]
fn an_undo_of_an_undo_runs_what_was_undone() {
    let mut story = Story::running();
    story.deployed("logistic");
    for (number, classifier) in [(3, "tree"), (4, "logistic"), (5, "tree")] {
        let of = story.tell(Action::Undo { reason: String::new(), to: None });
        story.tell(Action::Staged { of, owns: true });
        assert_eq!(story.runs(), (number, classifier.to_owned()));
        assert!(!story.control.history.current().unwrap().on_probation);
    }
}

#[test]
fn a_revision_that_fails_on_probation_holds_the_workers_and_the_one_before_takes_over() {
    let mut story = Story::running();
    story.deployed("logistic");
    let failed = story.tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    assert!(story.control.is_held());
    // The other worker fails too.
    let again = story.tell(Action::Failed { revision: revision(2), why: "it traps here too".into() });
    assert_eq!((story.answer(again), story.control.staging.len()), (&Ok(Outcome::Noted), 1));
    story.tell(Action::Staged { of: failed, owns: true });
    assert!(!story.control.is_held());
    let Ok(Outcome::RolledBack { deployment, failed_revision }) = story.answer(failed).clone() else { panic!() };
    assert_eq!((deployment.revision, failed_revision), (revision(3), revision(2)));
    assert!(deployment.reason.contains("revision 2 (csv@") && deployment.reason.contains("failed: it traps; back to"));
    assert_eq!(story.control.history.deployments[1].failed.as_deref(), Some("it traps"));
    // Heard late: what runs by now is something else.
    let late = story.tell(Action::Failed { revision: revision(2), why: "late".into() });
    assert_eq!(story.answer(late), &Ok(Outcome::Superseded { by: revision(3) }));
}

#[test]
fn a_failed_revision_with_nothing_before_it_pauses() {
    let mut story = Story::default();
    let of = story.tell(Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() });
    assert_eq!(story.probation(of), Probation::First);
    story.tell(Action::Staged { of, owns: true });
    let failed = story.tell(Action::Failed { revision: revision(1), why: "it traps".into() });
    assert!(matches!(story.answer(failed), Ok(Outcome::Paused { pause }) if pause.cause == Cause::Release));
    assert!(story.control.is_held());
}

#[test]
fn a_rollback_that_cannot_be_staged_pauses_with_both_reasons() {
    let mut story = Story::running();
    story.deployed("logistic");
    let failed = story.tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    story.tell(Action::Unfit { of: failed, why: "its file is gone".into() });
    let Ok(Outcome::Paused { pause }) = story.answer(failed).clone() else { panic!() };
    assert!(pause.why.contains("it traps") && pause.why.contains("its file is gone"), "{}", pause.why);
    assert_eq!((story.runs().0, story.control.failed, story.control.is_held()), (2, None, true));
    story.tell(Action::Resume);
    assert!(!story.control.is_held());
}

#[test]
fn a_deployment_that_is_staged_before_the_rollback_takes_over_from_the_failed_revision() {
    let mut story = Story::running();
    story.deployed("logistic");
    let forest = story.deploy("forest");
    let failed = story.tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    story.tell(Action::Staged { of: forest, owns: true });
    assert!(!story.control.is_held());
    story.tell(Action::Staged { of: failed, owns: true });
    assert_eq!(story.answer(failed), &Ok(Outcome::Superseded { by: revision(3) }));
    assert_eq!(story.runs(), (3, "forest".into()));
}

#[test]
fn a_pause_holds_until_it_is_resumed_whatever_is_deployed_meanwhile() {
    let mut story = Story::running();
    story.tell(Action::Runs { worker: 0, revision: Some(revision(1)) });
    story.tell(Action::Pause { reason: "lunch".into() });
    assert!(story.control.is_held());
    let again = story.tell(Action::Pause { reason: "more".into() });
    assert!(story.answer(again).as_ref().unwrap_err().to_string().contains("paused already: lunch"));
    let of = story.deployed("logistic");
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { .. })), "it is taken at resume");
    assert!(story.control.is_held());
    let resumed = story.tell(Action::Resume);
    assert!(!story.control.is_held());
    assert!(matches!(story.answer(resumed), Ok(Outcome::Resumed { pause }) if pause.why == "lunch"));
}

#[test]
fn the_first_pause_keeps_its_reason_and_a_decision_about_a_release_leaves_it_on() {
    let mut story = Story::running();
    story.deployed("logistic");
    let failed = story.tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    story.tell(Action::Pause { reason: "an operator was faster".into() });
    let pause = Pause { at: 1, cause: Cause::Breaker, why: "too many".into(), reasons: BTreeMap::new() };
    let breaker = story.tell(Action::Paused { pause });
    assert!(matches!(story.answer(breaker), Ok(Outcome::Paused { pause }) if pause.why == "an operator was faster"));
    story.tell(Action::Staged { of: failed, owns: true });
    assert!(story.control.is_held(), "still paused");
    story.tell(Action::Resume);
    assert!(!story.control.is_held());
}

#[test]
fn a_resume_does_not_let_a_revision_go_on_that_has_failed_and_is_not_replaced_yet() {
    let mut story = Story::running();
    story.deployed("logistic");
    story.tell(Action::Pause { reason: "lunch".into() });
    let failed = story.tell(Action::Failed { revision: revision(2), why: "it traps".into() });
    story.tell(Action::Resume);
    assert!(story.control.is_held());
    story.tell(Action::Staged { of: failed, owns: true });
    assert!(!story.control.is_held());
}

#[test]
fn only_so_many_deployments_are_staged_at_once() {
    let mut story = Story::running();
    for at in 0..STAGED_AT_ONCE {
        story.deploy(&format!("forest-{at}"));
    }
    let of = story.deploy("one-more");
    assert!(matches!(story.answer(of), Err(Refused::Busy { count: STAGED_AT_ONCE, .. })));
}

#[test]
fn the_oldest_deployments_are_forgotten() {
    let mut story = Story::running();
    for at in 0..250 {
        story.deployed(&format!("forest-{at}"));
    }
    let history = &story.control.history;
    assert_eq!((history.deployments.len(), story.runs().0), (200, 251));
    assert_eq!(history.deployments[0].revision, revision(52));
}

/// One thing that may happen; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Wish(u8),
    Deploy(u8),
    Score(u8),
    ScorerFailed(u64),
    ScorerPassed(u64),
    DeployAgainst(u8, u64),
    Undo,
    Pause,
    Resume,
    Replay,
    Breaker,
    Failed(u64),
    Passed(u64),
    Runs(usize, Option<u64>),
    Staged(usize),
    Unfit(usize),
    Adopt(u8, u64),
    Outrun(u64),
    Overdue,
    RollOut(u8),
    Promote,
    Abort,
    HoldRollout,
    ContinueRollout,
    Measured(u64, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0..4u8).prop_map(Step::Wish),
        4 => (0..4u8).prop_map(Step::Deploy),
        2 => (0..4u8).prop_map(Step::Score),
        2 => (0..3u64).prop_map(Step::ScorerFailed),
        1 => (0..3u64).prop_map(Step::ScorerPassed),
        1 => (0..4u8, 1..6u64).prop_map(|(classifier, against)| Step::DeployAgainst(classifier, against)),
        2 => Just(Step::Undo),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => Just(Step::Replay),
        1 => Just(Step::Breaker),
        3 => (0..3u64).prop_map(Step::Failed),
        1 => (0..3u64).prop_map(Step::Passed),
        3 => (0..3usize, proptest::option::of(0..3u64)).prop_map(|(worker, back)| Step::Runs(worker, back)),
        8 => any::<usize>().prop_map(Step::Staged),
        2 => any::<usize>().prop_map(Step::Unfit),
        1 => (any::<u8>(), 0..4u64).prop_map(|(at, ahead)| Step::Adopt(at, ahead)),
        1 => (0..4u64).prop_map(Step::Outrun),
        1 => Just(Step::Overdue),
        3 => (0..4u8).prop_map(Step::RollOut),
        1 => Just(Step::Promote),
        1 => Just(Step::Abort),
        1 => Just(Step::HoldRollout),
        2 => Just(Step::ContinueRollout),
        4 => (0..2u64, 0..200u64, 0..40u64).prop_map(|(by, agreed, differ)| Step::Measured(by, agreed, differ)),
    ];
    proptest::collection::vec(step, 0..60)
}

/// What a runner would do: reports are of what is being staged.
fn action(story: &Story, step: &Step) -> Option<(Option<Revision>, Action)> {
    let classifier = |at: &u8| ["tree", "logistic", "forest", "boost"][usize::from(*at) % 4];
    let current = story.control.history.revision();
    let back = |by: u64| Revision::new(current?.get().saturating_sub(by));
    let staging: Vec<CommandId> = story.control.staging.keys().copied().collect();
    let one = |at: &usize| staging.get(at % staging.len().max(1)).copied();
    let pause = || Pause { at: 1, cause: Cause::Breaker, why: "too many".into(), reasons: BTreeMap::new() };
    let action = match step {
        // Of one file the scorer, too.
        Step::Wish(at) => {
            let score = Some(release("loss", if *at < 2 { "loss" } else { "cost" }));
            let releases = Releases { score, ..releases(classifier(at)) };
            Action::Wish { releases: Box::new(releases), reason: "applied".into() }
        }
        Step::Deploy(at) => deploy(classifier(at)),
        Step::Score(at) => scorer::deploy_scorer(classifier(at)),
        Step::ScorerFailed(by) => Action::ScorerFailed { revision: back(*by)?, why: "it traps".into() },
        Step::ScorerPassed(by) => Action::ScorerPassed { revision: back(*by)? },
        Step::DeployAgainst(at, against) => return Some((Revision::new(*against), deploy(classifier(at)))),
        Step::Undo => Action::Undo { reason: String::new(), to: None },
        Step::Pause => Action::Pause { reason: String::new() },
        Step::Resume => Action::Resume,
        Step::Replay => Action::Replay,
        Step::Breaker => Action::Paused { pause: pause() },
        Step::Failed(by) => Action::Failed { revision: back(*by)?, why: "it traps".into() },
        Step::Passed(by) => Action::Passed { revision: back(*by)? },
        Step::Runs(worker, by) => Action::Runs { worker: *worker, revision: by.and_then(back) },
        Step::Staged(at) => Action::Staged { of: one(at)?, owns: true },
        Step::Unfit(at) => Action::Unfit { of: one(at)?, why: "unfit".into() },
        Step::Adopt(at, ahead) => adopt(current?.get() + ahead, classifier(at)),
        Step::Outrun(ahead) => Action::Outrun { revision: revision(current?.get() + ahead), releases: None },
        Step::Overdue => Action::Overdue { of: story.control.handover?.of },
        Step::RollOut(at) => {
            let until = Until::Records(100);
            let steps = [RolloutStep::Shadow { until }, RolloutStep::Pause, RolloutStep::Canary { share: 0.5, until }];
            rollout::by_steps(classifier(at), steps.to_vec())
        }
        Step::Promote => Action::Promote { reason: String::new() },
        Step::Abort => Action::Abort { reason: String::new() },
        Step::HoldRollout => Action::HoldRollout { reason: String::new() },
        Step::ContinueRollout => Action::ContinueRollout { reason: String::new() },
        Step::Measured(by, agreed, differ) => rollout::measured(back(*by)?.get(), *agreed, *differ),
    };
    Some((None, action))
}

fn adopt(number: u64, classifier: &str) -> Action {
    Action::Adopt { revision: revision(number), releases: releases(classifier).digest() }
}

#[test]
fn the_groups_number_for_what_runs_is_adopted_once() {
    let mut story = Story::running();
    let of = story.tell(adopt(5, "tree"));
    let again = story.tell(adopt(5, "tree"));
    assert_eq!(story.answer(again), &Ok(Outcome::Noted), "another worker was faster");
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.runs(), (5, "tree".into()));
    assert!(!story.control.history.current().unwrap().on_probation, "it has passed as revision 1");
    let late = story.tell(adopt(5, "tree"));
    assert_eq!(story.answer(late), &Ok(Outcome::Noted));
    assert_eq!(story.control.history.deployments.len(), 2);
    story.deployed("logistic");
    assert_eq!(story.runs(), (6, "logistic".into()));
}

#[test]
fn a_number_of_other_releases_is_not_adopted() {
    let mut story = Story::running();
    let of = story.tell(adopt(5, "logistic"));
    assert_eq!((story.answer(of), story.runs()), (&Ok(Outcome::Noted), (1, "tree".into())));
}

#[test]
fn what_nobody_runs_any_more_is_gone_above_once() {
    let mut story = Story::running();
    let of = story.tell(Action::Outrun { revision: revision(4), releases: None });
    story.tell(Action::Outrun { revision: revision(4), releases: None });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!((story.runs(), story.control.history.deployments.len()), ((5, "tree".into()), 2));
    let late = story.tell(Action::Outrun { revision: revision(4), releases: None });
    assert_eq!((story.answer(late), story.runs().0), (&Ok(Outcome::Noted), 5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_revisions_only_grow_and_every_command_has_one_answer(steps in steps()) {
        let mut story = Story { control: Control { pipeline: "iris".into(), ..Control::default() }, ..Story::default() };
        let mut asked = Vec::new();
        for step in &steps {
            let Some((against, action)) = action(&story, step) else { continue };
            let before = story.control.clone();
            let answers = story.answers.len();
            let id = story.tell_against(against, action.clone());
            asked.push(id);
            let (was, is) = (before.history.revision(), story.control.history.revision());
            prop_assert!(is >= was, "{was:?} -> {is:?}");
            let challenger = story.control.history.current().and_then(|current| current.challenger.clone());
            let rollout = story.control.history.rollout.as_ref();
            prop_assert_eq!(
                challenger, rollout.map(Rollout::challenger),
                "a challenger runs exactly while its rollout is under way, with the share of its step"
            );
            if matches!(&story.answers[answers..], [(to, Err(_))] if *to == id) {
                prop_assert_eq!(&story.control, &before, "a refused command changes nothing");
            }
        }
        // Everything that is under way comes to an end.
        while let Some(of) = story.control.staging.keys().next().copied() {
            story.tell(Action::Staged { of, owns: true });
        }
        if let Some(handover) = story.control.handover {
            story.tell(Action::Overdue { of: handover.of });
        }
        let answered: Vec<CommandId> = story.answers.iter().map(|(to, _)| *to).collect();
        let distinct: BTreeSet<CommandId> = answered.iter().copied().collect();
        prop_assert_eq!(answered.len(), distinct.len(), "nothing is answered twice");
        prop_assert!(asked.iter().all(|id| distinct.contains(id)), "every command is answered");
    }

    #[test]
    fn the_journals_commands_lead_to_the_same_state(steps in steps()) {
        let mut story = Story { control: Control { pipeline: "iris".into(), ..Control::default() }, ..Story::default() };
        for step in &steps {
            if let Some((against, action)) = action(&story, step) {
                story.tell_against(against, action);
            }
        }
        let mut again = Control { pipeline: "iris".into(), ..Control::default() };
        for (command, at) in &story.journal {
            let written = serde_json::to_string(command).unwrap();
            let read: Command = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(&read, command, "{}", written);
            again = apply(&again, &read, *at).unwrap().next;
        }
        prop_assert_eq!(again, story.control);
    }
}

#[test]
fn while_plugins_are_developed_no_deployment_is_on_probation() {
    let mut story = Story::running();
    story.control.develops = true;
    let of = story.deploy("logistic");
    assert_eq!(
        (story.control.staging[&of].deployment.on_probation, story.probation(of)),
        (false, Probation::Developing)
    );
    story.tell(Action::Staged { of, owns: true });
    assert!(!story.control.history.current().unwrap().on_probation);
    // Otherwise it is.
    story.control.develops = false;
    let of = story.deploy("forest");
    assert!(story.control.staging[&of].deployment.on_probation);
    assert_eq!(story.probation(of), Probation::Replaceable);
}

#[test]
fn who_asked_stands_in_the_history_beside_what_came_of_it() {
    let mut story = Story::running();
    let by = By { who: "admin".into(), from: "192.0.2.7".into() };
    let mut tell = |action| {
        story.id += 1;
        let (id, from, by) = (CommandId(story.id), String::new(), Some(by.clone()));
        let command = Command { id, from, by, against: None, action };
        let before = story.control.history.clone();
        story.control = apply(&story.control, &command, story.id as i64 * 10).unwrap().next;
        assert_ne!(story.control.history, before);
    };
    tell(Action::Pause { reason: "lunch".into() });
    tell(Action::Replay);
    tell(Action::Resume);
    let of = story.deployed("logistic");
    assert!(story.answer(of).is_ok());
    let lines: Vec<String> = (story.control.history.lines().iter())
        .map(|line| match line {
            Line::Deployment(deployment) => format!("{} {:?}", deployment.revision, deployment.by),
            Line::Call(call) => format!("{} {} {:?}", call.call.name(), call.reason, call.by),
        })
        .collect();
    let by = Some(by);
    assert_eq!(
        lines,
        [
            "1 None".to_owned(),
            format!("pause lunch {by:?}"),
            format!("replay  {by:?}"),
            format!("resume  {by:?}"),
            "2 None".to_owned()
        ]
    );
}

#[test]
fn what_people_say_has_a_bound_and_is_remembered_up_to_it() {
    let mut story = Story::running();
    let said = |bytes: usize| "x".repeat(bytes);
    for action in [
        |reason| Action::Pause { reason },
        |reason| Action::Undo { reason, to: None },
        |reason| Action::Deploy {
            stages: [("parse".to_owned(), StageChange::default())].into(),
            reason,
            rollout: None,
        },
    ] as [fn(String) -> Action; 3]
    {
        let of = story.tell(action(said(MAX_REASON + 1)));
        let why = story.answer(of).as_ref().unwrap_err().to_string();
        assert!(why.contains("1025 bytes") && why.contains("1024"), "{why}");
    }
    let paused = story.tell(Action::Pause { reason: said(MAX_REASON) });
    assert!(story.answer(paused).is_ok());
    let plugin = NamedPlugin { name: said(MAX_NAME + 1), digest: Digest::of(b"a") };
    let change = StageChange { plugin: Some(plugin), ..StageChange::default() };
    let of = story.tell(Action::Deploy {
        stages: [("parse".to_owned(), change)].into(),
        reason: "a name".into(),
        rollout: None,
    });
    assert!(story.answer(of).as_ref().unwrap_err().to_string().contains("129 bytes"));
}

#[test]
fn calls_are_remembered_up_to_a_number() {
    let mut story = Story::running();
    for _ in 0..300 {
        story.tell(Action::Replay);
    }
    assert_eq!(story.control.history.calls.len(), 200);
}
