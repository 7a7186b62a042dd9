//! A scorer that takes another one's place, fails, or has no time left.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A loss of its own for whatever it is asked, or a trap; counts its calls.
struct Flat {
    loss: Option<f64>,
    calls: Arc<AtomicUsize>,
}

impl Score for Flat {
    fn score(&mut self, _: &[String], outcomes: &[Outcome], _: Duration) -> Result<Vec<Judgement>, Failure> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let trap = || Failure { kind: FailureKind::Trap, message: "unreachable".into(), log: String::new() };
        let loss = self.loss.ok_or_else(trap)?;
        let judgement = |row| Judgement { row, loss, weight: 1.0, accepted: true, reason: None };
        Ok((0..outcomes.len() as u32).map(judgement).collect())
    }
}

fn flat(loss: Option<f64>, number: u64) -> (Scorer, Arc<AtomicUsize>) {
    let calls = Arc::<AtomicUsize>::default();
    let score = Box::new(Flat { loss, calls: calls.clone() });
    let release = format!("flat@{loss:?}");
    (Scorer { score, release, revision: revision(number), probation: Probation::Replaceable }, calls)
}

#[test]
fn what_waits_for_its_label_is_judged_by_the_scorer_that_runs_when_it_comes() {
    let mut feedback = feedback();
    let before = process(&mut feedback, read().prediction("a", "cat", 7).prediction("b", "cat", 7).label("a", "dog"));
    assert_eq!((&scores(&before)[0]["scorer"], &scores(&before)[0]["loss"]), (&"scorer-1".into(), &1.0.into()));
    feedback.committed();
    assert_eq!(tally(&feedback).by_revision[&revision(7)].loss(), Some(1.0));
    let old = feedback.exchange(flat(Some(0.25), 9).0);
    assert_eq!((old.release, feedback.revision()), ("scorer-1".to_owned(), Some(revision(9))));
    assert_eq!(feedback.probation(), Probation::Replaceable);
    let kept = tally(&feedback).by_revision[&revision(7)].clone();
    assert_eq!((kept.scored, kept.accuracy(), kept.loss()), (1, Some(0.0), None), "another scale begins");
    let mut second = read();
    second.next = [2, 1];
    let after = process(&mut feedback, second.label("b", "cat").label("a", "dog"));
    let scores = scores(&after);
    assert_eq!(scores.len(), 1, "a has its score: {scores:?}");
    assert_eq!(
        (&scores[0]["id"], &scores[0]["scorer"], &scores[0]["loss"]),
        (&"b".into(), &"flat@Some(0.25)".into(), &0.25.into())
    );
    feedback.committed();
    let release = tally(&feedback).by_revision[&revision(7)].clone();
    assert_eq!((release.scored, release.loss()), (2, Some(0.25)));
}

#[test]
fn the_same_scorer_of_a_later_deployment_goes_on_with_its_figures() {
    let mut feedback = feedback();
    process(&mut feedback, read().prediction("a", "cat", 7).label("a", "dog"));
    feedback.committed();
    let same = Scorer { release: "scorer-1".into(), ..flat(Some(0.25), 9).0 };
    feedback.exchange(same);
    assert_eq!(tally(&feedback).by_revision[&revision(7)].loss(), Some(1.0));
}

#[test]
fn the_groups_offsets_name_no_deployment_whatever_scores() {
    assert_eq!(feedback().deployed(), None);
}

#[test]
fn outcomes_that_the_scorer_fails_on_count_against_it_and_labels_that_cannot_be_read_do_not() {
    let mut feedback = feedback();
    feedback.exchange(flat(None, 9).0);
    let read = read().prediction("a", "cat", 7).prediction("b", "cat", 7).label("a", "cat").label("b", "dog");
    let outputs = process(&mut feedback, read.push(LABELS, Some("c"), None, None));
    assert_eq!((outputs.counts.failed, letters(&outputs).len()), (2, 3));
}

#[test]
fn the_arm_that_did_not_count_is_not_asked_about_once_the_time_is_over() {
    let judged = |budget: Duration| {
        let mut feedback = feedback();
        feedback.settings.budget = budget;
        let (scorer, calls) = flat(Some(0.5), 9);
        feedback.exchange(scorer);
        let both = pair("a", "cat", "dog", "champion");
        let read = read().push(PREDICTIONS, Some("a"), Some(&both), None).label("a", "dog");
        let score = scores(&process(&mut feedback, read)).remove(0);
        (calls.load(Ordering::Relaxed), score.get("challenger").is_some())
    };
    assert_eq!(judged(Duration::from_secs(3_600)), (2, true));
    assert_eq!(judged(Duration::ZERO), (1, false));
}
