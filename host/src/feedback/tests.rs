//! Predictions and labels through the loop's process: scores, tallies, dead letters.

mod scorer;

use std::sync::Arc;

use super::*;
use crate::pipeline::fakes::revision;
use crate::record::output::Span;
use crate::record::{BatchBuilder, Role, Topics};
use crate::stream::process::Refusal;
use crate::stream::state::{Empty, Progress};
use join::{Entry, Met, Prediction};
use sandpiper_sandbox::stage::Score;
use sandpiper_sandbox::wit::latest::Outcome;
use sandpiper_sandbox::{Failure, FailureKind};

const PREDICTIONS: TopicIndex = TopicIndex::FIRST;
const LABELS: TopicIndex = TopicIndex::nth(1);
/// Stream time begins here.
const START: i64 = 1_700_000_000_000;
/// What this machine's clock says.
const NOW: i64 = START + 3_600_000;

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
        bounds: Bounds { wait_ms: 1_000, entries: 100, bytes: 1 << 20 },
        deadline: Duration::from_secs(3_600),
        budget: Duration::from_secs(3_600),
        dead_letters: DeadLetterWriter { pipeline: "fake".into(), instance: "here".into() },
        counts: PartitionCounts::default(),
    };
    let (release, revision, probation) = ("scorer-1".into(), revision(1), Probation::Passed);
    let scorer = Scorer { score: Box::new(ZeroOne), release, revision, probation };
    Feedback::new(settings, scorer, Box::new(store), Figures::default())
}

/// Records of partition 0 of both topics, as they are read.
struct Read {
    builder: BatchBuilder,
    next: [i64; 2],
    partition: i32,
    /// Of the next records, where it is not as they come.
    time: Option<Option<i64>>,
}

fn read() -> Read {
    let topics = Topics::new(["predictions", "labels"]);
    Read { builder: BatchBuilder::new(topics), next: [0, 0], partition: 0, time: None }
}

impl Read {
    fn push(mut self, topic: TopicIndex, key: Option<&str>, value: Option<&str>, source: Option<&str>) -> Self {
        let next = &mut self.next[topic.get()];
        let origin = Origin { topic, partition: self.partition, offset: *next };
        *next += 1;
        let headers = source.map(|source| Box::new(vec![("source".to_owned(), Some(source.into()))]));
        let time = self.time.unwrap_or(Some(START + 100 * *next));
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

    fn at(mut self, time: Option<i64>) -> Self {
        self.time = Some(time);
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
    feedback.process(batch, forced, NOW, &mut outputs);
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
        "source": "vet", "delay_ms": 0, "origin": "in/0@1", "revision": 7, "role": "champion",
        "scorer": "scorer-1"
    });
    assert_eq!(score, &expected);
    let output = &outputs.records[0];
    assert_eq!(
        (output.origin.topic, text(&outputs, output.key), output.timestamp),
        (LABELS, "a".into(), Some(START + 100))
    );
    assert_eq!((outputs.counts.records, outputs.counts.emitted), (1, 1));
}

/// A prediction of both arms: the champion's class and the challenger's, and whose counts.
fn pair(id: &str, champion: &str, challenger: &str, role: &str) -> String {
    let (class, other, others) = match role {
        "champion" => (champion, challenger, "challenger"),
        _ => (challenger, champion, "champion"),
    };
    let probabilities = r#"{"cat":0.75,"dog":0.25}"#;
    format!(
        r#"{{"id":"{id}","class":"{class}","probabilities":{probabilities},"revision":7,"origin":"in/0@1","role":"{role}","release":"the {role}","{others}":{{"class":"{other}","confidence":0.75,"probabilities":{probabilities},"release":"the {others}"}}}}"#
    )
}

#[test]
fn a_label_judges_both_arms_whosever_answer_counts() {
    let mut feedback = feedback();
    let read = read()
        .push(PREDICTIONS, Some("a"), Some(&pair("a", "cat", "dog", "champion")), None)
        .push(PREDICTIONS, Some("b"), Some(&pair("b", "cat", "dog", "challenger")), None)
        .prediction("c", "cat", 7)
        .label("a", "dog")
        .label("b", "cat")
        .label("c", "cat");
    let scores = scores(&process(&mut feedback, read));
    let [a, b, c] = &scores[..] else { panic!("{scores:?}") };
    assert_eq!((&a["role"], &a["correct"], &a["release"]), (&"champion".into(), &false.into(), &"the champion".into()));
    let other = serde_json::json!({ "predicted": "dog", "correct": true, "loss": 0.0, "release": "the challenger" });
    assert_eq!(a["challenger"], other);
    assert_eq!((&b["role"], &b["predicted"], &b["correct"]), (&"challenger".into(), &"dog".into(), &false.into()));
    assert_eq!((&b["champion"]["predicted"], &b["champion"]["correct"]), (&"cat".into(), &true.into()));
    assert!(c.get("challenger").is_none() && c.get("release").is_none());
    feedback.committed();
    let tally = tally(&feedback);
    let of = |release: &str| (tally.by_release[release].scored, tally.by_release[release].correct);
    assert_eq!((of("the champion"), of("the challenger")), ((2, 1), (2, 1)));
    assert_eq!((tally.by_revision[&revision(7)].scored, tally.by_revision[&revision(7)].correct), (3, 1));
    assert_eq!(tally.pairs[&revision(7)], 2, "the third has one arm");
}

#[test]
fn an_arm_that_does_not_know_the_class_is_not_judged_by_it() {
    let mut feedback = feedback();
    let value = pair("a", "cat", "dog", "champion")
        .replace(r#""dog":0.25},"release":"the challenger""#, r#""cow":0.25},"release":"the challenger""#);
    let value = value.replace(r#""challenger":{"class":"dog""#, r#""challenger":{"class":"cow""#);
    let read = read().push(PREDICTIONS, Some("a"), Some(&value), None).label("a", "dog");
    let scores = scores(&process(&mut feedback, read));
    assert!(scores[0].get("challenger").is_none(), "{scores:?}");
    feedback.committed();
    let tally = tally(&feedback);
    assert_eq!((tally.by_release.len(), tally.pairs.len()), (1, 0));
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
    feedback.settings.class = Some(Pointer::new("/truth").unwrap());
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
        let (id, origin, revision): (Arc<str>, _, _) = (id.into(), "in/0@1".to_owned(), revision(7));
        let prediction = Prediction {
            id: id.clone(),
            predicted: 0,
            scores,
            classes: classes.into(),
            revision,
            origin,
            role: Role::Champion,
            release: None,
            other: None,
        };
        let time = START + 100;
        Kept { id, met: Met::Prediction, time, entry: Some(Entry::Predicted { prediction, time: Some(time) }) }
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
        (0..24).fold(read(), |read, at| read.prediction(&format!("p{at}"), "cat", 7).label(&format!("l{at}"), "cat"));
    process(&mut feedback, batch);
    assert_eq!(*tally(&feedback), Tally::default());
    feedback.committed();
    // Half of each side's records have come to 1,200 by then. What came first, at 100, is forgotten.
    assert_eq!((labels(&feedback, Kind::Unknown), labels(&feedback, Kind::Expired)), (2, 2));
    assert_eq!(tally(&feedback).waiting, 44);
}

#[test]
fn a_record_without_a_time_is_neither_of_1970_nor_early() {
    let mut feedback = feedback();
    let batch =
        read().prediction("a", "cat", 7).at(None).prediction("b", "cat", 7).label("b", "cat").at(Some(START + 300));
    let outputs = process(&mut feedback, batch.label("a", "cat"));
    feedback.committed();
    let delays: Vec<_> =
        scores(&outputs).iter().map(|score| (score["id"].clone(), score["delay_ms"].clone())).collect();
    assert_eq!(delays, [("b".into(), serde_json::Value::Null), ("a".into(), 200.into())]);
    assert_eq!((labels(&feedback, Kind::Matched), labels(&feedback, Kind::Early)), (2, 0));
    assert_eq!(tally(&feedback).clocks.missing, 2);
    // Nor is what waits forgotten for it.
    process(&mut feedback, read().at(None).prediction("c", "cat", 7).at(Some(0)).prediction("d", "cat", 7));
    feedback.committed();
    let outputs = process(&mut feedback, read().label("c", "cat").label("d", "cat"));
    assert_eq!(scores(&outputs).len(), 2);
}

#[test]
fn a_clock_that_is_wrong_ends_the_joining_for_nobody_and_is_said() {
    for wrong in [NOW, NOW + 7_200_000, START * 1_000, i64::MAX] {
        let mut feedback = feedback();
        let batch = (0..10).fold(read(), |read, at| read.prediction(&format!("p{at}"), "cat", 7));
        process(
            &mut feedback,
            batch
                .label("q1", "cat")
                .label("q2", "cat")
                .at(Some(wrong))
                .label("q3", "cat")
                .prediction("wrong", "cat", 7),
        );
        feedback.committed();
        let batch = (0..10).fold(read(), |read, at| read.label(&format!("p{at}"), "cat"));
        let outputs = process(&mut feedback, batch.label("wrong", "cat"));
        assert_eq!(scores(&outputs).len(), 11, "{wrong}");
        feedback.committed();
        let clocks = tally(&feedback).clocks.clone();
        assert_eq!(clocks.ahead, 2, "{wrong}");
        assert!(clocks.last.as_deref().unwrap().starts_with("predictions/0@10 is "), "{clocks:?}");
    }
}

#[test]
fn labels_of_many_bytes_are_kept_within_the_bound_and_the_oldest_of_the_largest_partition_goes() {
    let mut feedback = feedback();
    let bound = feedback.settings.bounds.bytes;
    process(&mut feedback, read().on(1).prediction("small", "cat", 7));
    feedback.committed();
    let long = |at: usize| format!("{at:03}-{}", "x".repeat(20_000));
    for first in (0..200).step_by(10) {
        let batch = (first..first + 10).fold(read(), |read, at| read.label(&long(at), "cat"));
        let outputs = process(&mut feedback, batch);
        assert!((200_000..300_000).contains(&outputs.kept), "it counts in the transaction: {}", outputs.kept);
        feedback.committed();
        let bytes = tally(&feedback).bytes as usize;
        assert!(bytes <= bound, "{bytes}");
    }
    let evicted = labels(&feedback, Kind::Evicted);
    assert_eq!(evicted + tally(&feedback).waiting, 201);
    let first_left = evicted as usize;
    let batch = read().prediction(&long(first_left - 1), "cat", 7).prediction(&long(first_left), "cat", 7);
    let outputs = process(&mut feedback, batch.on(1).label("small", "cat"));
    let ids: Vec<_> = scores(&outputs).iter().map(|score| score["id"].as_str().unwrap().len()).collect();
    assert_eq!(ids, [20_004, 5], "the oldest are gone, and the other partition lost nothing");
}

#[test]
fn predictions_share_their_classes_and_what_nobody_holds_is_forgotten() {
    let mut feedback = feedback();
    let batch = (0..500).fold(read(), |read, at| read.prediction(&format!("p{at}"), "cat", 7));
    process(&mut feedback, batch);
    feedback.committed();
    assert!(feedback.classes.bytes() < 500, "{}", feedback.classes.bytes());
    // Lists that differ in each prediction count, too.
    let other = |at: usize| {
        let classes: Vec<String> = (0..100).map(|class| format!("\"{at}-{}-{class}\":0", "x".repeat(200))).collect();
        format!(
            r#"{{"id":"o{at}","class":"cat","probabilities":{{"cat":1,{}}},"revision":7,"origin":"in/0@1"}}"#,
            classes.join(",")
        )
    };
    for at in 0..100 {
        let outputs = process(&mut feedback, read().push(PREDICTIONS, None, Some(&other(at)), None));
        assert!((20_000..40_000).contains(&outputs.kept), "it counts in the transaction: {}", outputs.kept);
        feedback.committed();
        assert!(tally(&feedback).bytes as usize <= feedback.settings.bounds.bytes);
    }
    assert!(labels(&feedback, Kind::Evicted) > 500);
    feedback.unassigned(&[both(0), both(1)].concat());
    feedback.committed();
    assert_eq!((feedback.classes.bytes(), tally(&feedback).bytes), (0, 0));
}

#[test]
fn a_class_and_a_source_are_short_or_the_label_is_a_dead_letter() {
    let mut feedback = feedback();
    let long = "x".repeat(257);
    let batch =
        read().label("a", &long[1..]).label("b", &long).label_by(&long, "c", "cat").label_by(&long[1..], "d", "cat");
    let outputs = process(&mut feedback, batch);
    assert_eq!(letters(&outputs), [(1, "malformed-label".to_owned()), (2, "malformed-label".to_owned())]);
    let long_class =
        format!(r#"{{"id":"a","class":"{long}","probabilities":{{"{long}":1}},"revision":1,"origin":"in/0@1"}}"#);
    process(&mut feedback, read().push(PREDICTIONS, None, Some(&long_class), None));
    feedback.committed();
    assert_eq!(labels(&feedback, Kind::Foreign), 1);
}

#[test]
fn each_way_to_write_a_label_has_one_meaning() {
    let class = |pointer: Option<&str>, value: &str| {
        let pointer = pointer.map(|pointer| Pointer::new(pointer).unwrap());
        message::label(&read().label("a", value).batch(), 0, pointer.as_ref()).map(|label| label.class)
    };
    for (value, whole, pointed) in [
        ("10", "10", "10"),
        (" 10 ", "10", "10"),
        ("10.0", "10.0", "10.0"),
        ("1e1", "1e1", "1e1"),
        ("\"10\"", "\"10\"", "10"),
        ("\" 10 \"", "\" 10 \"", " 10 "),
    ] {
        assert_eq!(class(None, value).as_deref(), Ok(whole), "{value}");
        assert_eq!(class(Some(""), value).as_deref(), Ok(pointed), "{value}");
        assert_eq!(class(Some("/c"), &format!(r#"{{"x":1e400,"c":{value}}}"#)).as_deref(), Ok(pointed), "{value}");
    }
}

#[test]
fn classes_that_the_model_does_not_know_are_shown_as_they_came() {
    let mut feedback = feedback();
    let batch =
        read().prediction("a", "cat", 7).label("a", "Cat").label("a", "\u{1b}[31m").label("a", &"x".repeat(200));
    process(&mut feedback, batch.label("early", "10.0").prediction("early", "cat", 7).label("a", "Cat"));
    feedback.committed();
    let unknown = tally(&feedback).unknown.clone();
    let long = format!("\"{}\"…", "x".repeat(64));
    assert_eq!(unknown.last, ["\"\\u{1b}[31m\"", &long, "\"10.0\"", "\"Cat\""]);
    assert_eq!(unknown.known, ["\"cat\"", "\"dog\""]);
    process(&mut feedback, (0..50).fold(read(), |read, at| read.label("a", &format!("{at}"))));
    feedback.committed();
    assert_eq!(tally(&feedback).unknown.last.len(), 8);
}

#[test]
fn a_label_without_an_id_is_blamed_on_the_key_of_feedback() {
    let mut feedback = feedback();
    let outputs = process(&mut feedback, read().push(LABELS, None, Some("cat"), None));
    let headers = outputs.records[0].headers.as_deref().unwrap();
    let (_, message) = headers.iter().find(|(name, _)| name == "__sandpiper.errors.message").unwrap();
    assert_eq!(message.as_deref(), Some(&b"the key is null, and [feedback] id = \"key\""[..]));
}

#[test]
fn labels_on_another_partition_than_their_predictions_are_counted_and_both_hashes_named() {
    use crate::kafka::partitioner::Partitioner::{Crc32, Murmur2};
    let ids: Vec<String> = (0..200).map(|at| format!("flower-{at}")).collect();
    let apart =
        ids.iter().filter(|id| Crc32.partition(id.as_bytes(), 2) != Murmur2.partition(id.as_bytes(), 2)).count();
    for labels_first in [false, true] {
        let mut feedback = feedback();
        feedback.settings.counts.set([("predictions".into(), Some(2)), ("labels".into(), Some(2))].into());
        let predict = |feedback: &mut Feedback| {
            let read = ids
                .iter()
                .fold(read(), |read, id| read.on(Murmur2.partition(id.as_bytes(), 2)).prediction(id, "cat", 7));
            process(feedback, read)
        };
        if !labels_first {
            predict(&mut feedback);
        }
        let read = ids.iter().fold(read(), |read, id| read.on(Crc32.partition(id.as_bytes(), 2)).label(id, "cat"));
        let mut outputs = process(&mut feedback, read);
        if labels_first {
            outputs = predict(&mut feedback);
        }
        assert_eq!(scores(&outputs).len(), 200 - apart, "labels first: {labels_first}");
        feedback.committed();
        assert_eq!(labels(&feedback, Kind::OtherPartition), apart as u64, "labels first: {labels_first}");
        let said = tally(&feedback).misplaced.clone().unwrap();
        for part in [
            "CRC32 (librdkafka's default) puts 200 of 200",
            "murmur2 (Java's clients) puts 200 of 200",
            "murmur2_random",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn labels_are_counted_by_their_hash_where_another_daemon_has_the_prediction() {
    use crate::kafka::partitioner::Partitioner::{Crc32, Murmur2};
    let mut feedback = feedback();
    feedback.unassigned(&both(1));
    feedback.settings.counts.set([("predictions".into(), Some(2)), ("labels".into(), Some(2))].into());
    let here = |id: &String, by: crate::kafka::partitioner::Partitioner| by.partition(id.as_bytes(), 2) == 0;
    let ids: Vec<String> = (0..200).map(|at| format!("flower-{at}")).collect();
    let read_here = ids.iter().filter(|id| here(id, Murmur2)).fold(read(), |read, id| read.prediction(id, "cat", 7));
    process(&mut feedback, read_here);
    let read_here = ids.iter().filter(|id| here(id, Crc32)).fold(read(), |read, id| read.label(id, "cat"));
    process(&mut feedback, read_here);
    feedback.committed();
    let apart = ids.iter().filter(|id| here(id, Crc32) && !here(id, Murmur2)).count();
    assert_eq!(labels(&feedback, Kind::OtherPartition), apart as u64);
}
