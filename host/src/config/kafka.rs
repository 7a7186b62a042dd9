//! `[kafka]` of a pipeline and `[control.kafka]` of a daemon: librdkafka's own properties, passed on as they are, except for
//! those that Sandpiper sets itself.
//!
//! A dotted key is a nested table in TOML: here it becomes one name again. A message never shows what a `${…}` stands for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use toml::de::DeValue;

use crate::config::plan::{Guarantee, Properties};

use super::delivery;
use super::section::Section;
use super::spelling;
use super::value::{self, Setting, Value, kind};

/// Properties by their dotted names: value, and where it stands.
type Flattened = BTreeMap<String, (String, Range<usize>)>;

/// Stands for a value that is a mistake already.
const UNREAD: &str = "?";
const NATIVE_CODE: &str = "it loads native code into the daemon";

/// Properties that name a file; relative to the daemon's working directory, as librdkafka reads them.
const FILES: &[&str] =
    &["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];

/// Names, and why they cannot be set.
type Refusals = &'static [(&'static [&'static str], &'static str)];

/// What Sandpiper sets itself, and what of a pipeline's file says how.
#[rustfmt::skip]
const OURS: Refusals = &[
    (&["group.id"], "every loop has its own group: set [input] group and [feedback] group"),
    (&["group.instance.id"], "each worker is a member of its own, and one id for all would fence them: leave it out"),
    (&["group.protocol.type", "group.remote.assignor", "partition.assignment.strategy"],
        "the assignor is chosen for each loop: cooperative-sticky for the main loop, range for feedback, which co-partitions"),
    (&["transactional.id"], "it is made of pipeline, loop, instance and slot, so that exactly the predecessor is fenced"),
    (&["transaction.timeout.ms"], "set [delivery] transaction_timeout"),
    (&["max.poll.interval.ms"], "set [delivery] max_poll_interval"),
    (&["enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms", "enable.auto.offset.store",
       "offset.store.method", "offset.store.path", "offset.store.sync.interval.ms"],
        "offsets are committed with the outputs that they stand for: set [delivery] commit_interval"),
    (&["isolation.level"], "input is always read committed: what was aborted was never written"),
    (&["auto.offset.reset"], "set [input] start"),
    (&["enable.partition.eof"], "the ends of partitions are not read as events"),
    (&["enable.idempotence", "enable.gapless.guarantee", "acks", "request.required.acks", "retries",
       "message.send.max.retries", "max.in.flight", "max.in.flight.requests.per.connection", "queuing.strategy"],
        "delivery needs an idempotent producer that waits for all replicas: set [delivery] guarantee"),
    (&["delivery.report.only.error", "produce.offset.report", "enabled_events"], "the producer's reports are read by Sandpiper itself"),
    (&["partitioner", "msg_order_cmp", "sticky.partitioning.linger.ms"], "set [output] partition: \"input\", or \"key\" (murmur2, as Java's clients do)"),
    (&["queued.max.messages.kbytes"], "it is part of a worker's memory: set [limits] fetch_queue"),
    (&["queued.min.messages"], "set [limits] fetch_records"),
    (&["queue.buffering.max.kbytes"], "it is part of a worker's memory: set [limits] producer_queue"),
    (&["queue.buffering.max.messages"], "the producer's queue is limited by bytes: set [limits] producer_queue"),
    (&["allow.auto.create.topics", "auto.create.topics.enable"],
        "topics are never created silently: `sandpiper check --connect` prints the commands that create them"),
    (&["topic.blacklist"], "name the topics to read under [input] topics"),
    (&["max.poll.records"], "it is a name of Java's client: set [limits] batch_records"),
];

/// What nobody sets, whoever the client is.
#[rustfmt::skip]
const REFUSED: Refusals = &[
    (&["metadata.broker.list"], "write bootstrap.servers, its other name"),
    (&["interceptors", "ssl.engine.location", "ssl.engine.id", "ssl_engine_callback_data"],
        NATIVE_CODE),
    (&["opaque", "default_topic_conf", "internal.termination.signal", "log.queue", "builtin.features", "consume.callback.max.messages"],
        "it belongs to the program that calls librdkafka, not to its configuration"),
    (&["ssl_key", "ssl_certificate", "ssl_ca"], "it takes a value in memory: write ssl.key.pem, ssl.certificate.pem or ssl.ca.pem"),
    (&["test.mock.num.brokers", "test.mock.broker.rtt"], "librdkafka's mock broker keeps no data: `sandpiper demo` has one for looking"),
    // Names of Java's client, which people paste.
    (&["sasl.jaas.config"], "it is a name of Java's client: write sasl.username and sasl.password"),
    (&["ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type"], "it is a name of Java's client: write ssl.ca.location, a PEM file"),
    (&["key.serializer", "value.serializer", "key.deserializer", "value.deserializer"], "records are bytes here: a plugin reads them"),
    (&["auto.register.schemas", "schema.registry.url"], "records are bytes here: a plugin reads them"),
];

/// Whose client the properties are for.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    Pipeline,
    /// It has no pipeline's sections that a reason could lead to.
    Control,
}

pub(super) fn read(section: &Section<'_>, delivery: Option<&delivery::DeliverySettings>) -> Properties {
    let found = found(section, Client::Pipeline);
    if let Some(delivery) = delivery {
        check_times(section, &found, delivery);
    }
    properties(found)
}

/// As `read`, for a client that belongs to no pipeline.
pub(super) fn read_for_control(section: &Section<'_>) -> Properties {
    properties(found(section, Client::Control))
}

/// What is given, every mistake in it noted.
fn found(section: &Section<'_>, client: Client) -> Flattened {
    let mut found = Flattened::new();
    for (name, value) in section.entries() {
        flatten(section, name.get_ref(), value, &mut found);
    }
    for (name, (value, at)) in &found {
        if let Some(reason) = refusal(name, value, client) {
            section.file.mistake(at, section.key(name), format!("cannot be set here: {reason}"));
        } else if value != UNREAD
            && let Some(why) = invalid(name, value)
        {
            section.file.mistake(at, section.key(name), why);
        }
    }
    check_servers(section, &found);
    found
}

fn properties(found: Flattened) -> Properties {
    Properties(found.into_iter().map(|(name, (value, _))| (name, value)).collect())
}

fn flatten(section: &Section<'_>, name: &str, value: &Value<'_>, found: &mut Flattened) {
    let at = value.span();
    let text = match value.get_ref() {
        DeValue::Table(table) => {
            for (part, value) in table.iter() {
                flatten(section, &format!("{name}.{}", part.get_ref()), value, found);
            }
            return;
        }
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) => {
            let read = value::number(section.file, value, &section.key(name), |text| Ok(text.to_owned()));
            read.valid().map(|text| text.value)
        }
        DeValue::Array(_) | DeValue::Datetime(_) => {
            let message = format!(
                "found {}: expected a string, a number or a boolean; librdkafka's lists are one string, as \"a:9092,b:9092\"",
                kind(value)
            );
            section.file.mistake(&at, section.key(name), message);
            None
        }
    };
    // A value that is wrong still counts as given: otherwise it would be reported as missing too.
    let text = text.unwrap_or_else(|| UNREAD.to_owned());
    if found.insert(name.to_owned(), (text, at.clone())).is_some() {
        section.file.mistake(&at, section.key(name), "is given twice: as a dotted key and as one in quotes");
    }
}

fn refusal(name: &str, value: &str, client: Client) -> Option<&'static str> {
    if name == "group.protocol" {
        let reason =
            "librdkafka before 2.15 does not do transactions safely under the protocol \"consumer\": only \"classic\"";
        return (!value.eq_ignore_ascii_case("classic")).then_some(reason);
    }
    if name.ends_with("_cb") {
        return Some("a callback belongs to the program that calls librdkafka, not to its configuration");
    }
    if name.starts_with("plugin.") {
        return Some(NATIVE_CODE);
    }
    let reason =
        |refusals: Refusals| refusals.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason);
    match (reason(OURS), client) {
        (Some(_), Client::Control) => {
            Some("Sandpiper sets it itself where it reads and writes control topics: leave it out")
        }
        (Some(reason), Client::Pipeline) => Some(reason),
        (None, _) => reason(REFUSED),
    }
}

/// What librdkafka has against a property by itself. Its message is ours without the value, which may be a secret's.
fn invalid(name: &str, value: &str) -> Option<String> {
    match ClientConfig::new().set(name, value).create_native_config() {
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Some("librdkafka has no property of this name: look it up in its CONFIGURATION.md".to_owned())
        }
        Err(KafkaError::ClientConfig(_, why, ..)) => {
            Some(format!("librdkafka refuses it: {}", why.replace(&format!(" {value:?}"), "").replace(value, "…")))
        }
        Err(error) => Some(format!("librdkafka refuses it: {error}")),
        Ok(_) if FILES.contains(&name) && value != "probe" => {
            let error = std::fs::metadata(value).err()?;
            Some(format!("names a file that cannot be read: {error}"))
        }
        Ok(_) => None,
    }
}

fn check_servers(section: &Section<'_>, found: &Flattened) {
    const KEY: &str = "bootstrap.servers";
    if let Some((servers, at)) = found.get(KEY) {
        if servers.split(',').any(|server| server.trim().is_empty()) {
            section.file.mistake(
                at,
                section.key(KEY),
                "names no broker: write \"host:9092\", or several with commas between",
            );
        }
        return;
    }
    if found.contains_key("metadata.broker.list") {
        return;
    }
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let hint = spelling::nearest(KEY, &names).map_or_else(String::new, |near| format!(" ({near} is no property)"));
    section.file.absent(
        &section.at,
        section.key(KEY),
        format!("missing{hint}: write bootstrap.servers = \"127.0.0.1:9092\""),
    );
}

/// librdkafka checks these when a client is created, and names only its own property: here both names are reported.
fn check_times(section: &Section<'_>, found: &Flattened, delivery: &delivery::DeliverySettings) {
    let transactional = delivery.guarantee.as_ref().is_some_and(|written| written.value == Guarantee::ExactlyOnce);
    let limit = |key: &'static str, limit: &Option<Setting<Duration>>, limit_key: &str| {
        let (Some((value, at)), Some(limit)) = (found.get(key), limit) else {
            return;
        };
        let Some(millis) = value.parse().ok().map(Duration::from_millis) else {
            return;
        };
        if millis > limit.value {
            let given = section.file.shown(at);
            let message =
                format!("is {given} (ms) and must be at most [delivery] {limit_key}, which is {}", limit.shown);
            section.file.mistake(at, section.key(key), message);
        }
    };
    limit("session.timeout.ms", &delivery.max_poll_interval, "max_poll_interval");
    if transactional {
        for key in ["socket.timeout.ms", "message.timeout.ms", "delivery.timeout.ms"] {
            limit(key, &delivery.transaction_timeout, "transaction_timeout");
        }
    }
}
