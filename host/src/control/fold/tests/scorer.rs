//! What follows where a scorer is deployed, fails or is what a file asks for.

use super::rollout::by_steps;
use super::*;

fn scored(classifier: &str, scorer: &str) -> Releases {
    Releases { score: Some(release(scorer, scorer)), ..releases(classifier) }
}

fn change(name: &str) -> StageChange {
    let plugin = NamedPlugin { name: name.into(), digest: Digest::of(name.as_bytes()) };
    StageChange { plugin: Some(plugin), ..StageChange::default() }
}

pub(super) fn deploy_scorer(scorer: &str) -> Action {
    let stages = [(SCORE.to_owned(), change(scorer))].into();
    Action::Deploy { stages, reason: "judge otherwise".into(), rollout: None }
}

fn wish(classifier: &str, scorer: &str) -> Action {
    Action::Wish { releases: Box::new(scored(classifier, scorer)), reason: "applied from iris.toml".into() }
}

fn scorer_failed(number: u64) -> Action {
    Action::ScorerFailed { revision: revision(number), why: "it traps".into() }
}

impl Story {
    /// `tree`, scored by `loss`, as revision 1, past its probation.
    fn scoring() -> Self {
        let mut story = Self::default();
        story.control.pipeline = "iris".into();
        story.done(wish("tree", "loss"));
        story.tell(Action::Passed { revision: revision(1) });
        story
    }

    /// Tells it, and has what it wants deployed staged.
    fn done(&mut self, action: Action) -> CommandId {
        let of = self.tell(action);
        self.tell(Action::Staged { of, owns: true });
        of
    }

    fn current(&self) -> &Deployment {
        self.control.history.current().unwrap()
    }

    /// Revision, classifier and scorer.
    fn scores(&self) -> (u64, String, String) {
        let (number, classifier) = self.runs();
        (number, classifier, self.current().releases.score.as_ref().unwrap().name.clone())
    }

    fn failed(&self) -> Vec<u64> {
        let failed = self.control.history.deployments.iter().filter(|each| each.failed.is_some());
        failed.map(|each| each.revision.get()).collect()
    }
}

fn scores(number: u64, classifier: &str, scorer: &str) -> (u64, String, String) {
    (number, classifier.into(), scorer.into())
}

#[test]
fn a_scorer_is_a_revision_of_its_own_and_what_processes_records_is_as_trusted_as_before() {
    let mut story = Story::scoring();
    let runs = story.current().digest();
    let of = story.tell(deploy_scorer("brier"));
    let trust = |story: &Story| {
        let deployment = &story.control.staging[&of].deployment;
        (story.control.probation(deployment), story.control.scorer_probation(deployment))
    };
    assert_eq!(trust(&story), (Probation::Passed, Probation::Replaceable));
    story.tell(Action::Staged { of, owns: true });
    assert_eq!(story.scores(), scores(2, "tree", "brier"));
    assert_eq!(story.current().digest(), runs, "what the group's offsets name is the same");
    story.tell(Action::ScorerPassed { revision: revision(2) });
    assert!(!story.current().scorer_on_probation && !story.current().on_probation);
    let again = story.tell(deploy_scorer("brier"));
    assert!(matches!(story.answer(again), Err(Refused::SameAsCurrent { .. })));
}

#[test]
fn an_undo_brings_the_scorer_before_back() {
    let mut story = Story::scoring();
    story.done(deploy_scorer("brier"));
    story.done(Action::Undo { reason: String::new(), to: None });
    assert_eq!(story.scores(), scores(3, "tree", "loss"));
    assert!(!story.current().scorer_on_probation, "it had been trusted");
    story.done(Action::Undo { reason: String::new(), to: Some(revision(2)) });
    assert_eq!(story.scores(), scores(4, "tree", "brier"));
}

#[test]
fn a_scorer_goes_by_no_steps_and_with_a_candidate_only_at_once() {
    let mut story = Story::scoring();
    let Action::Deploy { mut stages, reason, rollout } = by_steps("logistic", vec![RolloutStep::Pause]) else {
        panic!()
    };
    let alone = [(SCORE.to_owned(), change("brier"))].into();
    story.done(Action::Deploy { stages: alone, reason: reason.clone(), rollout: rollout.clone() });
    assert_eq!((story.scores(), story.control.history.rollout.is_some()), (scores(2, "tree", "brier"), false));
    stages.insert(SCORE.to_owned(), change("cost"));
    let both = story.tell(Action::Deploy { stages: stages.clone(), reason: reason.clone(), rollout });
    let refused = story.answer(both).as_ref().unwrap_err().to_string();
    assert!(refused.contains("classify") && refused.contains("--now"), "{refused}");
    story.done(Action::Deploy { stages, reason, rollout: None });
    assert_eq!(story.scores(), scores(3, "logistic", "cost"));
}

#[test]
fn a_pipeline_without_feedback_has_no_scorer_to_change_and_the_fix_is_named() {
    let mut story = Story::running();
    let of = story.tell(deploy_scorer("brier"));
    let refused = story.answer(of).as_ref().unwrap_err().to_string();
    assert!(refused.contains("no [feedback]") && refused.contains("its file"), "{refused}");
}

#[test]
fn a_scorer_that_fails_goes_alone_and_nothing_else_is_held() {
    let mut story = Story::scoring();
    story.deployed("forest");
    story.done(deploy_scorer("brier"));
    assert!(story.current().on_probation, "forest, which runs on, has yet to pass");
    let of = story.tell(scorer_failed(3));
    assert_eq!(story.control.failed_scorer, Some(revision(3)));
    assert!(!story.control.is_held());
    let again = story.tell(scorer_failed(3));
    assert_eq!(story.answer(again), &Ok(Outcome::Noted));
    story.tell(Action::Staged { of, owns: true });
    assert_eq!((story.scores(), story.control.failed_scorer), (scores(4, "forest", "loss"), None));
    assert!(matches!(story.answer(of), Ok(Outcome::RolledBack { failed_revision, .. }) if failed_revision.get() == 3));
    let current = story.current();
    assert_eq!((current.on_probation, current.scorer_on_probation), (true, false));
    assert!(current.reason.contains("brier@") && current.reason.contains("it traps"), "{}", current.reason);
    assert_eq!(story.failed(), [3]);
    // What there is to go back to is what ran before `forest`, and not what failed.
    story.done(Action::Undo { reason: String::new(), to: None });
    assert_eq!(story.scores(), scores(5, "tree", "loss"));
}

#[test]
fn a_scorer_fails_in_every_deployment_in_which_it_was_tried() {
    let mut story = Story::scoring();
    story.done(deploy_scorer("brier"));
    story.deployed("forest");
    assert!(story.current().scorer_on_probation);
    story.done(scorer_failed(3));
    assert_eq!((story.scores(), story.failed()), (scores(4, "forest", "loss"), vec![2, 3]));
}

#[test]
fn what_processes_records_goes_without_its_scorer_where_it_fails() {
    let mut story = Story::scoring();
    story.deployed("forest");
    story.done(deploy_scorer("brier"));
    story.done(Action::Failed { revision: revision(3), why: "it traps".into() });
    assert_eq!((story.scores(), story.failed()), (scores(4, "tree", "brier"), vec![2, 3]));
    assert!(story.current().scorer_on_probation);
}

#[test]
fn a_scorer_with_none_before_it_is_not_taken_back() {
    let mut story = Story::scoring();
    assert!(!story.current().scorer_on_probation);
    let of = story.tell(scorer_failed(1));
    assert_eq!((story.answer(of), story.control.staging.len()), (&Ok(Outcome::Noted), 0));
}

#[test]
fn a_scorer_stays_where_the_one_before_cannot_take_over() {
    let mut story = Story::scoring();
    story.done(deploy_scorer("brier"));
    let of = story.tell(scorer_failed(2));
    story.tell(Action::Unfit { of, why: "its plugin is gone".into() });
    assert!(story.answer(of).as_ref().unwrap_err().to_string().contains("its plugin is gone"));
    assert_eq!(story.scores(), scores(2, "tree", "brier"));
    assert!(!story.current().scorer_on_probation, "it would fail for ever");
    assert!(story.control.failed_scorer.is_none() && story.control.history.paused.is_none());
    let call = story.control.history.calls.last().unwrap();
    assert!(call.reason.contains("its plugin is gone"), "{}", call.reason);
}

#[test]
fn a_scorer_that_fails_ends_no_rollout_and_does_not_come_back_with_its_candidate() {
    let mut story = Story::scoring();
    story.done(deploy_scorer("brier"));
    story.done(by_steps("logistic", vec![RolloutStep::Pause]));
    let challenger = story.current().challenger.clone();
    assert!(challenger.is_some() && story.current().scorer_on_probation);
    story.done(scorer_failed(3));
    assert_eq!(story.scores(), scores(4, "tree", "loss"));
    assert_eq!(story.current().challenger, challenger);
    story.done(Action::Promote { reason: String::new() });
    assert_eq!(story.scores(), scores(5, "logistic", "loss"));
}

#[test]
fn a_file_that_asks_for_another_scorer_changes_nothing_else() {
    let mut story = Story::scoring();
    story.deployed("forest");
    story.done(by_steps("logistic", vec![RolloutStep::Pause]));
    story.done(wish("tree", "brier"));
    assert_eq!(
        story.scores(),
        scores(4, "forest", "brier"),
        "forest was deployed since, and the file did not change there"
    );
    assert!(story.control.history.rollout.is_some() && story.current().challenger.is_some());
    let of = story.done(wish("tree", "brier"));
    assert!(matches!(story.answer(of), Ok(Outcome::Activated { deployment, .. }) if deployment.revision.get() == 4));
    // The other way round the scorer that was deployed stands.
    story.done(Action::Abort { reason: String::new() });
    story.done(deploy_scorer("cost"));
    story.done(wish("boost", "brier"));
    assert_eq!(story.scores(), scores(7, "boost", "cost"));
}

/// What a version has written that deployed no scorers.
fn of_an_older_version() -> Story {
    let mut story = Story::running();
    story.deployed("forest");
    let history = serde_json::to_value(&*story.control.history).unwrap();
    assert!(!history.to_string().contains("score"), "{history}");
    let history = Arc::new(serde_json::from_value(history).unwrap());
    Story {
        control: Control { pipeline: "iris".into(), history, ..Control::default() },
        id: story.id,
        ..Story::default()
    }
}

#[test]
fn what_an_older_version_ran_was_scored_by_the_files_scorer() {
    let mut story = of_an_older_version();
    let runs = story.current().digest();
    story.done(wish("tree", "loss"));
    assert_eq!(story.scores(), scores(2, "forest", "loss"), "the file has not changed: no new revision");
    assert_eq!(story.current().digest(), runs);
    story.done(deploy_scorer("brier"));
    story.done(Action::Undo { reason: String::new(), to: Some(revision(1)) });
    assert_eq!(story.scores(), scores(4, "tree", "loss"));
}

#[test]
fn what_an_older_version_decides_in_an_upgrade_is_scored_by_the_files_scorer() {
    let mut story = Story::scoring();
    let mut history = (*story.control.history).clone();
    let mut decided = story.current().clone();
    (decided.revision, decided.releases.score) = (revision(2), None);
    history.deployments.push(decided);
    story.control.history = Arc::new(history);
    story.done(wish("tree", "loss"));
    assert_eq!(story.scores(), scores(2, "tree", "loss"));
    story.done(deploy_scorer("brier"));
    assert_eq!(story.scores(), scores(3, "tree", "brier"));
}

#[test]
fn an_older_versions_file_that_changed_is_applied() {
    let mut story = of_an_older_version();
    story.done(wish("boost", "loss"));
    assert_eq!(story.scores(), scores(3, "boost", "loss"));
}

#[test]
fn a_file_without_feedback_asks_for_no_scorer_in_particular() {
    let mut story = Story::scoring();
    story.done(Action::Wish { releases: Box::new(releases("tree")), reason: "applied".into() });
    assert_eq!(story.scores(), scores(1, "tree", "loss"));
    story.done(Action::Wish { releases: Box::new(releases("forest")), reason: "applied".into() });
    assert_eq!(story.scores(), scores(2, "forest", "loss"));
}

#[test]
fn of_several_daemons_each_says_once_that_its_file_asks_for_another_scorer() {
    let control = Control { pipeline: "iris".into(), is_shared: true, ..Control::default() };
    let mut story = Story { control, ..Story::default() };
    let done = |story: &mut Story, daemon: &str, action| {
        story.from(daemon).tell(action);
        while let Some(of) = story.control.staging.keys().next().copied() {
            story.from("eu-1").tell(Action::Staged { of, owns: true });
        }
        story.scores()
    };
    assert_eq!(done(&mut story, "eu-1", wish("tree", "loss")), scores(1, "tree", "loss"));
    assert_eq!(done(&mut story, "eu-2", wish("tree", "loss")), scores(1, "tree", "loss"));
    assert_eq!(done(&mut story, "eu-2", wish("tree", "brier")), scores(2, "tree", "brier"));
    assert_eq!(done(&mut story, "eu-1", wish("tree", "loss")), scores(2, "tree", "brier"), "an older file");
    assert_eq!(done(&mut story, "eu-1", wish("tree", "brier")), scores(2, "tree", "brier"));
    assert_eq!(done(&mut story, "eu-1", wish("tree", "loss")), scores(3, "tree", "loss"), "it has changed");
}
