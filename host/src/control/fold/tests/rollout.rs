//! What follows from a rollout's steps, its figures and what people say about it.

use super::*;
use crate::config::plan::{self, Guard, Guards, RolloutStep, Until};
use crate::control::rollout::StepFigures;
use crate::record::Comparison;

fn canary(share: f32, until: Until) -> RolloutStep {
    RolloutStep::Canary { share, until }
}

fn steps() -> Vec<RolloutStep> {
    vec![RolloutStep::Shadow { until: Until::Records(100) }, canary(0.25, Until::Time(1_000)), RolloutStep::Pause]
}

pub(super) fn by_steps(classifier: &str, steps: Vec<RolloutStep>) -> Action {
    let Action::Deploy { stages, reason, .. } = deploy(classifier) else { unreachable!() };
    let guards =
        Guards { disagreement: Some(Guard { above: Some(0.5), below: None, records: 10 }), ..Guards::default() };
    let plan = plan::Rollout { sample: 1.0, steps, guards };
    Action::Deploy { stages, reason, rollout: Some(Box::new(Steps { plan, allow_new_classes: false })) }
}

pub(super) fn measured(number: u64, agreed: u64, disagreed: u64) -> Action {
    let comparison = Comparison { sampled: agreed + disagreed, agreed, disagreed, ..Comparison::default() };
    let figures = StepFigures { records: agreed + disagreed, comparison, ..StepFigures::default() };
    Action::Measured { revision: revision(number), figures: Box::new(figures) }
}

impl Story {
    /// `tree` as revision 1, `logistic` beside it as revision 2.
    fn rolling_out() -> Self {
        let mut story = Self::running();
        let of = story.tell(by_steps("logistic", steps()));
        story.tell(Action::Staged { of, owns: true });
        story.taken();
        story
    }

    /// A worker runs what is current.
    fn taken(&mut self) {
        let revision = self.control.history.revision();
        self.tell(Action::Runs { worker: 0, revision });
    }

    fn rollout(&self) -> &Rollout {
        self.control.history.rollout.as_ref().unwrap()
    }

    /// What runs, and beside it the challenger and its share.
    fn arms(&self) -> (u64, String, Option<(String, f32)>) {
        let (number, champion) = self.runs();
        let challenger = self.control.history.current().unwrap().challenger.as_ref();
        let arm = |challenger: &crate::control::deployment::Challenger| {
            (challenger.releases.classify.as_ref().unwrap().name.clone(), challenger.canary)
        };
        (number, champion, challenger.map(arm))
    }

    /// The command that is being staged, staged.
    fn stage(&mut self) {
        let of = *self.control.staging.keys().next().unwrap();
        self.tell(Action::Staged { of, owns: true });
        self.taken();
    }

    fn is_staging(&self) -> bool {
        !self.control.staging.is_empty()
    }
}

fn arms(number: u64, champion: &str, challenger: Option<(&str, f32)>) -> (u64, String, Option<(String, f32)>) {
    (number, champion.into(), challenger.map(|(name, share)| (name.into(), share)))
}

#[test]
fn whoever_began_a_rollout_that_goes_on_before_every_worker_has_its_first_step_is_told_that_it_runs() {
    let mut story = Story::running();
    story.tell(Action::Runs { worker: 0, revision: Some(revision(1)) });
    story.tell(Action::Runs { worker: 1, revision: Some(revision(1)) });
    let of = story.tell(by_steps("logistic", steps()));
    story.tell(Action::Staged { of, owns: true });
    story.taken();
    assert!(!story.is_answered(of), "worker 1 runs the old one");
    story.tell(measured(2, 100, 0));
    let step = *story.control.staging.keys().next().unwrap();
    story.tell(Action::Staged { of: step, owns: true });
    assert_eq!(story.arms(), arms(3, "tree", Some(("logistic", 0.25))));
    let Ok(Outcome::Activated { deployment, not_yet_taken_by }) = story.answer(of) else { panic!() };
    assert_eq!((deployment.revision, not_yet_taken_by.as_slice()), (revision(2), &["1".to_owned()][..]));
}

#[test]
fn a_candidate_goes_through_its_steps_each_a_revision_and_is_promoted_by_a_person() {
    let mut story = Story::rolling_out();
    assert_eq!(story.arms(), arms(2, "tree", Some(("logistic", 0.0))));
    let reason = story.control.history.current().unwrap().reason.clone();
    assert_eq!(reason, "better (rollout 2, step 1 of 3: shadow)");

    story.tell(measured(2, 99, 0));
    assert!(!story.is_staging(), "a record is missing");
    story.tell(measured(2, 100, 0));
    story.stage();
    assert_eq!(story.arms(), arms(3, "tree", Some(("logistic", 0.25))));

    story.id += 90;
    story.tell(measured(3, 1, 0));
    assert!(matches!(story.rollout().state, RolloutState::Running), "a second is not over");
    story.id += 20;
    story.tell(measured(3, 1, 0));
    assert_eq!(story.arms(), arms(3, "tree", Some(("logistic", 0.25))), "to wait is no deployment");
    assert!(matches!(story.rollout().state, RolloutState::Held { .. }));

    let of = story.tell(Action::ContinueRollout { reason: String::new() });
    assert!(matches!(story.answer(of), Ok(Outcome::Rollout { .. })));
    assert_eq!(story.rollout().state, RolloutState::Passed);
    let of = story.tell(Action::Promote { reason: "two points better".into() });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.arms(), arms(4, "logistic", None));
    assert_eq!(story.control.history.rollout, None);
    assert!(story.control.history.current().unwrap().on_probation, "it takes all records for the first time");
    let of = story.tell(Action::Undo { reason: String::new(), to: None });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.arms(), arms(5, "tree", None));
}

#[test]
fn a_broken_guard_ends_the_rollout_by_itself_and_says_the_figures() {
    let mut story = Story::rolling_out();
    story.tell(measured(2, 4, 6));
    story.stage();
    assert_eq!(story.arms(), arms(3, "tree", None));
    let reason = story.control.history.current().unwrap().reason.clone();
    assert_eq!(reason, "rollout 2 aborted: the arms disagree on 6 of 10 records (60 %), above 50 %");
    assert_eq!(story.control.history.rollout, None);
}

#[test]
fn a_guard_is_judged_while_the_rollout_waits_and_a_step_is_not_ended() {
    let mut story = Story::rolling_out();
    story.tell(Action::HoldRollout { reason: "lunch".into() });
    story.tell(measured(2, 1_000, 0));
    assert!(!story.is_staging());
    let again = story.tell(Action::HoldRollout { reason: String::new() });
    assert!(story.answer(again).as_ref().unwrap_err().to_string().contains("waits already: lunch"));
    story.tell(measured(2, 0, 1_000));
    story.stage();
    assert_eq!(story.arms(), arms(3, "tree", None));
}

#[test]
fn figures_of_another_revision_and_those_that_come_while_the_next_step_is_staged_change_nothing() {
    let mut story = Story::rolling_out();
    story.tell(measured(1, 0, 1_000));
    assert!(!story.is_staging());
    story.tell(measured(2, 100, 0));
    let staging = story.control.staging.clone();
    story.tell(measured(2, 0, 1_000));
    assert_eq!(story.control.staging, staging, "what is staged against this revision decides");
}

#[test]
fn while_a_rollout_is_under_way_nothing_else_is_deployed() {
    let mut story = Story::rolling_out();
    for action in [deploy("forest"), by_steps("forest", steps())] {
        let of = story.tell(action);
        let refused = story.answer(of).as_ref().unwrap_err().to_string();
        assert!(
            refused.contains("rolling out classify logistic@") && refused.contains("rollout abort iris"),
            "{refused}"
        );
    }
    let none = story.tell(Action::Abort { reason: "not now".into() });
    story.tell(Action::Staged { of: none, owns: true });
    for action in [
        Action::Abort { reason: String::new() },
        Action::Promote { reason: String::new() },
        Action::ContinueRollout { reason: String::new() },
    ] {
        let of = story.tell(action);
        assert!(matches!(story.answer(of), Err(Refused::NoRollout { .. })));
    }
    story.deployed("forest");
    assert_eq!(story.arms(), arms(4, "forest", None));
}

#[test]
fn undo_in_a_rollout_goes_back_to_what_ran_before_it_and_to_a_revision_by_its_number() {
    let mut story = Story::running();
    story.deployed("forest");
    let of = story.tell(by_steps("logistic", steps()));
    story.tell(Action::Staged { of, owns: true });
    let of = story.tell(Action::Undo { reason: String::new(), to: None });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.arms(), arms(4, "forest", None));
    let of = story.tell(Action::Undo { reason: "a bad day".into(), to: Some(revision(1)) });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.arms(), arms(5, "tree", None));
    let unknown = story.tell(Action::Undo { reason: String::new(), to: Some(revision(99)) });
    assert!(story.answer(unknown).as_ref().unwrap_err().to_string().contains("no revision 99"));
    let same = story.tell(Action::Undo { reason: String::new(), to: Some(revision(1)) });
    assert!(matches!(story.answer(same), Err(Refused::SameAsCurrent { .. })));
}

#[test]
fn an_abort_and_a_promotion_at_once_have_one_outcome() {
    let mut story = Story::rolling_out();
    let promoted = story.tell(Action::Promote { reason: String::new() });
    let aborted = story.tell(Action::Abort { reason: String::new() });
    story.tell(Action::Staged { of: aborted, owns: true });
    story.tell(Action::Staged { of: promoted, owns: true });
    assert!(matches!(story.answer(promoted), Ok(Outcome::Superseded { .. })));
    assert_eq!((story.arms(), &story.control.history.rollout), (arms(3, "tree", None), &None));
}

#[test]
fn a_rollout_goes_on_after_a_restart_and_a_file_that_asks_for_something_else_ends_it() {
    let mut story = Story::rolling_out();
    let history = story.control.history.clone();
    story.control = Control { pipeline: "iris".into(), history: history.clone(), ..Control::default() };
    let of = story.tell(Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.arms(), arms(2, "tree", Some(("logistic", 0.0))), "the same revision");
    assert_eq!(story.control.history, history);
    let of = story.tell(Action::Wish { releases: Box::new(releases("forest")), reason: "applied".into() });
    story.tell(Action::Staged { of, owns: true });
    assert_eq!((story.arms(), &story.control.history.rollout), (arms(3, "forest", None), &None));
}

#[test]
fn a_step_that_cannot_be_staged_waits_for_a_person_and_is_not_tried_again_and_again() {
    let mut story = Story::rolling_out();
    story.tell(measured(2, 100, 0));
    let of = *story.control.staging.keys().next().unwrap();
    story.tell(Action::Unfit { of, why: "its secret is gone".into() });
    assert!(matches!(&story.rollout().state, RolloutState::Held { why } if why.contains("its secret is gone")));
    story.tell(measured(2, 1_000, 0));
    assert!(!story.is_staging());
    story.tell(Action::ContinueRollout { reason: String::new() });
    story.tell(measured(2, 1_000, 0));
    story.stage();
    assert_eq!(story.arms(), arms(3, "tree", Some(("logistic", 0.25))));
}

#[test]
fn a_first_step_that_is_unfit_is_refused_and_nothing_is_under_way() {
    let mut story = Story::running();
    let of = story.tell(by_steps("logistic", steps()));
    story.tell(Action::Unfit { of, why: "other classes".into() });
    assert_eq!(story.answer(of), &Err(Refused::Unfit { why: "other classes".into() }));
    assert_eq!((story.arms(), &story.control.history.rollout), (arms(1, "tree", None), &None));
}

#[test]
fn the_revision_of_a_step_names_the_arms_and_their_shares() {
    let mut story = Story::rolling_out();
    let digest = |story: &Story| story.control.history.current().unwrap().digest();
    let first = digest(&story);
    assert_ne!(first, releases("tree").digest());
    story.tell(measured(2, 100, 0));
    story.stage();
    assert_ne!(digest(&story), first, "another share is another deployment");
    // The group's number for exactly these arms is adopted, and the rollout goes on.
    let adopted = Action::Adopt { revision: revision(9), releases: digest(&story) };
    story.tell(adopted);
    story.stage();
    assert_eq!(story.arms(), arms(9, "tree", Some(("logistic", 0.25))));
    assert_eq!(story.rollout().id, revision(2), "and every record keeps its arm");
}

#[test]
fn several_stages_are_no_challenger() {
    let mut story = Story::running();
    story.control = Control::default();
    let transforms = Releases { transforms: vec![release("mask", "1"), release("route", "1")], ..Releases::default() };
    let of = story.tell(Action::Wish { releases: Box::new(transforms), reason: "applied".into() });
    story.tell(Action::Staged { of, owns: true });
    let Action::Deploy { rollout, .. } = by_steps("any", steps()) else { unreachable!() };
    let change = |name: &str| {
        let plugin = NamedPlugin { name: name.into(), digest: Digest::of(b"2") };
        StageChange { plugin: Some(plugin), ..StageChange::default() }
    };
    let both = [("transform[0]".to_owned(), change("mask")), ("transform[1]".to_owned(), change("route"))];
    let of = story.tell(Action::Deploy { stages: both.into(), reason: "both".into(), rollout: rollout.clone() });
    assert!(story.answer(of).as_ref().unwrap_err().to_string().contains("changes transform[0], transform[1]"));
    let one = [("transform[1]".to_owned(), change("route"))];
    let of = story.tell(Action::Deploy { stages: one.into(), reason: "one".into(), rollout });
    story.tell(Action::Staged { of, owns: true });
    assert!(story.control.history.rollout.is_some());
}

#[test]
fn a_person_comes_before_the_step_that_would_come_by_itself() {
    for word in [Action::HoldRollout { reason: "lunch".into() }, Action::Abort { reason: "no".into() }] {
        let mut story = Story::rolling_out();
        let step = story.tell(measured(2, 100, 0));
        let asked = story.tell(word.clone());
        assert_eq!(story.answer(step), &Ok(Outcome::Superseded { by: revision(2) }), "{word:?}");
        story.tell(Action::Staged { of: step, owns: true });
        if let Action::Abort { .. } = word {
            story.tell(Action::Staged { of: asked, owns: true });
            assert_eq!(story.arms(), arms(3, "tree", None));
        } else {
            assert_eq!(story.arms(), arms(2, "tree", Some(("logistic", 0.0))), "it waits where it is");
            assert!(matches!(story.rollout().state, RolloutState::Held { .. }));
        }
    }
}

#[test]
fn after_a_restart_a_challenger_that_cannot_be_opened_ends_its_rollout_and_keeps_nothing_down() {
    let mut story = Story::rolling_out();
    let history = story.control.history.clone();
    story.control = Control { pipeline: "iris".into(), history, ..Control::default() };
    let of = story.tell(Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() });
    story.tell(Action::Unfit { of, why: "its secret is gone".into() });
    assert!(!story.is_answered(of), "the champion is staged alone");
    story.tell(Action::Staged { of, owns: true });
    assert_eq!((story.arms(), &story.control.history.rollout), (arms(3, "tree", None), &None));
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { .. })));
    let of = story.tell(Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() });
    story.tell(Action::Unfit { of, why: "that one, too".into() });
    assert!(story.answer(of).is_err(), "nothing is left to leave out");
}

#[test]
fn a_failure_or_too_many_dead_letters_in_a_canary_end_the_rollout_and_not_the_pipeline() {
    let pause = Pause { at: 1, cause: Cause::Breaker, why: "too many".into(), reasons: BTreeMap::new() };
    for report in [Action::Failed { revision: revision(3), why: "it traps".into() }, Action::Paused { pause }] {
        let mut story = Story::rolling_out();
        story.tell(measured(2, 100, 0));
        story.stage();
        assert_eq!(story.arms(), arms(3, "tree", Some(("logistic", 0.25))));
        story.tell(report.clone());
        assert!(story.control.is_held());
        story.stage();
        assert_eq!((story.arms(), &story.control.history.rollout), (arms(4, "tree", None), &None), "{report:?}");
        assert_eq!(story.control.history.paused, None);
        assert!(story.control.history.current().unwrap().reason.contains("rollout 2 aborted: revision 3 failed"));
        // The champion's own failure is its own.
        story.tell(Action::Failed { revision: revision(4), why: "it traps, too".into() });
        assert!(story.control.history.paused.is_some());
    }
}

#[test]
fn before_a_worker_runs_a_step_it_is_not_judged() {
    let mut story = Story::rolling_out();
    let history = story.control.history.clone();
    story.control = Control { pipeline: "iris".into(), history, ..Control::default() };
    story.tell(measured(2, 0, 1_000));
    assert!(!story.is_staging());
    story.taken();
    story.tell(measured(2, 0, 1_000));
    assert!(story.is_staging());
}
