//! `[delivery]` and `[limits]`.

use super::*;

fn delivery(lines: &str) -> String {
    format!("{IRIS}[delivery]\n{lines}\n")
}

fn limits(lines: &str) -> String {
    format!("{IRIS}[limits]\n{lines}\n")
}

#[test]
fn each_time_is_less_than_the_next() {
    valid(&delivery("commit_interval = \"2999ms\""));
    only_mistake(
        &delivery("commit_interval = \"3s\""),
        "16:19: [delivery] commit_interval: ",
        &["\"3s\"", "budget, which is 3s (default)"],
    );
    only_mistake(
        &delivery("budget = \"10s\""),
        "16:10: [delivery] budget: ",
        &["\"10s\"", "transaction_timeout, which is 10s (default)"],
    );
    only_mistake(
        &delivery("transaction_timeout = \"31s\""),
        "16:23",
        &["\"31s\"", "max_poll_interval, which is 30s (default)"],
    );
    only_mistake(
        &delivery("max_poll_interval = \"9s\""),
        "16:21: [delivery] max_poll_interval",
        &["10s (default)", "\"9s\""],
    );
    let all = mistakes_in(&delivery(
        "budget = \"50ms\"\ntransaction_timeout = \"1s\"\nmax_poll_interval = \"6s\"\ncommit_interval = \"7s\"\n",
    ));
    assert_eq!(all.len(), 2, "{all:#?}"); // The deadline's 500 ms are more than the budget too.
}

#[test]
fn a_time_or_a_size_out_of_range_is_reported_with_the_range() {
    only_mistake(&delivery("commit_interval = \"0ms\""), "16:19", &["from 1ms to 24h"]);
    only_mistake(&delivery("transaction_timeout = \"999ms\""), "16:23", &["from 1s to 24h"]);
    only_mistake(&delivery("max_poll_interval = \"5s\""), "16:21", &["from 6s to 24h"]);
    only_mistake(&delivery("max_bytes = \"2GiB\""), "16:13", &["from 1KiB to 1GiB"]);
    only_mistake(&delivery("max_records = 0"), "16:15", &["from 1 to 10000000"]);
    only_mistake(&delivery("max_records = -1"), "16:15", &["not a whole number"]);
    only_mistake(&delivery("budget = 3"), "16:10", &["3 is not a duration", "\"250ms\""]);
    only_mistake(&limits("workers = 257"), "16:11: [limits] workers: 257 is out of range: from 1 to 256", &[]);
    only_mistake(&limits("workers = 1.5"), "16:11", &["not a whole number from 1 to 256"]);
    only_mistake(&limits("workers = 99999999999999999999"), "16:11", &["too large"]);
    only_mistake(&limits("plugin_memory = \"64MB\""), "16:17", &["is not a size", "\"64MiB\""]);
    only_mistake(&limits("plugin_memory = \"5GiB\""), "16:17", &["from 1MiB to 4GiB"]);
    only_mistake(&limits("batch_records = 1025"), "16:17", &["from 1 to 1024"]);
    only_mistake(&limits("batch_bytes = \"5MiB\""), "16:15", &["from 1KiB to 4MiB"]);
    only_mistake(&limits("deadline = \"9ms\""), "16:12", &["from 10ms"]);
}

#[test]
fn delivery_is_a_section_and_its_guarantee_a_word() {
    only_mistake(
        &format!("delivery = \"exactly-once\"\n{IRIS}"),
        "1:12: [delivery]: found a string: write [delivery], and below it guarantee = \"exactly-once\"",
        &[],
    );
    only_mistake(
        &delivery("guarantee = \"exactly_once\""),
        "16:13",
        &["did you mean \"exactly-once\"?", "\"at-least-once\""],
    );
}

#[test]
fn a_plugin_call_is_shorter_than_its_transaction() {
    valid(&limits("deadline = \"2999ms\""));
    only_mistake(&limits("deadline = \"3s\""), "16:12: [limits] deadline", &["\"3s\"", "3s (default)"]);
    only_mistake(&delivery("budget = \"400ms\""), "16:10: [limits] deadline", &["500ms (default)", "\"400ms\""]);
}

#[test]
fn a_batch_is_smaller_than_the_plugin_that_holds_it() {
    valid(&limits("plugin_memory = \"4097KiB\""));
    only_mistake(&limits("plugin_memory = \"4MiB\""), "16:17: [limits] batch_bytes", &["4MiB (default)", "\"4MiB\""]);
}

#[test]
fn a_workers_parts_fit_into_its_memory() {
    // 4 + 16 + 16 + 2 plugins × 64 × 2 = 292 MiB.
    let little = |text: String| text.replace("[feedback]", "[feedback]\nmax_bytes = \"1MiB\"");
    valid(&little(limits("worker_memory = \"292MiB\"")));
    only_mistake(
        &limits("worker_memory = \"291MiB\""),
        "16:17: [limits] worker_memory: worker_memory is \"291MiB\", and a worker needs 292MiB: ",
        &[
            "fetch_queue 4MiB (default) + producer_queue 16MiB (default) + [delivery] max_bytes 16MiB (default)",
            "+ 2 plugins × plugin_memory 64MiB (default) × 2",
            "set worker_memory = \"292MiB\"",
        ],
    );
    only_mistake(
        &limits("plugin_memory = \"128MiB\""),
        "16:17",
        &["worker_memory is 512MiB (default), and a worker needs 548MiB"],
    );
    only_mistake(&delivery("max_bytes = \"256MiB\""), "16:13", &["needs 532MiB"]);
}

#[test]
fn the_feedback_loops_worker_fits_too_with_what_it_remembers() {
    // 4 + 16 + 16 + 64 + 256 = 356 MiB.
    valid(&limits("worker_memory = \"356MiB\""));
    only_mistake(
        &limits("worker_memory = \"355MiB\""),
        "16:17: [limits] worker_memory: worker_memory is \"355MiB\", and the feedback loop's worker needs 356MiB: ",
        &["+ plugin_memory 64MiB (default) + [feedback] max_bytes 256MiB (default)", "set worker_memory = \"356MiB\""],
    );
    let much = iris_with_line("[feedback]", "max_bytes = \"1GiB\"");
    only_mistake(&much, "", &["[limits] worker_memory", "needs 1124MiB"]);
}

#[test]
fn the_defaults_have_room_for_a_transform_before_a_classifier_with_feedback() {
    valid(&iris_with_line("id = \"key\"", "[[transform]]\nplugin = \"filter\""));
    let two = "[[transform]]\nplugin = \"filter\"\n[[transform]]\nplugin = \"filter\"";
    only_mistake(&iris_with_line("id = \"key\"", two), "1:1: [limits] worker_memory", &["4 plugins", "548MiB"]);
}
