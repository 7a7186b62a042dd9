//! Two arms on the same records: what is emitted, what is counted, and what a bad challenger costs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::pipeline::challenger::{ModelChallenger, Sampling, TransformChallenger};
use crate::pipeline::fakes::{self, FirstCell, trap};
use crate::record::Comparison;
use crate::record::prediction::{Arm, Writer};
use sandpiper_sandbox::stage::{Classify, Parse};
use sandpiper_sandbox::wit::latest::{Column, Kind, Matrix, Parsed, Predictions, Signature};
use sandpiper_sandbox::{Failure, FailureKind};

fn sampling(sample: f32, canary: f32) -> Sampling {
    Sampling::new(&Digest::of(b"a rollout"), sample, canary)
}

/// Answers the class beside the first cell's; rejects and fails as `FirstCell` does, but of classes: 0 to 2.
struct NextClass;

impl Classify for NextClass {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure> {
        let mut answer = FirstCell { classes: 3 }.classify(rows, deadline)?;
        for label in &mut answer.labels {
            *label = (*label + 1) % 3;
        }
        Ok(answer)
    }
}

/// Fails every call.
struct Broken;

impl Classify for Broken {
    fn classify(&mut self, _: &Matrix, _: Duration) -> Result<Predictions, Failure> {
        Err(trap("the challenger is broken"))
    }
}

/// Rejects every row.
struct Picky;

impl Classify for Picky {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure> {
        let mut answer = FirstCell { classes: 3 }.classify(rows, deadline)?;
        answer.rejected = (0..answer.labels.len()).map(|row| fakes::rejection(row, "no")).collect();
        Ok(answer)
    }
}

fn challenger(sampling: Sampling, classifier: impl Classify + 'static) -> ModelChallenger {
    let column = |name: &str| Column { name: name.into(), kind: Kind::Number };
    let classes = vec!["cat".to_owned(), "dog".into(), "cow".into()];
    let signature = Signature { columns: WANTED.iter().map(|name| column(name)).collect(), classes };
    let arm = Arm {
        role: Role::Challenger,
        revision: fakes::revision(17),
        release: Digest::of(b"challenger"),
        stamped: true,
    };
    ModelChallenger {
        sampling,
        parser: None,
        classifier: Box::new(classifier),
        release: "challenger-1".into(),
        gather: None,
        columns: 2,
        classes: 3,
        writer: Writer::new(&signature, 0.0, &arm),
    }
}

fn with(challenger: ModelChallenger) -> Pipeline {
    let model = ModelStage { challenger: Some(challenger), ..model(17, 2, &WANTED, None) };
    pipeline(settings(), Vec::new(), Some(model))
}

fn comparison(came: &Came) -> Comparison {
    let comparison = came.outputs.counts.comparison.as_deref().cloned().unwrap_or_default();
    let outcomes = [
        comparison.agreed,
        comparison.disagreed,
        comparison.rejected,
        comparison.only_challenger,
        comparison.neither,
        comparison.failed,
        comparison.skipped,
    ];
    assert_eq!(comparison.sampled, outcomes.iter().sum::<u64>(), "each record in one count: {comparison:?}");
    comparison
}

/// Class, role and the other arm's class of each prediction.
fn said(came: &Came) -> Vec<(String, String, Option<String>)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let said = |out: Out| {
        let value = out.json();
        let other = value.get("challenger").or_else(|| value.get("champion")).map(|other| text(&other["class"]));
        (text(&value["class"]), text(&value["role"]), other)
    };
    came.emitted().into_iter().map(said).collect()
}

fn answers(class: &str, role: &str, other: Option<&str>) -> (String, String, Option<String>) {
    (class.into(), role.into(), other.map(Into::into))
}

#[test]
fn in_a_shadow_both_answers_stand_in_the_prediction_and_the_champions_counts() {
    let mut pipeline = with(challenger(sampling(1.0, 0.0), NextClass));
    let came = process(&mut pipeline, &values(&["0,5", "1,6"]));
    assert_eq!(said(&came), [answers("cat", "champion", Some("dog")), answers("dog", "champion", Some("cow"))]);
    let comparison = comparison(&came);
    assert_eq!((comparison.sampled, comparison.disagreed, comparison.emitted), (2, 2, 0));
    assert_eq!(comparison.differences, ["in/3@0: \"cat\" / \"dog\"", "in/3@1: \"dog\" / \"cow\""]);
    assert_eq!(came.counts(), (2, 0, 0));
}

#[test]
fn in_a_canary_of_all_the_challengers_answer_counts() {
    let mut pipeline = with(challenger(sampling(1.0, 1.0), NextClass));
    let came = process(&mut pipeline, &values(&["0,5"]));
    assert_eq!(said(&came), [answers("dog", "challenger", Some("cat"))]);
    assert_eq!(came.emitted()[0].json()["release"], Digest::of(b"challenger").short());
    assert_eq!(came.emitted()[0].json()["champion"]["release"], Digest::of(b"champion").short());
    assert_eq!(comparison(&came).emitted, 1);
}

#[test]
fn a_challenger_that_fails_or_rejects_in_a_canary_costs_no_record() {
    let mut pipeline = with(challenger(sampling(1.0, 1.0), Broken));
    let came = process(&mut pipeline, &values(&["0,5", "1,5"]));
    assert_eq!(said(&came), [answers("cat", "champion", None), answers("dog", "champion", None)]);
    let failed = comparison(&came);
    assert_eq!((failed.failed, failed.emitted, came.counts()), (2, 0, (2, 0, 0)));
    assert!(failed.last_failure.unwrap().contains("the challenger is broken"));
    let mut pipeline = with(challenger(sampling(1.0, 1.0), Picky));
    let came = process(&mut pipeline, &values(&["0,5"]));
    assert_eq!((said(&came), comparison(&came).rejected), (vec![answers("cat", "champion", None)], 1));
}

#[test]
fn what_the_champion_does_not_take_is_its_dead_letter_also_in_a_canary() {
    let mut pipeline = with(challenger(sampling(1.0, 1.0), NextClass));
    let came = process(&mut pipeline, &values(&["reject", "0,5", "150,5", "drop"]));
    assert_eq!(came.codes(), [(0, "bad-number".to_owned()), (2, "out-of-domain".into())]);
    assert_eq!(said(&came), [answers("dog", "challenger", Some("cat"))]);
    let comparison = comparison(&came);
    assert_eq!((comparison.neither, comparison.disagreed, comparison.sampled), (3, 1, 4));
}

#[test]
fn a_challenger_has_its_share_of_a_transactions_time_and_then_is_not_asked() {
    let settings = Settings { budget: Duration::from_nanos(1), ..settings() };
    let model =
        ModelStage { challenger: Some(challenger(sampling(1.0, 0.0), NextClass)), ..model(17, 2, &WANTED, None) };
    let mut pipeline = pipeline(settings, Vec::new(), Some(model));
    // Thirty per cent of a nanosecond is none.
    let came = process(&mut pipeline, &values(&["0,5"]));
    assert_eq!((comparison(&came).skipped, said(&came)), (1, vec![answers("cat", "champion", None)]));
}

#[test]
fn time_that_was_spent_comes_back_with_the_next_transaction() {
    struct Counted(Arc<AtomicUsize>);
    impl Classify for Counted {
        fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure> {
            self.0.fetch_add(1, Ordering::Relaxed);
            // The whole allowance: whatever is left after it is less than a microsecond.
            let started = std::time::Instant::now();
            while started.elapsed() < deadline {}
            NextClass.classify(rows, deadline)
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let settings = Settings { budget: Duration::from_millis(10), ..settings() };
    let counted = challenger(sampling(1.0, 0.0), Counted(calls.clone()));
    let model = ModelStage { challenger: Some(counted), ..model(17, 2, &WANTED, None) };
    let mut pipeline = pipeline(settings, Vec::new(), Some(model));
    let skipped = |pipeline: &mut Pipeline| comparison(&process(pipeline, &values(&["0,5"]))).skipped;
    assert_eq!((skipped(&mut pipeline), skipped(&mut pipeline)), (0, 1));
    pipeline.aborted();
    assert_eq!((skipped(&mut pipeline), skipped(&mut pipeline)), (0, 1));
    pipeline.committed();
    assert_eq!((skipped(&mut pipeline), calls.load(Ordering::Relaxed)), (0, 3));
}

#[test]
fn a_call_that_had_less_time_than_calls_have_is_skipped_and_not_failed() {
    struct Late;
    impl Classify for Late {
        fn classify(&mut self, _: &Matrix, _: Duration) -> Result<Predictions, Failure> {
            Err(Failure { kind: FailureKind::Deadline, ..trap("too late") })
        }
    }
    let comparison_of = |settings: Settings| {
        let late = ModelStage { challenger: Some(challenger(sampling(1.0, 0.0), Late)), ..model(17, 2, &WANTED, None) };
        comparison(&process(&mut pipeline(settings, Vec::new(), Some(late)), &values(&["0,5"])))
    };
    let second = Duration::from_secs(1);
    let short = comparison_of(Settings { budget: second, deadline: second, ..settings() });
    assert_eq!((short.skipped, short.failed), (1, 0), "it had 0.3 of a second");
    let whole = comparison_of(Settings { budget: 10 * second, deadline: second, ..settings() });
    assert_eq!((whole.skipped, whole.failed), (0, 1));
}

#[test]
fn after_a_failure_the_challenger_rests() {
    struct Slow;
    impl Classify for Slow {
        fn classify(&mut self, _: &Matrix, _: Duration) -> Result<Predictions, Failure> {
            // Nine times as long is far longer than the next call takes to come.
            let started = std::time::Instant::now();
            while started.elapsed() < Duration::from_millis(200) {}
            Err(trap("slowly"))
        }
    }
    let mut pipeline = with(challenger(sampling(1.0, 0.0), Slow));
    assert_eq!(comparison(&process(&mut pipeline, &values(&["0,5"]))).failed, 1);
    pipeline.committed();
    assert_eq!(comparison(&process(&mut pipeline, &values(&["0,5"]))).skipped, 1, "a new transaction is no reason");
}

#[test]
fn what_the_topic_would_take_alone_is_not_made_too_large_by_the_other_arm() {
    let mut other = challenger(sampling(1.0, 0.0), FirstCell { classes: 3 });
    let columns = WANTED.iter().map(|name| Column { name: (*name).into(), kind: Kind::Number }).collect();
    let classes = vec!["c".repeat(30_000), "d".repeat(30_000), "e".repeat(30_000)];
    let arm = Arm { role: Role::Challenger, ..fakes::champion(17) };
    other.writer = Writer::new(&Signature { columns, classes }, 0.0, &arm);
    let came = process(&mut with(other), &values(&["0,5"]));
    assert_eq!(said(&came), [answers("cat", "champion", None)]);
    assert!(came.emitted()[0].value.as_ref().unwrap().len() < 1_000);
    assert_eq!(comparison(&came).disagreed, 1, "it is counted all the same");
}

#[test]
fn a_challenger_with_a_parser_of_its_own_is_compared_record_by_record() {
    /// Takes what the champion's parser rejects, and nothing that begins with 2.
    struct Other;
    impl Parse for Other {
        fn parse(&mut self, batch: &Batch, _: Duration) -> Result<Parsed, Failure> {
            let mut parsed =
                Parsed { rows: Matrix { columns: 2, values: Vec::new() }, rejected: Vec::new(), dropped: Vec::new() };
            for row in 0..batch.len() {
                let text = std::str::from_utf8(batch.bytes(row).unwrap()).unwrap();
                if text.starts_with('2') {
                    parsed.rejected.push(fakes::rejection(row, "two"));
                }
                parsed.rows.values.extend([text.chars().next().unwrap().to_digit(10).unwrap_or(0) as f32, 0.0]);
            }
            Ok(parsed)
        }
    }
    let own =
        ModelChallenger { parser: Some(Box::new(Other)), ..challenger(sampling(1.0, 0.0), FirstCell { classes: 3 }) };
    let mut pipeline = with(own);
    let came = process(&mut pipeline, &values(&["reject", "0,5", "2,5", "1,5"]));
    assert_eq!(
        said(&came),
        [
            answers("cat", "champion", Some("cat")),
            answers("cow", "champion", None),
            answers("dog", "champion", Some("dog"))
        ]
    );
    let comparison = comparison(&came);
    assert_eq!((comparison.only_challenger, comparison.rejected, comparison.agreed), (1, 1, 2));
}

#[test]
fn a_key_keeps_its_arm_and_a_wider_share_keeps_those_that_were_in_it() {
    let keys: Vec<String> = (0..2_000).map(|key| format!("key-{key}")).collect();
    let roles = |sampling: &Sampling, value: &str| {
        let mut builder = BatchBuilder::new(Topics::new(["in"]));
        for (offset, key) in keys.iter().enumerate() {
            builder.push(origin(offset as i64), None, Some(key.as_bytes()), Some(value.as_bytes()), None);
        }
        let batch = builder.finish();
        sampling.roles(&Work::whole(&batch)).0
    };
    let count = |roles: &[Option<Role>], role| roles.iter().filter(|each| **each == role).count();
    let narrow = roles(&sampling(0.5, 0.1), "a");
    assert_eq!(narrow, roles(&sampling(0.5, 0.1), "another value"), "the key alone decides");
    let (canary, sampled) = (count(&narrow, Some(Role::Challenger)), count(&narrow, None));
    assert!((140..260).contains(&canary) && (880..1_120).contains(&sampled), "{canary} and {sampled} of 2,000");
    let wide = roles(&sampling(0.5, 0.3), "a");
    assert!(narrow.iter().zip(&wide).all(|(narrow, wide)| *narrow != Some(Role::Challenger) || narrow == wide));
    assert!(count(&wide, Some(Role::Challenger)) > canary);
    let other = roles(&Sampling::new(&Digest::of(b"another rollout"), 0.5, 0.1), "a");
    assert_ne!(other, narrow, "another rollout takes others");
    assert_eq!(count(&roles(&sampling(1.0, 0.0), "a"), Some(Role::Champion)), 2_000);
}

#[test]
fn a_record_without_a_key_is_placed_by_its_value() {
    let sampling = sampling(0.5, 0.25);
    let role = |value: &str| {
        let batch = batch(vec![Record { key: None, value: Some(value.into()), headers: None }]);
        sampling.role(&Work::whole(&batch), 0)
    };
    let roles: Vec<_> = (0..200).map(|number| role(&number.to_string())).collect();
    assert_eq!(roles, (0..200).map(|number| role(&number.to_string())).collect::<Vec<_>>());
    for wanted in [None, Some(Role::Champion), Some(Role::Challenger)] {
        assert!(roles.contains(&wanted), "{wanted:?}");
    }
}

/// A champion that emits the text, beside that challenger.
fn transforms(
    sampling: Sampling,
    routes: &[Option<Route>],
    fate: impl FnMut(&str) -> Fate + Send + 'static,
) -> Pipeline {
    let other = transform("other", routes, fate);
    let mut stage = transform("transform[0]", &[None, Some(ELSEWHERE)], |text| match text {
        "reject" => Fate::Reject,
        text => passes(text),
    });
    stage.challenger =
        Some(TransformChallenger { sampling, stage: other.stage, release: "other-1".into(), routes: other.routes });
    pipeline(settings(), vec![stage], None)
}

fn emitted(came: &Came) -> Vec<(i64, Option<String>)> {
    came.emitted().into_iter().map(|out| (out.offset, out.value)).collect()
}

#[test]
fn transforms_are_compared_byte_for_byte_and_the_differences_are_shown() {
    let same_but_b = |text: &str| match text {
        "b" => Fate::Emit(vec![to(0, "B"), to(0, "B2")]),
        "c" => Fate::Emit(vec![Part { header: Some(("more", "1")), ..to(0, "c") }]),
        "d" => Fate::Drop,
        text => passes(text),
    };
    let mut pipeline = transforms(sampling(1.0, 0.0), &[None], same_but_b);
    let came = process(&mut pipeline, &values(&["a", "b", "c", "d", "reject"]));
    assert_eq!(emitted(&came).len(), 4, "the champion's");
    let comparison = comparison(&came);
    assert_eq!((comparison.agreed, comparison.disagreed, comparison.only_challenger), (1, 3, 1));
    assert_eq!(comparison.differences[0], "in/3@1: 1 [b] / 2 [B, B2]");
    // The same bytes elsewhere are something else.
    let mut pipeline = transforms(sampling(1.0, 0.0), &[Some(ELSEWHERE)], passes);
    assert_eq!(self::comparison(&process(&mut pipeline, &values(&["a"]))).disagreed, 1);
}

#[test]
fn what_a_challenger_has_transformed_is_stamped_as_its_own_through_every_later_stage() {
    let mut pipeline = transforms(sampling(1.0, 1.0), &[None], |text| Fate::Emit(vec![to(0, format!("1,{text}"))]));
    let came = process(&mut pipeline, &values(&["5", "reject"]));
    assert_eq!(came.emitted()[0].says("sandpiper").as_deref(), Some("17 challenger in/3@0"));
    let column = |name: &str| Column { name: name.into(), kind: Kind::Number };
    let signature = Signature {
        columns: WANTED.iter().map(|name| column(name)).collect(),
        classes: vec!["cat".to_owned(), "dog".into(), "cow".into()],
    };
    let arm = Arm { role: Role::Challenger, release: Digest::of(b"challenger"), ..fakes::champion(17) };
    pipeline.model =
        Some(ModelStage { behind_challenger: Some(Writer::new(&signature, 0.0, &arm)), ..model(17, 2, &WANTED, None) });
    let came = process(&mut pipeline, &values(&["5"]));
    assert_eq!(said(&came), [answers("dog", "challenger", None)]);
    assert_eq!(came.emitted()[0].json()["release"], Digest::of(b"challenger").short());
}

#[test]
fn in_a_canary_a_transforms_records_are_the_challengers_and_in_their_order() {
    let doubled = |text: &str| match text {
        "reject" => passes("not wanted"),
        text => Fate::Emit(vec![to(0, format!("{text}1")), to(0, format!("{text}2"))]),
    };
    let mut pipeline = transforms(sampling(1.0, 1.0), &[None], doubled);
    let came = process(&mut pipeline, &values(&["a", "reject", "b"]));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(emitted(&came), [(0, text("a1")), (0, text("a2")), (2, text("b1")), (2, text("b2"))]);
    assert_eq!(came.codes(), [(1, "unwanted".to_owned())], "the champion's dead letter stands");
    assert_eq!(comparison(&came).emitted, 2);
}

#[test]
fn a_transform_that_fails_or_floods_in_a_canary_costs_no_record() {
    let mut pipeline = transforms(sampling(1.0, 1.0), &[None], |_| Fate::Poison);
    let came = process(&mut pipeline, &values(&["a", "b"]));
    assert_eq!((emitted(&came).len(), comparison(&came).failed), (2, 2));
    let flood = |_: &str| Fate::Emit(vec![to(0, "x".repeat(2 * fakes::MAX_OUTPUT))]);
    let mut pipeline = transforms(sampling(1.0, 1.0), &[None], flood);
    let came = process(&mut pipeline, &values(&["a"]));
    assert_eq!((emitted(&came), comparison(&came).skipped), (vec![(0, Some("a".to_owned()))], 1));
}
