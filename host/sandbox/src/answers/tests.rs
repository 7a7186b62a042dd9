//! Each rule, obeyed and violated.

use super::*;
use crate::wit::latest::EmittedKey;

#[track_caller]
fn holds(check: Check) {
    assert_eq!(check, Ok(()));
}

#[track_caller]
fn breaks(check: Check, message: &str) {
    assert_eq!(check, Err(message.to_owned()));
}

fn rejection(row: u32) -> Rejection {
    Rejection { row, code: "bad-number".into(), message: "not a number".into() }
}

// A parser's answer.

fn rows(columns: u32, values: usize) -> Matrix {
    Matrix { columns, values: vec![0.5; values] }
}

fn parse_answer(rejected: Vec<Rejection>, dropped: Vec<u32>) -> Parsed {
    Parsed { rows: rows(2, 6), rejected, dropped }
}

#[test]
fn a_matrix_has_the_columns_that_open_named_and_a_cell_for_each_row() {
    let answer = |matrix| Parsed { rows: matrix, rejected: vec![], dropped: vec![] };
    holds(check_parsed(&answer(rows(2, 6)), 3, 2));
    breaks(check_parsed(&answer(rows(3, 6)), 3, 2), "3 columns instead of 2");
    breaks(check_parsed(&answer(rows(2, 5)), 3, 2), "5 values for 3 rows of 2 columns");
    breaks(check_parsed(&answer(rows(2, 8)), 3, 2), "8 values for 3 rows of 2 columns");
}

#[test]
fn a_missing_cell_is_legal() {
    holds(check_parsed(
        &Parsed { rows: Matrix { columns: 1, values: vec![f32::NAN] }, rejected: vec![], dropped: vec![] },
        1,
        1,
    ));
}

#[test]
fn a_row_is_rejected_or_dropped_once_and_exists() {
    holds(check_parsed(&parse_answer(vec![rejection(0)], vec![2]), 3, 2));
    breaks(check_parsed(&parse_answer(vec![rejection(3)], vec![]), 3, 2), "it rejected or dropped row 3 of 3");
    breaks(check_parsed(&parse_answer(vec![], vec![3]), 3, 2), "it rejected or dropped row 3 of 3");
    breaks(
        check_parsed(&parse_answer(vec![rejection(1), rejection(1)], vec![]), 3, 2),
        "it rejected or dropped row 1 twice",
    );
    breaks(check_parsed(&parse_answer(vec![rejection(1)], vec![1]), 3, 2), "it rejected or dropped row 1 twice");
    breaks(check_parsed(&parse_answer(vec![], vec![1, 1]), 3, 2), "it rejected or dropped row 1 twice");
}

#[test]
fn a_rejections_code_is_a_metrics_label() {
    let coded =
        |code: &str| check_parsed(&parse_answer(vec![Rejection { code: code.into(), ..rejection(0) }], vec![]), 3, 2);
    holds(coded("bad-number-2"));
    holds(coded(&"x".repeat(64)));
    breaks(coded(""), "row 0's rejection code \"\" is not of the form [a-z0-9-]{1,64}");
    for wrong in ["Bad", "bad number", "bad_number", "bäd", &"x".repeat(65)] {
        assert!(coded(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_message_about_a_rejections_code_is_short_however_long_the_code() {
    for letter in ["x", "é", "€", "\u{10ffff}"] {
        let rejected = vec![Rejection { code: letter.repeat(100_000), ..rejection(0) }];
        let message = check_parsed(&parse_answer(rejected, vec![]), 3, 2).unwrap_err();
        assert!(message.len() < 1_024, "{} bytes", message.len());
    }
}

#[test]
fn a_rejections_message_has_at_most_1024_bytes() {
    let with_message = |bytes: usize| {
        check_parsed(&parse_answer(vec![Rejection { message: "x".repeat(bytes), ..rejection(0) }], vec![]), 3, 2)
    };
    holds(with_message(0));
    holds(with_message(1_024));
    breaks(with_message(1_025), "row 0's rejection message has 1025 bytes, more than 1024");
}

// A classifier's.

fn prediction(labels: &[u32], scores: &[f32], rejected: Vec<Rejection>) -> Check {
    check_predictions(&Predictions { labels: labels.to_vec(), scores: scores.to_vec(), rejected }, 2, 2)
}

#[test]
fn each_row_has_a_label_and_a_score_for_each_class() {
    holds(prediction(&[0, 1], &[1.0, 0.0, 0.25, 0.75], vec![]));
    breaks(prediction(&[0], &[1.0, 0.0, 0.25, 0.75], vec![]), "1 labels for 2 rows");
    breaks(prediction(&[0, 1, 1], &[1.0, 0.0, 0.25, 0.75], vec![]), "3 labels for 2 rows");
    breaks(prediction(&[0, 1], &[1.0, 0.0], vec![]), "2 scores for 2 rows of 2 classes");
    breaks(prediction(&[0, 1], &[1.0; 6], vec![]), "6 scores for 2 rows of 2 classes");
}

#[test]
fn a_label_is_a_class_unless_its_row_is_rejected() {
    breaks(prediction(&[0, 2], &[0.0; 4], vec![]), "row 1 has label 2, and there are 2 classes");
    holds(prediction(&[0, 2], &[0.0; 4], vec![rejection(1)]));
    breaks(prediction(&[2, 2], &[0.0; 4], vec![rejection(0)]), "row 1 has label 2, and there are 2 classes");
}

#[test]
fn a_score_is_finite_unless_its_row_is_rejected() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        breaks(prediction(&[0, 0], &[0.0, 0.0, 0.0, wrong], vec![]), "row 1 has a score that is not finite");
        holds(prediction(&[0, 0], &[0.0, 0.0, 0.0, wrong], vec![rejection(1)]));
        breaks(
            prediction(&[0, 0], &[wrong, wrong, 0.0, wrong], vec![rejection(0)]),
            "row 1 has a score that is not finite",
        );
        breaks(
            prediction(&[0, 0], &[wrong, 0.0, wrong, 0.0], vec![rejection(1)]),
            "row 0 has a score that is not finite",
        );
    }
}

#[test]
fn a_classifiers_rejections_keep_the_same_rules() {
    breaks(prediction(&[0, 0], &[0.0; 4], vec![rejection(2)]), "it rejected or dropped row 2 of 2");
    breaks(prediction(&[0, 0], &[0.0; 4], vec![rejection(1), rejection(1)]), "it rejected or dropped row 1 twice");
}

// A transform's.

fn emitted(source_row: u32, output: u32) -> Emitted {
    Emitted { source_row, output, key: EmittedKey::Input, headers: vec![], tombstone: false }
}

/// Each record one byte; three rows, two outputs.
fn transform_answer(emitted: Vec<Emitted>) -> Transformed {
    let offsets = (0..=emitted.len() as u32).collect();
    Transformed { payload: vec![0; emitted.len()], offsets, emitted, rejected: vec![], dropped: vec![] }
}

fn check(answer: &Transformed) -> Check {
    check_transformed(answer, 3, 2)
}

#[test]
fn a_transform_emits_any_number_for_each_row_in_their_order() {
    holds(check(&transform_answer(vec![])));
    holds(check(&transform_answer(vec![emitted(0, 0), emitted(0, 1), emitted(2, 0)])));
    breaks(check(&transform_answer(vec![emitted(2, 0), emitted(1, 0)])), "it emitted for row 1 after row 2");
}

#[test]
fn a_transform_emits_for_rows_and_to_outputs_that_exist() {
    holds(check(&transform_answer(vec![emitted(2, 1)])));
    breaks(check(&transform_answer(vec![emitted(3, 0)])), "it emitted for row 3 of 3");
    breaks(check(&transform_answer(vec![emitted(0, 2)])), "it emitted to output 2 of 2");
}

#[test]
fn a_transforms_offsets_lay_its_payload_out() {
    let answer = |offsets: &[u32], payload: usize| {
        let emitted = vec![emitted(0, 0), emitted(1, 0)];
        check(&Transformed { offsets: offsets.to_vec(), payload: vec![0; payload], ..transform_answer(emitted) })
    };
    holds(answer(&[0, 2, 2], 2));
    breaks(answer(&[0, 2], 2), "2 offsets for 2 emitted records");
    breaks(answer(&[0, 1, 2, 2], 2), "4 offsets for 2 emitted records");
    breaks(answer(&[1, 2, 2], 2), "offsets do not start at 0");
    breaks(answer(&[0, 2, 1], 1), "offsets decrease");
    breaks(answer(&[0, 1, 2], 3), "offsets end at Some(2), and the payload has 3 bytes");
    breaks(answer(&[0, 1, 4], 3), "offsets end at Some(4), and the payload has 3 bytes");
}

#[test]
fn an_answer_without_offsets_is_refused() {
    breaks(check(&Transformed { offsets: vec![], ..transform_answer(vec![]) }), "0 offsets for 0 emitted records");
}

#[test]
fn nothing_is_emitted_for_a_row_that_is_rejected_or_dropped() {
    let answer = |rejected, dropped| Transformed {
        rejected,
        dropped,
        ..transform_answer(vec![emitted(0, 0), emitted(2, 0), emitted(2, 1)])
    };
    holds(check(&answer(vec![rejection(1)], vec![])));
    holds(check(&answer(vec![], vec![1])));
    breaks(check(&answer(vec![rejection(2)], vec![])), "it emitted for row 2, which it also rejected or dropped");
    breaks(check(&answer(vec![rejection(1)], vec![0])), "it emitted for row 0, which it also rejected or dropped");
}

// A scorer's.

fn outcomes(count: usize) -> Vec<Outcome> {
    let outcome = Outcome {
        id: "a".into(),
        predicted: 0,
        scores: vec![],
        truth: 0,
        source: String::new(),
        delay_ms: 0,
        revision: 1,
    };
    vec![outcome; count]
}

fn judgement(row: u32) -> Judgement {
    Judgement { row, loss: 1.0, weight: 1.0, accepted: true, reason: None }
}

#[test]
fn an_outcome_is_judged_at_most_once_and_exists() {
    holds(check_judgements(&[], &outcomes(2)));
    holds(check_judgements(&[judgement(1), judgement(0)], &outcomes(2)));
    breaks(check_judgements(&[judgement(2)], &outcomes(2)), "it judged row 2 of 2");
    breaks(check_judgements(&[judgement(1), judgement(1)], &outcomes(2)), "it judged row 1 twice");
}

#[test]
fn loss_and_weight_are_finite_and_no_weight_is_negative() {
    let check = |loss, weight| check_judgements(&[Judgement { loss, weight, ..judgement(0) }], &outcomes(1));
    holds(check(-3.5, 0.0));
    breaks(check(f64::NAN, 1.0), "row 0's loss is not finite");
    breaks(check(f64::INFINITY, 1.0), "row 0's loss is not finite");
    breaks(check(1.0, -0.5), "row 0's weight -0.5 is not a finite number of at least 0");
    breaks(check(1.0, f64::NAN), "row 0's weight NaN is not a finite number of at least 0");
    breaks(check(1.0, f64::INFINITY), "row 0's weight inf is not a finite number of at least 0");
}

// What `open` answered.

fn column(name: &str, kind: Kind) -> Column {
    Column { name: name.into(), kind }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).into()).collect()
}

#[test]
fn columns_have_different_names_and_so_have_a_columns_categories() {
    let category = |names: &[&str]| Kind::Category(texts(names));
    holds(check_columns(&[column("size", Kind::Number), column("hue", category(&["red", "blue"]))]));
    // Two columns may share a category's name.
    holds(check_columns(&[column("a", category(&["red"])), column("b", category(&["red"]))]));
    breaks(check_columns(&[]), "it names no column");
    breaks(
        check_columns(&[column("size", Kind::Number), column("size", Kind::Number)]),
        "it names column \"size\" twice",
    );
    breaks(
        check_columns(&[column("hue", category(&["red", "red"]))]),
        "it names category of column \"hue\" \"red\" twice",
    );
}

#[test]
fn columns_number_at_most_ten_thousand() {
    let many = |count: usize| (0..count).map(|at| column(&at.to_string(), Kind::Number)).collect::<Vec<_>>();
    holds(check_columns(&many(10_000)));
    breaks(check_columns(&many(10_001)), "it names more than 10000 of column");
}

#[test]
fn a_signature_has_columns_and_at_least_two_classes_all_different() {
    let check = |columns: &[&str], classes: &[&str]| {
        check_signature(&Signature {
            columns: columns.iter().map(|name| column(name, Kind::Number)).collect(),
            classes: texts(classes),
        })
    };
    holds(check(&["size"], &["cat", "dog"]));
    breaks(check(&[], &["cat", "dog"]), "it names no column");
    breaks(check(&["size"], &["cat"]), "it names 1 class, and at least two are needed");
    breaks(check(&["size"], &["cat", "cat"]), "it names class \"cat\" twice");
}

#[test]
fn a_transform_names_its_outputs_all_different() {
    holds(check_outputs(&texts(&["kept", "odd"])));
    breaks(check_outputs(&[]), "it names no output");
    breaks(check_outputs(&texts(&["kept", "kept"])), "it names output \"kept\" twice");
}

#[test]
fn a_name_has_1_to_256_bytes_and_a_message_about_it_is_short() {
    let (longest, longer, huge) = ("x".repeat(256), "x".repeat(257), "é".repeat(1 << 20));
    let numbered = |name: &str| check_columns(&[column(name, Kind::Number)]);
    let category = |name: &str| check_columns(&[column("hue", Kind::Category(texts(&[name, "blue"])))]);
    let class = |name: &str| {
        check_signature(&Signature { columns: vec![column("size", Kind::Number)], classes: texts(&[name, "dog"]) })
    };
    let output = |name: &str| check_outputs(&texts(&[name]));
    for check in [&numbered as &dyn Fn(&str) -> Check, &category, &class, &output] {
        holds(check(&longest));
        assert!(check(&longer).unwrap_err().contains("257 bytes, and a name has at most 256"));
        assert!(check(&huge).unwrap_err().len() < 1_000);
    }
    holds(category(""));
    breaks(numbered(""), "it names column \"\", and a name is not empty");
    breaks(class(""), "it names class \"\", and a name is not empty");
    breaks(output(""), "it names output \"\", and a name is not empty");
}

#[test]
fn headers_that_are_added_have_bounded_names_and_a_bounded_number() {
    let added = |name: &str, count: usize| {
        use crate::wit::latest::transform::exports::sandpiper::plugin::transform::Header;
        let headers = vec![Header { name: name.into(), value: None }; count];
        check_transformed(&transform_answer(vec![Emitted { headers, ..emitted(0, 0) }]), 3, 2)
    };
    holds(added(&"x".repeat(256), 1_000));
    breaks(added("x", 1_001), "it added 1001 headers to a record of row 0, more than 1000");
    let error = added(&"x".repeat(1 << 20), 1).unwrap_err();
    assert!(error.contains("a name of 1048576 bytes, more than 256") && error.len() < 500, "{error}");
}

#[test]
fn a_judgements_reason_is_as_long_as_a_rejections_message() {
    let because =
        |bytes: usize| check_judgements(&[Judgement { reason: Some("x".repeat(bytes)), ..judgement(0) }], &outcomes(1));
    holds(because(1_024));
    breaks(because(1_025), "row 0's reason has 1025 bytes, more than 1024");
}
