use super::*;

#[test]
fn a_pipeline_does_not_read_what_it_writes() {
    let never = "without end";
    only_mistake(
        &IRIS.replace("iris.predictions", "iris.measurements"),
        "12:9: [output] topic: \"iris.measurements\" is [input] topics too (line 5)",
        &[never],
    );
    only_mistake(&format!("{IRIS}[errors]\ndead_letters = \"iris.measurements\"\n"), "16:16", &[never]);
    only_mistake(&iris_with_line("[feedback]", "scores = \"iris.measurements\""), "14:10", &[never]);
    only_mistake(
        &with_line(MASK, "[[transform]]", "outputs = { rest = \"people\" }"),
        "7:20: [[transform]] 1 outputs.rest",
        &[never],
    );
    only_mistake(
        &IRIS.replace("iris.measurements", "iris.dead-letters"),
        "5:11: [input] topics",
        &["[errors] dead_letters too (by default)", never],
    );
}

#[test]
fn a_pipeline_does_not_write_its_own_ground_truth() {
    only_mistake(&IRIS.replace("iris.labels", "iris.predictions"), "14:10: [feedback] labels", &["ground truth"]);
    only_mistake(&iris_with_line("[feedback]", "scores = \"iris.labels\""), "15:10", &["ground truth"]);
    only_mistake(&IRIS.replace("iris.labels", "iris.dead-letters"), "14:10", &["ground truth"]);
}

#[test]
fn dead_letters_and_scores_have_topics_of_their_own() {
    only_mistake(&format!("{IRIS}[errors]\ndead_letters = \"iris.predictions\"\n"), "16:16", &["of their own"]);
    only_mistake(&iris_with_line("[feedback]", "scores = \"iris.dead-letters\""), "14:10", &["of their own"]);
    only_mistake(&iris_with_line("[feedback]", "scores = \"iris.predictions\""), "14:10", &["of their own"]);
}

#[test]
fn an_input_is_named_once() {
    only_mistake(
        &IRIS.replace("[\"iris.measurements\"]", "[\"a\", \"a\"]"),
        "5:16: [input] topics",
        &["line 5", "once"],
    );
}

#[test]
fn a_transform_does_not_write_among_the_predictions_that_feedback_reads() {
    let text =
        iris_with_line("id = \"key\"", "[[transform]]\nplugin = \"filter\"\noutputs = { o = \"iris.predictions\" }");
    only_mistake(&text, "15:9: [output] topic", &["line 9", "[feedback] reads predictions"]);
    valid(&text.replace("[feedback]\nlabels = \"iris.labels\"\n", ""));
}

#[test]
fn a_labelled_stream_may_be_its_own_labels() {
    valid(&IRIS.replace("iris.labels", "iris.measurements"));
}
