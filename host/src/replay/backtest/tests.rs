//! Comparisons of fake stages, whose answers a record's own text decides.

use std::sync::Arc;

use super::*;
use crate::pipeline::fakes::{Fate, model, revision, settings, to, transform};
use crate::pipeline::{Pipeline, TransformStage};
use crate::record::{BatchBuilder, Origin, Route, Topics};

/// Ends a backtest after so many batches, and takes no notice of anything else.
struct Watching(usize);

impl Watch for Watching {
    fn waiting(&mut self, _text: &str) {}

    fn progress(&mut self, _stage: Stage, _progress: Progress) -> bool {
        self.0 -= 1;
        self.0 > 0
    }
}

/// Predicts the class whose number stands in that cell of two.
fn by_cell(cell: usize) -> Pipeline {
    Pipeline::new(revision(1), Arc::new(settings()), Vec::new(), Some(model(1, 2, &["class"], Some(vec![cell]))))
}

fn by_transform(stage: TransformStage) -> Pipeline {
    Pipeline::new(revision(1), Arc::new(settings()), vec![stage], None)
}

/// Records of two partitions, one after the other.
fn batch(values: &[&str]) -> Batch {
    let (topics, [topic]) = Topics::of(["in"]);
    let mut builder = BatchBuilder::new(topics);
    for (at, value) in values.iter().enumerate() {
        let origin = Origin { topic, partition: (at % 2) as i32, offset: (at / 2) as i64 };
        builder.push(origin, Some(0), Some(b"k"), Some(value.as_bytes()), None);
    }
    builder.finish()
}

fn comparison(champion: Pipeline, candidate: Pipeline, labels: Option<Labels>) -> Comparison {
    let (champion, candidate) = (Arm::new("champion", champion, false), Arm::new("candidate", candidate, false));
    let classes = champion.classes.as_ref().zip(candidate.classes.as_ref());
    let tally = Tally::new(classes.map(|(ours, theirs)| Classes::new(ours, theirs)), 2);
    Comparison { champion, candidate, tally, labels, publisher: None }
}

fn side() -> Side {
    Side { revision: None, releases: BTreeMap::new() }
}

fn compared(champion: Pipeline, candidate: Pipeline, values: &[&str], labels: Option<Labels>) -> Findings {
    let mut comparison = comparison(champion, candidate, labels);
    let piece = Piece::Batch(batch(values), Progress::default());
    assert!(comparison.run([Ok(piece)], &mut Watching(2)).unwrap());
    let labels = comparison.tally.joined();
    let mut findings = comparison.tally.finish("fake", side(), side());
    findings.labels = Some(labels::Counts { scored: labels.0, unknown_class: labels.1, ..labels::Counts::default() });
    findings
}

#[test]
fn what_two_models_answer_is_counted_by_pairs_of_classes() {
    let values = ["0,0", "0,1", "1,1", "2,1", "0,1", "1,1"];
    let findings = compared(by_cell(0), by_cell(1), &values, None);
    assert_eq!((findings.records, findings.both_emitted, findings.agreed), (6, 6, 3));
    assert_eq!(findings.agreement, Some(0.5));
    let confusion = serde_json::json!(findings.confusion);
    assert_eq!(confusion, serde_json::json!({"cat": {"cat": 1, "dog": 2}, "dog": {"dog": 2}, "cow": {"dog": 1}}));
    assert_eq!((findings.differing, findings.differences.len()), (3, 2), "two were to be shown");
    // The rows of the first partition are compared first.
    let first = &findings.differences[0];
    let predicted = |class: &str| Shown::Predicted(vec![Predicted { class: class.into(), confidence: 1.0 }]);
    assert_eq!(
        (first.at.as_str(), first.id.as_deref(), first.value.as_deref()),
        ("in/0@2", Some("in-0-2"), Some("0,1"))
    );
    assert_eq!((&first.champion, &first.candidate), (&predicted("cat"), &predicted("dog")));
}

#[test]
fn a_record_that_only_one_rejects_is_counted_by_its_reason() {
    // From 100 on the classifier rejects; the parser rejects for both.
    let findings = compared(by_cell(0), by_cell(1), &["100,0", "0,100", "0,101", "reject", "drop", "1,1"], None);
    let rejected = serde_json::json!(findings.rejected);
    let expected = serde_json::json!({
        "champion_only": {"classify out-of-domain": 1}, "candidate_only": {"classify out-of-domain": 2}, "both": 1
    });
    assert_eq!(rejected, expected);
    assert_eq!((findings.dropped.both, findings.both_emitted, findings.agreed), (1, 1, 1));
    assert_eq!(findings.differing, 3);
    assert!(matches!(&findings.differences[0].champion, Shown::Rejected { reason, message }
        if reason == "classify out-of-domain" && message.contains("rejected")));
}

#[test]
fn both_are_scored_by_the_labels_that_meet_what_both_predicted() {
    let mut labels = Labels::new(1 << 20);
    // in-0-0: both cat, right. in-1-0: cat and dog, dog is right. in-0-1: rejected by one. in-1-1: nobody knows the class.
    for (id, class) in [("in-0-0", Some(0)), ("in-1-0", Some(1)), ("in-0-1", Some(0)), ("in-1-1", None)] {
        labels.note(id, class);
    }
    let findings = compared(by_cell(0), by_cell(1), &["0,0", "0,1", "0,100", "1,1", "2,2"], Some(labels));
    assert_eq!(findings.accuracy, Some(Accuracy { champion: 0.5, candidate: 1.0 }));
    let labels = findings.labels.unwrap();
    assert_eq!((labels.scored, labels.unknown_class), (2, 1));
    assert_eq!(findings.differences.iter().find(|it| it.at == "in/1@0").unwrap().label.as_deref(), Some("dog"));
}

#[test]
fn what_transforms_make_is_compared_byte_for_byte() {
    let fate = |suffix: &'static str| {
        move |text: &str| match text {
            "twice" => Fate::Emit(vec![to(0, "one"), to(1, format!("two{suffix}"))]),
            "drop" => Fate::Drop,
            text => Fate::Emit(vec![to(0, text)]),
        }
    };
    let routes = [Some(Route::Output), Some(Route::Named(0))];
    let pipeline = |suffix| by_transform(transform("t", &routes, fate(suffix)));
    let findings = compared(pipeline(""), pipeline("!"), &["same", "twice", "drop"], None);
    assert_eq!((findings.records, findings.both_emitted, findings.agreed, findings.dropped.both), (3, 2, 1, 1));
    assert!(findings.confusion.is_none());
    let emitted = |values: [&str; 2]| Shown::Emitted(values.map(|value| Some(value.to_owned())).to_vec());
    assert_eq!(findings.differences[0].candidate, emitted(["one", "two!"]));
    let findings = compared(pipeline(""), pipeline(""), &["same", "twice", "drop"], None);
    assert_eq!((findings.both_emitted, findings.agreed, findings.differing), (2, 2, 0));
}

#[test]
fn a_batch_that_comes_to_too_much_is_compared_in_halves() {
    let long = "x".repeat(300_000);
    let fate = move |text: &str| {
        Fate::Emit((0..2).map(|_| to(0, if text == "long" { long.clone() } else { text.into() })).collect())
    };
    let many = by_transform(transform("t", &[Some(Route::Output)], fate));
    let few = by_transform(transform("t", &[Some(Route::Output)], |text: &str| Fate::Emit(vec![to(0, text)])));
    let findings = compared(few, many, &["long", "a", "long", "long", "b"], None);
    assert_eq!((findings.records, findings.both_emitted, findings.differing), (5, 5, 5));
}

#[test]
fn a_release_that_fails_ends_it_and_is_named() {
    let poison = by_transform(transform("t", &[Some(Route::Output)], |_: &str| Fate::Poison));
    let mut comparison = comparison(
        by_transform(transform("t", &[Some(Route::Output)], |text: &str| Fate::Emit(vec![to(0, text)]))),
        poison,
        None,
    );
    let values = vec!["a"; 1_000];
    let piece = Piece::Batch(batch(&values), Progress::default());
    let error = format!("{:#}", comparison.run([Ok(piece)], &mut Watching(2)).unwrap_err());
    assert!(error.contains("the candidate fails: t t-1 failed on too many rows"), "{error}");
}

#[test]
fn whoever_watches_ends_it_between_two_batches() {
    let mut comparison = comparison(by_cell(0), by_cell(1), None);
    let pieces = (0..5).map(|_| Ok(Piece::Batch(batch(&["0,0", "1,1"]), Progress::default())));
    assert!(!comparison.run(pieces, &mut Watching(3)).unwrap());
    assert_eq!(comparison.tally.records, 6);
}

#[test]
fn other_classes_are_refused_unless_they_are_allowed() {
    let arm = |classes: &[&str]| {
        let mut arm = Arm::new("champion", by_cell(0), false);
        arm.classes = Some(classes.iter().map(|class| (*class).to_owned()).collect());
        arm
    };
    let (one, two) = (arm(&["cat", "dog"]), arm(&["dog", "cow"]));
    let refused = check_classes(&one, &two, false).unwrap_err().to_string();
    assert!(
        refused.contains("it knows \"cow\" and lacks \"cat\"") && refused.contains("--allow-new-classes"),
        "{refused}"
    );
    assert!(check_classes(&one, &two, true).is_ok());
    assert!(check_classes(&one, &arm(&["dog", "cat"]), false).is_ok(), "in another order");
}

#[test]
fn records_of_several_topics_are_told_apart() {
    let (topics, [one, two]) = Topics::of(["one", "two"]);
    let mut builder = BatchBuilder::new(topics);
    for (topic, value) in [(two, "0,1"), (one, "1,1")] {
        builder.push(Origin { topic, partition: 0, offset: 7 }, None, None, Some(value.as_bytes()), None);
    }
    let mut comparison = comparison(by_cell(0), by_cell(1), None);
    comparison.take(&builder.finish()).unwrap();
    let findings = comparison.tally.finish("fake", side(), side());
    assert_eq!((findings.agreed, findings.differences[0].at.as_str()), (1, "two/0@7"));
}
