use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::load;
use crate::config::plan::*;
use crate::record::{Pointer, RecordId};

#[test]
fn a_short_file_becomes_a_plan_with_every_default() {
    let plan = valid(IRIS);
    assert_eq!(plan.name, "iris");
    assert_eq!(plan.file, PathBuf::from("pipelines/iris.toml"));
    assert_eq!(plan.kafka.0, [("bootstrap.servers".to_owned(), "127.0.0.1:9092".to_owned())].into());
    let topics = vec!["iris.measurements".to_owned()];
    let group = "sandpiper.iris".to_owned();
    assert_eq!(
        plan.input,
        Input { topics, group, id: RecordId::Key, start: Start::Earliest, tombstones: Tombstones::DeadLetter }
    );
    let stage = |name: &str, config| Stage { plugin: PluginRef::Stock(name.to_owned()), model: None, config };
    assert_eq!(plan.parse, Some(stage("csv", json!({}))));
    assert_eq!(plan.classify, Some(stage("logistic", json!({}))));
    assert_eq!(
        plan.output,
        Output {
            topic: "iris.predictions".into(),
            stamp: Stamp::Value,
            timestamp: Timestamp::Input,
            partition: Partition::Input,
            min_confidence: 0.0
        }
    );
    assert_eq!(plan.errors.dead_letters, "iris.dead-letters");
    assert_eq!(
        plan.feedback,
        Some(Feedback {
            labels: "iris.labels".into(),
            id: RecordId::Key,
            class: None,
            scores: "iris.scores".into(),
            group: "sandpiper.iris.feedback".into(),
            wait: Duration::from_secs(86_400),
            max_entries: 1_000_000,
            max_bytes: 256 << 20,
            score: stage("loss", json!({"metric": "error"})),
        })
    );
    assert_eq!(
        plan.delivery,
        Delivery {
            guarantee: Guarantee::ExactlyOnce,
            commit_interval: Duration::from_millis(100),
            max_records: 50_000,
            max_bytes: 16 << 20,
            budget: Duration::from_secs(3),
            transaction_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(30),
        }
    );
    assert_eq!(
        plan.limits,
        Limits {
            workers: 1,
            plugin_memory: 64 << 20,
            deadline: Duration::from_millis(500),
            batch_records: 1024,
            batch_bytes: 4 << 20,
            fetch_queue: 4 << 20,
            producer_queue: 16 << 20,
            worker_memory: 512 << 20,
        }
    );
}

#[test]
fn a_file_of_transforms_alone_is_stamped_in_a_header() {
    let plan = valid(MASK);
    assert_eq!(plan.output.stamp, Stamp::Header);
    assert_eq!((plan.parse, plan.classify, plan.feedback), (None, None, None));
    assert_eq!(plan.input.id, RecordId::Position);
}

#[test]
fn every_key_of_a_full_file_arrives() {
    let plan = valid(
        r#"
name = "full"
[kafka]
bootstrap.servers = "a:1,b:2"
[input]
topics = ["in.a", "in.b"]
group = "my group"
id = "json:/order/id"
start = "latest"
tombstones = "pass"
[[transform]]
plugin = "filter"
config = { keep = true, nested = { list = [1, 2.5, "x"] } }
outputs = { large = "out.large" }
[[transform]]
plugin = "filter"
[parse]
plugin = "json"
[classify]
plugin = "logistic"
[output]
topic = "out"
stamp = "value"
timestamp = "now"
partition = "key"
min_confidence = 0.75
[errors]
dead_letters = "dead"
rejected = "drop"
failed = "stop"
pause_above = 0.5
[feedback]
labels = "labels"
id = "header:record-id"
class = "json:/class"
scores = "scores"
group = "my labels"
wait = "7d"
max_entries = 10
max_bytes = "8MiB"
score = { plugin = "loss", config = { metric = "brier" } }
[delivery]
guarantee = "at-least-once"
commit_interval = "5ms"
max_records = 1
max_bytes = 4096
budget = "1s"
transaction_timeout = "2s"
max_poll_interval = "10m"
[limits]
workers = 256
plugin_memory = "32MiB"
deadline = "10ms"
batch_records = 7
batch_bytes = "64KiB"
fetch_queue = "1MiB"
producer_queue = "2MiB"
worker_memory = "1GiB"
"#,
    );
    assert_eq!(plan.input.topics, ["in.a", "in.b"]);
    assert_eq!(plan.input.group, "my group");
    assert_eq!(plan.input.id, RecordId::Json(Pointer::new("/order/id").unwrap()));
    assert_eq!((plan.input.start, plan.input.tombstones), (Start::Latest, Tombstones::Pass));
    assert_eq!(plan.transforms.len(), 2);
    let first = plan.transforms.first().unwrap();
    assert_eq!(first.stage.config, json!({"keep": true, "nested": {"list": [1, 2.5, "x"]}}));
    assert_eq!(first.outputs, [("large".to_owned(), "out.large".to_owned())].into());
    assert_eq!((plan.output.timestamp, plan.output.partition), (Timestamp::Now, Partition::Key));
    assert_eq!(plan.output.min_confidence, 0.75);
    let errors = Errors { dead_letters: "dead".into(), rejected: Policy::Drop, failed: Policy::Stop, pause_above: 0.5 };
    assert_eq!(plan.errors, errors);
    let feedback = plan.feedback.unwrap();
    assert_eq!(feedback.id, RecordId::Header("record-id".into()));
    assert_eq!(feedback.class, Some(Pointer::new("/class").unwrap()));
    assert_eq!((feedback.scores.as_str(), feedback.group.as_str()), ("scores", "my labels"));
    assert_eq!((feedback.wait, feedback.max_entries, feedback.max_bytes), (Duration::from_secs(604_800), 10, 8 << 20));
    assert_eq!(feedback.score.config, json!({"metric": "brier"}));
    assert_eq!(plan.delivery.guarantee, Guarantee::AtLeastOnce);
    assert_eq!((plan.delivery.max_records, plan.delivery.max_bytes), (1, 4096));
    assert_eq!((plan.limits.workers, plan.limits.batch_records, plan.limits.batch_bytes), (256, 7, 64 << 10));
    assert_eq!(plan.limits.worker_memory, 1 << 30);
}

#[test]
fn every_mistake_is_reported_at_once_in_the_files_order() {
    let text = r#"nme = "iris"
name = "i ris"
[kafka]
group.id = "mine"
[input]
topics = []
id = "keyy"
[parse]
plugin = "cvs"
[output]
topic = "a/b"
colour = 1
[limits]
workers = 0
[delivery]
budget = "1 hour"
"#;
    let found = mistakes_in(text);
    let places: Vec<&str> = found.iter().filter_map(|line| line.split(": ").next()).collect();
    let expect = ["1:1", "2:8", "3:1", "4:12", "6:10", "7:6", "8:1", "9:10", "11:9", "12:1", "14:11", "16:10"];
    assert_eq!(places, expect, "{found:#?}");
}

#[test]
fn a_mistake_is_one_line_with_file_line_column_and_key_and_is_json_too() {
    let mistakes = read(&IRIS.replace("id = \"key\"", "id = \"kee\"")).unwrap_err();
    let mistake = mistakes.first().unwrap();
    assert_eq!(
        mistake.to_string(),
        "pipelines/iris.toml:6:6: [input] id: \"kee\" is not allowed: \"key\", \"header:NAME\", \"json:/pointer\" or \"position\""
    );
    let shown = serde_json::to_value(mistake).unwrap();
    assert_eq!(shown.get("line"), Some(&json!(6)));
    assert_eq!(shown.get("file"), Some(&json!("pipelines/iris.toml")));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let mistakes = load(&path, &STOCK).unwrap_err();
    assert!(mistakes.first().unwrap().message.contains("cannot be read"), "{mistakes:?}");
    std::fs::write(&path, IRIS).unwrap();
    assert_eq!(load(&path, &STOCK).unwrap().name, "iris");
}

#[test]
fn the_examples_in_the_documentation_are_valid() {
    let page = include_str!("../../../../docs/configuration.md");
    let examples: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let whole: Vec<&&str> = examples.iter().filter(|example| example.starts_with("name")).collect();
    assert_eq!(whole.len(), 2);
    for example in whole {
        valid(example);
    }
}
