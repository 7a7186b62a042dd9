//! Predictions and labels through the loop's process: scores, tallies, dead letters.

use std::sync::Arc;

use super::*;
use crate::pipeline::fakes::revision;
use crate::record::output::Span;
use crate::record::{BatchBuilder, Topics};
use crate::stream::process::Refusal;
use crate::stream::state::{Empty, Progress};
use join::{Entry, Met, Prediction};
use sandpiper_sandbox::{Failure, FailureKind};

const PREDICTIONS: TopicIndex = TopicIndex::FIRST;
const LABELS: TopicIndex = TopicIndex::nth(1);

/// Loss 0 or 1. A source of `liar` is not accepted, `poison` fails the call, `silent` is left without a score.
struct ZeroOne;

impl Score for ZeroOne {
    fn score(
        &mut self,
        _classes: &[String],
        outcomes: &[Outcome],
        _deadline: Duration,
    ) -> Result<Vec<Judgement>, Failure> {
        if outcomes.iter().any(|outcome| outcome.source == "poison") {
            return Err(Failure { kind: FailureKind::Trap, message: "unreachable".into(), log: "last words".into() });
        }
        let scored = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.source != "silent");
        let score = |(row, outcome): (usize, &Outcome)| Judgement {
            row: row as u32,
            loss: if outcome.predicted == outcome.truth { 0.0 } else { 1.0 },
            weight: 2.0,
            accepted: outcome.source != "liar",
            reason: (outcome.source == "liar").then(|| "it lies".to_owned()),
        };
        Ok(scored.map(score).collect())
    }
}

/// Partitions 0 and 1 of both topics are assigned, and nothing is remembered of them.
fn feedback() -> Feedback {
    let mut feedback = remembering(Empty);
    feedback.assigned(&[both(0), both(1)].concat());
    assert_eq!(feedback.restore(Duration::ZERO), Ok(Restored::default()));
    feedback
}

/// That partition of both topics.
fn both(partition: i32) -> [TopicPartition; 2] {
    [PREDICTIONS, LABELS].map(|topic| TopicPartition { topic, partition })
}

fn remembering(store: impl Store<Kept> + 'static) -> Feedback {
    let settings = Settings {
        predictions: PREDICTIONS,
        labels_id: RecordId::Key,
        class: None,
        bounds: Bounds { wait_ms: 1_000, entries: 100 },
        deadline: Duration::from_secs(3_600),
        budget: Duration::from_secs(3_600),
        dead_letters: DeadLetterWriter { pipeline: "fake".into(), instance: "here".into() },
        release: "scorer-1".into(),
    };
    Feedback::new(settings, Box::new(ZeroOne), Box::new(store), Figures::default())
}

/// Records of partition 0 of both topics, as they are read.
struct Read {
    builder: BatchBuilder,
    next: [i64; 2],
    partition: i32,
}

fn read() -> Read {
    let topics = Topics::new(["predictions", "labels"]);
    Read { builder: BatchBuilder::new(topics), next: [0, 0], partition: 0 }
}

impl Read {
    fn push(mut self, topic: TopicIndex, key: Option<&str>, value: Option<&str>, source: Option<&str>) -> Self {
        let next = &mut self.next[topic.get()];
        let origin = Origin { topic, partition: self.partition, offset: *next };
        *next += 1;
        let headers = source.map(|source| Box::new(vec![("source".to_owned(), Some(source.into()))]));
        let time = Some(100 * *next);
        self.builder.push(origin, time, key.map(str::as_bytes), value.map(str::as_bytes), headers);
        self
    }

    fn prediction(self, id: &str, class: &str, revision: u64) -> Self {
        let value = format!(
            r#"{{"id":"{id}","class":"{class}","probabilities":{{"cat":0.75,"dog":0.25}},"revision":{revision},"origin":"in/0@1"}}"#
        );
        self.push(PREDICTIONS, Some(id), Some(&value), None)
    }

    fn label(self, id: &str, class: &str) -> Self {
        self.push(LABELS, Some(id), Some(class), None)
    }

    fn label_by(self, source: &str, id: &str, class: &str) -> Self {
        self.push(LABELS, Some(id), Some(class), Some(source))
    }

    fn on(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    fn batch(self) -> Batch {
        self.builder.finish()
    }
}

fn process(feedback: &mut Feedback, read: Read) -> Outputs {
    run(feedback, &read.batch(), &Forced::new())
}

fn run(feedback: &mut Feedback, batch: &Batch, forced: &Forced) -> Outputs {
    let mut outputs = Outputs::default();
    feedback.process(batch, forced, 5_000, &mut outputs);
    outputs
}

fn text(outputs: &Outputs, span: Option<Span>) -> String {
    String::from_utf8(outputs.bytes(span.unwrap()).to_vec()).unwrap()
}

fn scores(outputs: &Outputs) -> Vec<serde_json::Value> {
    let scores = outputs.records.iter().filter(|output| output.route == Route::Output);
    scores.map(|output| serde_json::from_str(&text(outputs, output.value)).unwrap()).collect()
}

/// Offset and code of each dead letter.
fn letters(outputs: &Outputs) -> Vec<(i64, String)> {
    let letters = outputs.records.iter().filter(|output| output.route == Route::DeadLetters);
    let code = |output: &Output| {
        let headers = output.headers.as_deref().unwrap();
        let (_, value) = headers.iter().find(|(name, _)| name == "__sandpiper.errors.reason").unwrap();
        (output.origin.offset, String::from_utf8(value.clone().unwrap()).unwrap())
    };
    letters.map(code).collect()
}

fn tally(feedback: &Feedback) -> Arc<Tally> {
    feedback.figures.latest()
}

fn labels(feedback: &Feedback, kind: Kind) -> u64 {
    tally(feedback).labels.get(&kind).copied().unwrap_or_default()
}

#[test]
fn a_label_for_a_prediction_is_a_score_keyed_as_the_label() {
    let mut feedback = feedback();
    let outputs = process(&mut feedback, read().prediction("a", "cat", 7).label_by("vet", "a", "dog"));
    let score = &scores(&outputs)[0];
    let expected = serde_json::json!({
        "id": "a", "predicted": "cat", "truth": "dog", "correct": false, "loss": 1.0, "weight": 2.0, "accepted": true,
        "source": "vet", "delay_ms": 0, "origin": "in/0@1", "revision": 7, "role": "champion"
    });
    assert_eq!(score, &expected);
    let output = &outputs.records[0];
    assert_eq!((output.origin.topic, text(&outputs, output.key), output.timestamp), (LABELS, "a".into(), Some(100)));
    assert_eq!((outputs.counts.records, outputs.counts.emitted), (1, 1));
}

#[test]
fn a_score_stands_with_its_revision_and_only_after_the_commit() {
    let mut feedback = feedback();
    let batch = read().prediction("a", "cat", 7).prediction("b", "dog", 8).label("a", "cat").label("b", "cat");
    process(&mut feedback, batch);
    assert_eq!(*tally(&feedback), Tally::default());
    feedback.committed();
    let tally = tally(&feedback);
    assert_eq!(tally.labels[&Kind::Matched], 2);
    let accuracy: Vec<_> =
        tally.by_revision.iter().map(|(revision, release)| (revision.get(), release.accuracy())).collect();
    assert_eq!(accuracy, [(7, Some(1.0)), (8, Some(0.0))]);
    assert_eq!(tally.by_revision[&revision(8)].confusion["cat"]["dog"], 1);
    assert_eq!(tally.by_revision[&revision(8)].loss(), Some(1.0));
}

#[test]
fn a_second_commit_adds_nothing() {
    let mut feedback = feedback();
    process(&mut feedback, read().prediction("a", "cat", 7).label("a", "cat"));
    feedback.committed();
    let once = tally(&feedback);
    feedback.committed();
    assert_eq!(once, tally(&feedback));
}

#[test]
fn an_abort_discards_tallies_and_joins_and_the_replay_comes_to_the_same() {
    let batch = || read().prediction("a", "cat", 7).label("a", "cat").label("a", "dog").label("early", "cat");
    let (mut aborted, mut straight) = (feedback(), feedback());
    process(&mut aborted, batch());
    aborted.aborted();
    assert_eq!(*tally(&aborted), Tally::default());
    let (replayed, first) = (process(&mut aborted, batch()), process(&mut straight, batch()));
    assert_eq!(scores(&replayed), scores(&first));
    aborted.committed();
    straight.committed();
    assert_eq!(tally(&aborted), tally(&straight));
    assert_eq!((labels(&aborted, Kind::Matched), labels(&aborted, Kind::Conflicting)), (1, 1));
}

#[test]
fn a_label_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_joined() {
    let mut feedback = feedback();
    let batch = read()
        .prediction("a", "cat", 7)
        .push(LABELS, None, Some("cat"), None)
        .push(LABELS, Some("a"), None, None)
        .push(LABELS, Some("a"), Some("  "), None)
        .label("a", "cat");
    let outputs = process(&mut feedback, batch);
    let malformed = || "malformed-label".to_owned();
    assert_eq!(letters(&outputs), [(0, "no-id".to_owned()), (1, malformed()), (2, malformed())]);
    assert_eq!(scores(&outputs).len(), 1);
    assert_eq!((outputs.counts.records, outputs.counts.dead_letters["malformed-label"]), (4, 2));
}

#[test]
fn a_dead_letter_names_a_revision_only_where_a_deployment_predicted() {
    let mut feedback = feedback();
    let batch = read().prediction("a", "cat", 7).label("", "").label_by("poison", "a", "cat");
    let outputs = process(&mut feedback, batch);
    let revision = |output: &Output| {
        let header = output.headers.iter().flat_map(|headers| headers.iter());
        header.into_iter().find(|(name, _)| name == "__sandpiper.errors.revision").and_then(|(_, value)| value.clone())
    };
    let revisions: Vec<_> = outputs.records.iter().map(revision).collect();
    assert_eq!(revisions, [None, Some(b"7".to_vec())]);
}

#[test]
fn a_class_may_stand_at_a_json_pointer() {
    let mut feedback = feedback();
    feedback.settings.class = Some("/truth".into());
    let batch = read().prediction("a", "cat", 7).label("a", r#"{"truth":"cat"}"#).label("a", r#"{"other":"cat"}"#);
    let outputs = process(&mut feedback, batch);
    assert_eq!((scores(&outputs).len(), letters(&outputs)), (1, vec![(1, "malformed-label".to_owned())]));
}

#[test]
fn a_record_that_is_no_prediction_is_counted_as_foreign() {
    let mut feedback = feedback();
    let batch = read()
        .push(PREDICTIONS, Some("a"), None, None)
        .push(PREDICTIONS, Some("b"), Some("{}"), None)
        .label("a", "cat");
    let outputs = process(&mut feedback, batch);
    assert!(outputs.records.is_empty());
    feedback.committed();
    assert_eq!(labels(&feedback, Kind::Foreign), 2);
    assert_eq!(tally(&feedback).waiting, 1);
}

#[test]
fn partitions_are_joined_by_themselves() {
    let mut feedback = feedback();
    let outputs = process(&mut feedback, read().prediction("a", "cat", 7).on(1).label("a", "cat"));
    assert!(scores(&outputs).is_empty());
    feedback.committed();
    assert_eq!(tally(&feedback).waiting, 2);
}

#[test]
fn a_partition_that_is_given_up_takes_its_ids_along() {
    let mut feedback = feedback();
    process(&mut feedback, read().prediction("a", "cat", 7).on(1).prediction("b", "cat", 7));
    feedback.committed();
    feedback.unassigned(&[TopicPartition { topic: LABELS, partition: 0 }]);
    let outputs = process(&mut feedback, read().label("a", "cat").on(1).label("b", "cat"));
    assert_eq!(scores(&outputs)[0]["id"], "b");
}

/// What was kept of partition 0, given a prediction at a time.
struct Shelf {
    kept: Vec<Kept>,
    given: Option<usize>,
}

impl Store<Kept> for Shelf {
    fn open(&mut self, partition: i32) {
        self.given = (partition == 0).then_some(0);
    }

    fn read(&mut self, _wait: Duration) -> Result<Vec<(i32, Kept)>, Fault> {
        let Some(given) = &mut self.given else { return Ok(Vec::new()) };
        *given += 1;
        Ok(self.kept.get(*given - 1).map(|kept| (0, kept.clone())).into_iter().collect())
    }

    fn progress(&self, _partition: i32) -> Option<Progress> {
        let given = self.given?;
        (given < self.kept.len()).then_some(Progress { done: given as u64, of: self.kept.len() as u64 })
    }

    fn close(&mut self, _partition: i32) {
        self.given = None;
    }
}

#[test]
fn a_join_is_born_from_what_was_kept_and_not_ready_before_all_of_it_is_there() {
    let kept = |id: &str| {
        let (classes, scores) = (vec!["cat".to_owned(), "dog".into()], vec![0.75, 0.25]);
        let (id, origin, revision) = (id.to_owned(), "in/0@1".to_owned(), revision(7));
        let prediction = Prediction { id: id.clone(), predicted: 0, scores, classes, revision, origin };
        Kept { id, met: Met::Prediction, time: 100, entry: Some(Entry::Predicted(prediction, 100)) }
    };
    let mut feedback = remembering(Shelf { kept: vec![kept("a"), kept("b")], given: None });
    feedback.assigned(&both(0));
    let left = both(0).map(|partition| (partition, Progress { done: 1, of: 2 })).to_vec();
    assert_eq!(feedback.restore(Duration::ZERO), Ok(Restored { left }));
    // Other partitions' transactions, and a member that gives this one up and gets it again.
    feedback.aborted();
    feedback.committed();
    feedback.unassigned(&both(0));
    feedback.assigned(&both(0));
    feedback.assigned(&both(0));
    assert_eq!(feedback.restore(Duration::ZERO).unwrap().left.len(), 2);
    assert_eq!(feedback.restore(Duration::ZERO), Ok(Restored::default()));
    let outputs = process(&mut feedback, read().label("a", "cat").label("b", "dog"));
    assert_eq!(scores(&outputs).iter().map(|score| score["correct"].clone()).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn an_outcome_that_the_scorer_does_not_accept_is_written_and_not_counted_as_scored() {
    let mut feedback = feedback();
    let outputs = process(&mut feedback, read().prediction("a", "cat", 7).label_by("liar", "a", "dog"));
    assert_eq!((&scores(&outputs)[0]["accepted"], &scores(&outputs)[0]["reason"]), (&false.into(), &"it lies".into()));
    feedback.committed();
    let release = &tally(&feedback).by_revision[&revision(7)];
    assert_eq!((release.scored, release.refused, release.accuracy()), (0, 1, None));
}

#[test]
fn an_outcome_that_poisons_the_scorer_is_a_dead_letter_and_its_neighbours_are_scored() {
    let mut feedback = feedback();
    let ids = ["a", "b", "c"];
    let batch = ids.iter().fold(read(), |read, id| read.prediction(id, "cat", 7));
    let outputs = process(&mut feedback, batch.label("a", "cat").label_by("poison", "b", "cat").label("c", "dog"));
    assert_eq!(letters(&outputs), [(1, "plugin-trap".to_owned())]);
    let joined: Vec<_> = scores(&outputs).iter().map(|score| score["id"].clone()).collect();
    assert_eq!(joined, ["a", "c"]);
    assert!(outputs.records.is_sorted_by_key(|output| output.origin));
}

#[test]
fn a_forced_record_is_a_dead_letter_and_touches_no_join() {
    let mut feedback = feedback();
    process(&mut feedback, read().prediction("a", "cat", 7));
    let batch = read().label("a", "cat").batch();
    let origin = Origin { topic: LABELS, partition: 0, offset: 0 };
    for form in [Form::default(), Form::LEAST] {
        let forced = Forced::from([(origin, Refusal { output: Some("too large".into()), form })]);
        let outputs = run(&mut feedback, &batch, &forced);
        assert_eq!(letters(&outputs), [(0, "refused-by-broker".to_owned())]);
        let least = form == Form::LEAST;
        assert_eq!((outputs.records[0].value.is_some(), outputs.records[0].last_resort), (!least, least));
    }
    assert_eq!(scores(&run(&mut feedback, &batch, &Forced::new())).len(), 1, "the prediction still waits");
}

#[test]
fn predictions_of_different_models_are_scored_with_their_own_classes() {
    let mut feedback = feedback();
    let other = r#"{"id":"b","class":"red","probabilities":{"blue":0.0,"red":1.0},"revision":8,"origin":"in/0@2"}"#;
    let batch = read()
        .prediction("a", "cat", 7)
        .push(PREDICTIONS, Some("b"), Some(other), None)
        .label("a", "cat")
        .label("b", "red");
    let outputs = process(&mut feedback, batch);
    let joined: Vec<_> =
        scores(&outputs).iter().map(|score| (score["truth"].clone(), score["correct"].clone())).collect();
    assert_eq!(joined, [("cat".into(), true.into()), ("red".into(), true.into())]);
}

#[test]
fn what_waits_too_long_is_counted_at_the_commit() {
    let mut feedback = feedback();
    let batch =
        (0..12).fold(read(), |read, at| read.prediction(&format!("p{at}"), "cat", 7).label(&format!("l{at}"), "cat"));
    process(&mut feedback, batch);
    assert_eq!(*tally(&feedback), Tally::default());
    feedback.committed();
    // Both sides have come to 1,200 by then; what came before 200 is forgotten.
    assert_eq!((labels(&feedback, Kind::Unknown), labels(&feedback, Kind::Expired)), (1, 1));
    assert_eq!(tally(&feedback).waiting, 22);
}
