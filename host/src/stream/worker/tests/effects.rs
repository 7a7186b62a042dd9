//! What a transaction does in memory: staged, applied once, or never done.

use std::time::Duration;

use proptest::collection;
use proptest::prelude::*;

use super::above::feedback::{self, Feedback, Figures, Kind, Scorer};
use super::fakes::{BOUNDS, Ending, Journal, World, diary};
use crate::record::dead_letter::DeadLetterWriter;
use crate::record::{RecordId, Revision, Route, TopicIndex};
use crate::stream::process::Probation;
use crate::stream::source::TopicPartition;
use crate::stream::state::Empty;
use sandpiper_sandbox::Failure;
use sandpiper_sandbox::stage::Score;
use sandpiper_sandbox::wit::latest::{Judgement, Outcome};

const PREDICTIONS: TopicPartition = TopicPartition { topic: TopicIndex::FIRST, partition: 0 };
const LABELS: TopicPartition = TopicPartition { topic: TopicIndex::nth(1), partition: 0 };

pub(super) struct ZeroOne;

impl Score for ZeroOne {
    fn score(
        &mut self,
        _classes: &[String],
        outcomes: &[Outcome],
        _deadline: Duration,
    ) -> Result<Vec<Judgement>, Failure> {
        let score = |(row, outcome): (usize, &Outcome)| {
            let loss = if outcome.predicted == outcome.truth { 0.0 } else { 1.0 };
            Judgement { row: row as u32, loss, weight: 1.0, accepted: true, reason: None }
        };
        Ok(outcomes.iter().enumerate().map(score).collect())
    }
}

/// A scorer that calls itself by its revision.
pub(super) fn scorer(score: Box<dyn Score>, revision: u64, probation: Probation) -> Scorer {
    let (release, revision) = (format!("scorer-{revision}"), Revision::new(revision).unwrap());
    Scorer { score, release, revision, probation }
}

pub(super) fn feedback() -> (World<Feedback>, Figures) {
    let settings = feedback::Settings {
        predictions: TopicIndex::FIRST,
        labels_id: RecordId::Key,
        class: None,
        bounds: feedback::Bounds { wait_ms: 1_000, entries: 100, bytes: 1 << 20 },
        deadline: Duration::from_secs(3_600),
        budget: Duration::from_secs(3_600),
        dead_letters: DeadLetterWriter { pipeline: "fake".into(), instance: "here".into() },
        counts: Default::default(),
    };
    let figures = Figures::default();
    let process =
        Feedback::new(settings, scorer(Box::new(ZeroOne), 1, Probation::Passed), Box::new(Empty), figures.clone());
    let mut world = World::of(process, Journal::default(), BOUNDS);
    world.assign_all(&[PREDICTIONS, LABELS]);
    (world, figures)
}

impl World<Feedback> {
    pub(super) fn predicted(&mut self, id: &str, class: &str) {
        let value = format!(
            r#"{{"id":"{id}","class":"{class}","probabilities":{{"cat":0.75,"dog":0.25}},"revision":7,"origin":"in/0@1","role":"champion"}}"#
        );
        self.record(PREDICTIONS, Some(id), &value);
    }

    pub(super) fn labelled(&mut self, id: &str, class: &str) {
        self.record(LABELS, Some(id), class);
    }
}

impl Figures {
    pub(super) fn labels(&self, kind: Kind) -> u64 {
        self.latest().labels.get(&kind).copied().unwrap_or_default()
    }
}

#[test]
fn effects_are_applied_once_after_the_commit() {
    let mut world = diary().in_batches_of(2);
    world.assign(0);
    world.records(0, 0..4);
    world.calls();
    world.step();
    world.step();
    world.interval();
    assert_eq!(
        world.calls(),
        ["begin", "process 2", "send 2", "process 2", "send 2", "commit 0@4 r7", "effects applied"]
    );
}

#[test]
fn effects_are_discarded_once_on_an_abort_and_the_replay_stages_them_anew() {
    let mut world = diary();
    world.assign(0);
    world.records(0, 0..2);
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.interval();
    world.settle();
    let effects: Vec<String> = world.calls().into_iter().filter(|line| line.starts_with("effects")).collect();
    assert_eq!(effects, ["effects discarded", "effects applied"]);
}

#[test]
fn a_label_that_was_joined_in_an_aborted_transaction_is_joined_and_counted_once() {
    for ending in [Ending::Abortable, Ending::Unknown { took_effect: false }] {
        let (mut world, figures) = feedback();
        world.predicted("a", "cat");
        world.settle();
        world.labelled("a", "cat");
        world.step();
        world.next_commit_ends(ending);
        world.interval();
        assert_eq!(figures.labels(Kind::Matched), 0, "{ending:?}");
        world.settle();
        let tally = figures.latest();
        assert_eq!((figures.labels(Kind::Matched), figures.labels(Kind::Duplicate)), (1, 0), "{ending:?}");
        assert_eq!(
            (
                tally.by_revision[&Revision::new(7).unwrap()].scored,
                tally.by_revision[&Revision::new(7).unwrap()].correct
            ),
            (1, 1)
        );
        assert_eq!(world.visible(Route::Output).len(), 1, "one score: {ending:?}");
    }
}

#[test]
fn a_label_that_was_joined_in_a_transaction_that_took_effect_though_nobody_answered_is_counted_once() {
    let (mut world, figures) = feedback();
    world.predicted("a", "cat");
    world.settle();
    world.labelled("a", "cat");
    world.step();
    world.next_commit_ends(Ending::Unknown { took_effect: true });
    world.interval();
    world.settle();
    assert_eq!((figures.labels(Kind::Matched), figures.labels(Kind::Duplicate)), (1, 0));
    world.labelled("a", "cat");
    world.settle();
    assert_eq!((figures.labels(Kind::Matched), figures.labels(Kind::Duplicate)), (1, 1), "it is remembered");
    assert_eq!(world.visible(Route::Output).len(), 1);
}

#[test]
fn a_prediction_of_an_aborted_transaction_is_not_remembered() {
    let (mut world, figures) = feedback();
    world.predicted("a", "cat");
    world.labelled("b", "cat");
    world.step();
    world.next_commit_ends(Ending::Abortable);
    world.interval();
    world.settle();
    assert_eq!(figures.labels(Kind::Repeated), 0, "its replay is its first appearance");
    assert_eq!(figures.labels(Kind::Duplicate), 0);
    assert_eq!(figures.latest().waiting, 2);
}

#[test]
fn lost_partitions_take_their_join_with_them() {
    let (mut world, figures) = feedback();
    world.predicted("a", "cat");
    world.settle();
    world.event(crate::stream::source::Event::Revoked { partitions: vec![PREDICTIONS, LABELS], lost: true });
    world.assign_all(&[PREDICTIONS, LABELS]);
    world.labelled("a", "cat");
    world.settle();
    assert_eq!(figures.labels(Kind::Matched), 0, "the next owner may have joined it already");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_becomes_of_transactions_scores_and_figures_are_those_without_a_fault(
        records in collection::vec((0..4_u8, 0..4_u8, 0..6_u8), 1..30)
    ) {
        let run = |with_faults: bool| {
            let (mut world, figures) = feedback();
            for (kind, id, ending) in &records {
                let id = id.to_string();
                match kind {
                    0 | 1 => world.predicted(&id, "cat"),
                    2 => world.labelled(&id, "cat"),
                    _ => world.labelled(&id, "dog"),
                }
                world.step();
                let ending = match ending {
                    0 => Some(Ending::Abortable),
                    1 => Some(Ending::Unknown { took_effect: false }),
                    2 => Some(Ending::Unknown { took_effect: true }),
                    3 => None,
                    // The transaction goes on with the next record.
                    _ => continue,
                };
                if let Some(ending) = ending.filter(|_| with_faults) {
                    world.next_commit_ends(ending);
                }
                world.interval();
                world.settle();
            }
            world.settle();
            let mut tally = (*figures.latest()).clone();
            // A sum of logarithms depends in its last digits on what the transactions put together.
            for release in tally.by_revision.values_mut() {
                let release = std::sync::Arc::make_mut(release);
                release.log_loss_sum = (release.log_loss_sum * 1e9).round();
            }
            (world.visible(Route::Output).len(), tally)
        };
        assert_eq!(run(true), run(false));
    }
}
