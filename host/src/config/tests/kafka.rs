use super::*;

#[test]
fn dotted_and_quoted_keys_become_librdkafkas_names_again() {
    let lines = "\"client.id\" = 'x'\nsocket.keepalive.enable = true\nlinger.ms = 5\nretry.backoff.ms = 1\nretry.backoff.max.ms = 2\ncompression.type = \"lz4\"";
    let plan = valid(&iris_with_line("[kafka]", lines));
    let names: Vec<(&str, &str)> = plan.kafka.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expect = [
        ("bootstrap.servers", "127.0.0.1:9092"),
        ("client.id", "x"),
        ("compression.type", "lz4"),
        ("linger.ms", "5"),
        ("retry.backoff.max.ms", "2"),
        ("retry.backoff.ms", "1"),
        ("socket.keepalive.enable", "true"),
    ];
    assert_eq!(names, expect);
}

#[test]
fn a_key_that_is_given_dotted_and_quoted_is_a_mistake() {
    only_mistake(
        &iris_with_line("[kafka]", "sasl.username = \"a\"\n\"sasl.username\" = \"b\""),
        "",
        &["[kafka] sasl.username: is given twice"],
    );
}

#[test]
fn the_brokers_must_be_given() {
    let none = IRIS.replace("bootstrap.servers = \"127.0.0.1:9092\"\n", "");
    only_mistake(&none, "2:1: [kafka] bootstrap.servers: missing: ", &[]);
    only_mistake(&none.replace("[kafka]\n", ""), "1:1: [kafka] bootstrap.servers: missing: ", &[]);
    let misspelt = mistakes_in(&IRIS.replace("bootstrap.servers", "bootstrap.server"));
    assert!(misspelt.iter().any(|mistake| mistake.contains("(bootstrap.server is no property)")), "{misspelt:?}");
    only_mistake(&IRIS.replace("127.0.0.1:9092", "a:1,,b:2"), "3:21", &["names no broker"]);
    only_mistake(&IRIS.replace("\"127.0.0.1:9092\"", "[\"a:1\"]"), "3:21", &["found an array", "one string"]);
}

#[test]
fn what_delivery_sets_is_refused_with_the_key_to_use_instead() {
    for (line, instead) in [
        ("group.id = \"a\"", "[input] group"),
        ("group.instance.id = \"a\"", "leave it out"),
        ("transactional.id = \"a\"", "slot"),
        ("enable.auto.commit = false", "[delivery] commit_interval"),
        ("enable.auto.offset.store = false", "[delivery] commit_interval"),
        ("enable.idempotence = true", "[delivery] guarantee"),
        ("acks = \"all\"", "[delivery] guarantee"),
        ("retries = 3", "[delivery] guarantee"),
        ("max.in.flight = 1", "[delivery] guarantee"),
        ("max.in.flight.requests.per.connection = 1", "[delivery] guarantee"),
        ("isolation.level = \"read_uncommitted\"", "read committed"),
        ("auto.offset.reset = \"latest\"", "[input] start"),
        ("transaction.timeout.ms = 1", "[delivery] transaction_timeout"),
        ("max.poll.interval.ms = 1", "[delivery] max_poll_interval"),
        ("partition.assignment.strategy = \"range\"", "cooperative-sticky"),
        ("group.protocol = \"consumer\"", "2.15"),
        ("enable.partition.eof = true", "not read"),
        ("delivery.report.only.error = false", "Sandpiper itself"),
        ("partitioner = \"random\"", "[output] partition"),
        ("queued.max.messages.kbytes = 1", "[limits] fetch_queue"),
        ("queued.min.messages = 1", "[limits] fetch_queue"),
        ("queue.buffering.max.kbytes = 1", "[limits] producer_queue"),
        ("queue.buffering.max.messages = 1", "[limits] producer_queue"),
        ("allow.auto.create.topics = true", "check --connect"),
        ("plugin.paths = \"x\"", "native code"),
        ("oauthbearer_token_refresh_cb = \"x\"", "callback"),
        ("max.poll.records = 5", "[limits] batch_records"),
    ] {
        let key = line.split(' ').next().unwrap();
        only_mistake(
            &iris_with_line("[kafka]", line),
            "3:",
            &[&format!("[kafka] {key}: cannot be set here: "), instead],
        );
    }
    valid(&iris_with_line("[kafka]", "group.protocol = \"classic\""));
}

#[test]
fn a_session_is_not_longer_than_the_poll_interval() {
    valid(&iris_with_line("[kafka]", "session.timeout.ms = 30000"));
    only_mistake(
        &iris_with_line("[kafka]", "session.timeout.ms = 30001"),
        "3:22: [kafka] session.timeout.ms",
        &["30001", "max_poll_interval, which is 30s (default)"],
    );
}

#[test]
fn a_message_or_a_request_does_not_outlive_its_transaction() {
    for key in ["message.timeout.ms", "delivery.timeout.ms", "socket.timeout.ms"] {
        valid(&iris_with_line("[kafka]", &format!("{key} = 10000")));
        let text = iris_with_line("[kafka]", &format!("{key} = 10001"));
        only_mistake(&text, "3:", &[key, "transaction_timeout, which is 10s (default)"]);
        valid(&format!("{text}[delivery]\nguarantee = \"at-least-once\"\n"));
    }
}

#[test]
fn a_secret_is_filled_in_and_never_shown() {
    let plan = valid(&iris_with_line("[kafka]", "sasl.password = \"${PASSWORD}\"\nsasl.username = \"$${PASSWORD}\""));
    assert_eq!(plan.kafka.0.get("sasl.password").map(String::as_str), Some("hunter2"));
    assert_eq!(plan.kafka.0.get("sasl.username").map(String::as_str), Some("${PASSWORD}"));
    assert!(!format!("{plan:?}").contains("hunter2"));

    only_mistake(
        &iris_with_line("[kafka]", "sasl.password = \"${PASWORD}\""),
        "3:17: [kafka] sasl.password: the environment variable PASWORD is not set",
        &[],
    );
    only_mistake(
        &iris_with_line("[kafka]", "sasl.password = \"${file:gone}\""),
        "3:17: [kafka] sasl.password: the secret's file pipelines/gone",
        &[],
    );

    // In every place where a string can stand, wrongly.
    let text = r#"name = "${PASSWORD} "
delivery = "${PASSWORD}"
[kafka]
bootstrap.servers = "${PASSWORD},"
session.timeout.ms = "99999999${WORKERS}"
group.protocol = "${PASSWORD}"
partitioner = "${PASSWORD}"
sasl = ["${PASSWORD}"]
[input]
topics = ["${PASSWORD}!", "${PASSWORD}!"]
group = " ${PASSWORD}"
id = "${PASSWORD}"
start = "${PASSWORD}"
[parse]
plugin = "${PASSWORD}"
config = { a = "${PASSWORD}", b = "${file:x}" }
[classify]
plugin = "./${PASSWORD}.wasm"
model = "${PASSWORD}"
[output]
topic = "${PASSWORD}/"
min_confidence = "${PASSWORD}"
[feedback]
labels = "^${PASSWORD}"
class = "${PASSWORD}"
wait = "${PASSWORD}"
[limits]
workers = "${PASSWORD}"
fetch_queue = "${PASSWORD}"
"#;
    let found = mistakes_in(text);
    assert!(found.len() >= 20, "{found:#?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:#?}");
    assert!(!format!("{found:?}").contains("999999994"), "{found:#?}");
}

#[test]
fn a_number_may_come_from_the_environment() {
    assert_eq!(valid(&format!("{IRIS}[limits]\nworkers = \"${{WORKERS}}\"\n")).limits.workers, 4);
}

#[test]
fn a_property_that_librdkafka_does_not_take_is_named_without_a_broker() {
    for (line, at, why) in [
        ("foo.bar = 1", "3:11: [kafka] foo.bar: ", "no property of this name"),
        ("sessoin.timeout.ms = 1", "3:22: [kafka] sessoin.timeout.ms: ", "no property of this name"),
        ("session.timeout.ms = \"abc\"", "3:22: [kafka] session.timeout.ms: ", "Invalid value"),
        ("session.timeout.ms = -5", "3:22: [kafka] session.timeout.ms: ", "range"),
        ("security.protocol = \"tls\"", "3:21: [kafka] security.protocol: ", "Invalid value"),
        ("socket.keepalive.enable = \"perhaps\"", "3:27: [kafka] socket.keepalive.enable: ", "true or false"),
    ] {
        only_mistake(&iris_with_line("[kafka]", line), at, &[why]);
    }
    only_mistake(
        &iris_with_line("[kafka]", "ssl.ca.location = \"/nowhere/ca.pem\""),
        "3:19: [kafka] ssl.ca.location: ",
        &["cannot be read: No such file"],
    );
    // Of the producer, and of a topic.
    valid(&iris_with_line("[kafka]", "batch.num.messages = 10\ncompression.level = 3"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let text = iris_with_line("[kafka]", "session.timeout.ms = \"${PASSWORD}\"");
    let found = mistakes_in(&text);
    assert!(found.len() == 1 && !found[0].contains("hunter2"), "{found:?}");
}
