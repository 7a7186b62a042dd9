//! `[input]`, `[output]`, `[errors]` and `[feedback]`.

use super::*;
use crate::record::RecordId;

#[test]
fn an_unknown_key_is_reported_with_the_nearest_and_the_allowed() {
    only_mistake(
        &iris_with_line("[input]", "tombstone = \"drop\""),
        "5:1: [input] tombstone: unknown key, did you mean \"tombstones\"? A",
        &["llowed here: group, id, start, tombstones, topics"],
    );
    only_mistake(
        &format!("{IRIS}[limit]\n"),
        "15:2: limit: unknown key, did you mean \"limits\"?",
        &[
            "Allowed here: classify, delivery, errors, feedback, input, kafka, limits, name, output, parse, rollout, transform",
        ],
    );
    only_mistake(
        &iris_with_line("[feedback]", "score = { plugn = \"loss\" }"),
        "14:11: [feedback] score.plugn: unknown key, did you mean \"plugin\"?",
        &[],
    );
    only_mistake(
        &iris_with_line("[output]", "zzz = 1"),
        "12:1: [output] zzz: unknown key. Allowed here: ",
        &["min_confidence, partition, stamp, timestamp, topic"],
    );
    only_mistake(
        &format!("{IRIS}[errors]\ntopic = \"x\"\n"),
        "16:1",
        &["Allowed here: dead_letters, failed, pause_above, rejected"],
    );
}

#[test]
fn a_name_is_required_and_plain() {
    only_mistake(&IRIS.replace("name = \"iris\"", ""), "1:1: name: missing: ", &[]);
    only_mistake(&IRIS.replace("\"iris\"", "\"my iris\""), "1:8: name: \"my iris\" is no pipeline name", &["1 to 100"]);
}

#[test]
fn the_input_names_its_topics_one_by_one() {
    let topics = |list: &str| IRIS.replace("[\"iris.measurements\"]", list);
    only_mistake(&topics("\"a\""), "5:10: [input] topics: found a string: expected a list", &[]);
    only_mistake(&topics("[]"), "5:10", &["at least one"]);
    only_mistake(&topics("[\"^iris.*\"]"), "5:11", &["is a pattern", "one by one"]);
    only_mistake(&topics("[\"a\", 5]"), "5:16", &["found an integer"]);
    only_mistake(&IRIS.replace("topics = [\"iris.measurements\"]\n", ""), "4:1: [input] topics: missing", &[]);
    only_mistake(&MASK.replace("[input]\ntopics = [\"people\"]\n", ""), "1:1: [input] topics: missing", &[]);
}

#[test]
fn with_feedback_the_record_id_must_be_given() {
    only_mistake(&IRIS.replace("id = \"key\"\n", ""), "4:1: [input] id: missing", &["[feedback]", "position"]);
    assert_eq!(valid(&IRIS.replace("\"key\"", "\"position\"")).input.id, RecordId::Position);
}

#[test]
fn the_output_names_its_topic_and_takes_only_known_words() {
    only_mistake(&IRIS.replace("topic = \"iris.predictions\"\n", ""), "11:1: [output] topic: missing", &[]);
    only_mistake(
        &iris_with_line("[output]", "timestamp = \"log\""),
        "12:13: [output] timestamp: \"log\" is not allowed",
        &["\"input\", \"now\""],
    );
    only_mistake(&iris_with_line("[output]", "partition = \"kee\""), "12:13", &["did you mean \"key\"?"]);
    only_mistake(&iris_with_line("[input]", "start = \"earlyest\""), "5:9", &["did you mean \"earliest\"?"]);
}

#[test]
fn a_confidence_is_from_0_to_1_and_a_predictions() {
    assert_eq!(valid(&iris_with_line("[output]", "min_confidence = 1")).output.min_confidence, 1.0);
    only_mistake(&iris_with_line("[output]", "min_confidence = 1.1"), "12:18", &["from 0 to 1"]);
    only_mistake(&iris_with_line("[output]", "min_confidence = nan"), "12:18", &["from 0 to 1"]);
    only_mistake(
        &with_line(MASK, "[output]", "min_confidence = 0.5"),
        "9:18: [output] min_confidence",
        &["no [classify]"],
    );
}

#[test]
fn the_stamp_stands_where_the_host_writes_and_feedback_reads() {
    only_mistake(
        &with_line(MASK, "[output]", "stamp = \"value\""),
        "9:9: [output] stamp: \"value\" needs [classify]",
        &[],
    );
    valid(&with_line(MASK, "[output]", "stamp = \"none\""));
    for stamp in ["header", "none"] {
        let text = iris_with_line("[output]", &format!("stamp = \"{stamp}\""));
        only_mistake(&text, "12:9: [output] stamp", &["does not go with [feedback]", "\"value\""]);
        valid(&text.replace("[feedback]\nlabels = \"iris.labels\"\n", ""));
    }
}

#[test]
fn feedback_needs_labels_and_predictions() {
    only_mistake(&IRIS.replace("labels = \"iris.labels\"\n", ""), "13:1: [feedback] labels: missing", &[]);
    let text = with_line(MASK, "[input]", "id = \"key\"") + "[feedback]\nlabels = \"l\"\n";
    only_mistake(&text, "11:1: [feedback]: needs [classify]", &[]);
}

#[test]
fn a_label_is_for_a_record_that_it_names() {
    only_mistake(
        &iris_with_line("[feedback]", "id = \"position\""),
        "14:6: [feedback] id",
        &["where the label stands"],
    );
    only_mistake(
        &iris_with_line("[feedback]", "id = \"topic\""),
        "14:6",
        &["\"key\", \"header:NAME\" or \"json:/pointer\""],
    );
    only_mistake(
        &iris_with_line("[feedback]", "class = \"/class\""),
        "14:9: [feedback] class",
        &["\"json:/pointer\"", "leave the key out"],
    );
    only_mistake(&iris_with_line("[feedback]", "class = \"json:class\""), "14:9", &["begins with '/'"]);
    only_mistake(&iris_with_line("[feedback]", "wait = \"0s\""), "14:8", &["from 1s to 3650d"]);
}

#[test]
fn the_two_loops_have_two_groups() {
    only_mistake(
        &iris_with_line("[feedback]", "group = \"sandpiper.iris\""),
        "14:9: [feedback] group",
        &["its own group"],
    );
    only_mistake(
        &iris_with_line("[input]", "group = \"sandpiper.iris.feedback\""),
        "5:9: [input] group",
        &["its own group"],
    );
}

#[test]
fn a_section_that_is_no_table_is_reported_with_how_to_write_it() {
    only_mistake(
        &format!("feedback = true\n{}", IRIS.replace("[feedback]\nlabels = \"iris.labels\"\n", "")),
        "1:12: [feedback]: found a boolean",
        &["labels = "],
    );
    only_mistake(
        &MASK.replace("[[transform]]", "[transform]"),
        "6:1: [[transform]]: found a table: write [[transform]]",
        &[],
    );
}
