use super::*;

#[test]
fn a_pipeline_does_not_read_what_it_writes() {
    let never = "without end";
    one(
        &IRIS.replace("iris.predictions", "iris.measurements"),
        "12:9: [output] topic: \"iris.measurements\" is [input] topics too (line 5)",
        &[never],
    );
    one(&format!("{IRIS}[errors]\ndead_letters = \"iris.measurements\"\n"), "16:16", &[never]);
    one(&iris("[feedback]", "scores = \"iris.measurements\""), "14:10", &[never]);
    one(
        &with(MASK, "[[transform]]", "outputs = { rest = \"people\" }"),
        "7:20: [[transform]] 1 outputs.rest",
        &[never],
    );
    one(
        &IRIS.replace("iris.measurements", "iris.dead-letters"),
        "5:11: [input] topics",
        &["[errors] dead_letters too (by default)", never],
    );
}

#[test]
fn a_pipeline_does_not_write_its_own_ground_truth() {
    one(&IRIS.replace("iris.labels", "iris.predictions"), "14:10: [feedback] labels", &["ground truth"]);
    one(&iris("[feedback]", "scores = \"iris.labels\""), "15:10", &["ground truth"]);
    one(&IRIS.replace("iris.labels", "iris.dead-letters"), "14:10", &["ground truth"]);
}

#[test]
fn dead_letters_and_scores_have_topics_of_their_own() {
    one(&format!("{IRIS}[errors]\ndead_letters = \"iris.predictions\"\n"), "16:16", &["of their own"]);
    one(&iris("[feedback]", "scores = \"iris.dead-letters\""), "14:10", &["of their own"]);
    one(&iris("[feedback]", "scores = \"iris.predictions\""), "14:10", &["of their own"]);
}

#[test]
fn an_input_is_named_once() {
    one(&IRIS.replace("[\"iris.measurements\"]", "[\"a\", \"a\"]"), "5:16: [input] topics", &["line 5", "once"]);
}

#[test]
fn a_transform_does_not_write_among_the_predictions_that_feedback_reads() {
    let text = iris("id = \"key\"", "[[transform]]\nplugin = \"filter\"\noutputs = { o = \"iris.predictions\" }");
    one(&text, "15:9: [output] topic", &["line 9", "[feedback] reads predictions"]);
    right(&text.replace("[feedback]\nlabels = \"iris.labels\"\n", ""));
}

#[test]
fn a_labelled_stream_may_be_its_own_labels() {
    right(&IRIS.replace("iris.labels", "iris.measurements"));
}
