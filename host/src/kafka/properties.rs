//! What our clients are given: the user's properties as pasted, and behind them those that delivery needs.

use std::time::Duration;

use super::raw::{Client, Kind};
use crate::config::daemon::Control;
use crate::config::plan::{Guarantee, Plan, Properties};
use crate::stream::failpoint::{AUTO_COMMIT_PROPERTIES, planted_mistake};
use crate::stream::fault::Fault;

/// librdkafka's own default, which must not exceed `max.poll.interval.ms`.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// A broker that keeps its connections and answers nothing is left after that long, as producers leave it within a
/// transaction's time; librdkafka's own default is a minute.
const SILENCE: Duration = Duration::from_secs(10);

/// How partitions are shared out in a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Assignor {
    /// Moves as little as possible and stops nobody: for the main loop.
    CooperativeSticky,
    /// Gives one member the same partition numbers of every topic: for joins.
    Range,
}

/// What decides a loop's clients, beside the properties that the user gives.
pub struct ClientSettings<'a> {
    kafka: &'a Properties,
    max_poll_interval: Duration,
    /// Bytes and records of the consumer's queue, and bytes of the producer's.
    fetch_queue: usize,
    fetch_records: usize,
    producer_queue: usize,
    /// `None` without transactions.
    transaction_timeout: Option<Duration>,
}

impl<'a> From<&'a Plan> for ClientSettings<'a> {
    fn from(plan: &'a Plan) -> Self {
        let exactly_once = plan.delivery.guarantee == Guarantee::ExactlyOnce;
        Self {
            kafka: &plan.kafka,
            max_poll_interval: plan.delivery.max_poll_interval,
            fetch_queue: plan.limits.fetch_queue,
            fetch_records: plan.limits.fetch_records,
            producer_queue: plan.limits.producer_queue,
            transaction_timeout: exactly_once.then_some(plan.delivery.transaction_timeout),
        }
    }
}

impl<'a> From<&'a Control> for ClientSettings<'a> {
    fn from(control: &'a Control) -> Self {
        Self {
            kafka: &control.kafka,
            max_poll_interval: Duration::from_secs(60),
            fetch_queue: 4 << 20,
            fetch_records: 1_000,
            producer_queue: 32 << 20,
            transaction_timeout: Some(Duration::from_secs(30)),
        }
    }
}

pub fn consumer<'a>(settings: impl Into<ClientSettings<'a>>, group: &str, assignor: Assignor) -> Properties {
    let settings = settings.into();
    let mut properties = common(settings.kafka);
    let poll = settings.max_poll_interval;
    let mut set = |name: &str, value: String| drop(properties.0.insert(name.to_owned(), value));
    set("group.id", group.to_owned());
    set("enable.auto.commit", "false".into());
    set("enable.auto.offset.store", "false".into());
    set("enable.partition.eof", "false".into());
    // A position that is gone is an event of the loop's, not a silent jump.
    set("auto.offset.reset", "error".into());
    set("isolation.level", "read_committed".into());
    set(
        "partition.assignment.strategy",
        match assignor {
            Assignor::CooperativeSticky => "cooperative-sticky".into(),
            Assignor::Range => "range".into(),
        },
    );
    set("max.poll.interval.ms", poll.as_millis().to_string());
    set("queued.max.messages.kbytes", (settings.fetch_queue / 1024).max(1).to_string());
    set("queued.min.messages", settings.fetch_records.to_string());
    // The queue's limits are looked at before a fetch: what one may bring comes on top of them.
    let record = properties.0.get("message.max.bytes").and_then(|size| size.parse().ok()).unwrap_or(1_000_000);
    let fetch = (settings.fetch_queue / 4).max(record);
    properties.0.entry("fetch.max.bytes".into()).or_insert_with(|| fetch.to_string());
    planted_mistake!(
        AUTO_COMMIT,
        properties.0.extend(AUTO_COMMIT_PROPERTIES.map(|(name, value)| (name.into(), value.into())))
    );
    // The queue is small and drains within milliseconds: fetching on must not wait librdkafka's whole second.
    properties.0.entry("fetch.queue.backoff.ms".into()).or_insert_with(|| "5".into());
    properties.0.entry("socket.timeout.ms".into()).or_insert_with(|| SILENCE.as_millis().to_string());
    properties
        .0
        .entry("session.timeout.ms".into())
        .or_insert_with(|| SESSION_TIMEOUT.min(poll).as_millis().to_string());
    properties
}

pub fn producer<'a>(settings: impl Into<ClientSettings<'a>>) -> Properties {
    let settings = settings.into();
    let mut properties = common(settings.kafka);
    // A commit flushes whatever lingers, so this delays nothing. Small requests would: five of a partition are under way
    // at most, and behind them librdkafka spins.
    unless_given(&mut properties, ["linger.ms", "queue.buffering.max.ms"], "50");
    // Predictions repeat their names: compressed, they cost client and broker less than as they are (docs/benchmarks.md).
    unless_given(&mut properties, ["compression.type", "compression.codec"], "lz4");
    let mut set = |name: &str, value: String| drop(properties.0.insert(name.to_owned(), value));
    set("enable.idempotence", "true".into());
    // Deliveries that succeed are counted by flush; only failures are told one by one.
    set("delivery.report.only.error", "true".into());
    set("queue.buffering.max.kbytes", (settings.producer_queue / 1024).max(1).to_string());
    set("queue.buffering.max.messages", "0".into());
    if let Some(timeout) = settings.transaction_timeout {
        set("transaction.timeout.ms", timeout.as_millis().to_string());
    }
    properties
}

/// Sets a property that has two names, unless the user did by either.
fn unless_given(properties: &mut Properties, [name, other]: [&str; 2], value: &str) {
    if !properties.0.contains_key(other) {
        properties.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
}

fn common(properties: &Properties) -> Properties {
    let mut properties = properties.clone();
    let mut default = |name: &str, value: &str| {
        properties.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    default("client.id", "sandpiper");
    // The broker may need a while to come back; the client need not ask every 100 ms for ever.
    default("reconnect.backoff.max.ms", "2000");
    properties.0.insert("allow.auto.create.topics".into(), "false".into());
    properties
}

/// Whether librdkafka makes clients of a pipeline's properties: they may not fit each other, or name a file that is not
/// there. No broker is needed.
///
/// # Errors
/// What it has against them.
pub fn check(plan: &Plan) -> Result<(), Fault> {
    Client::new(Kind::Consumer, &consumer(plan, &plan.input.group, Assignor::CooperativeSticky), 0)?;
    Client::new(Kind::Producer, &producer(plan), 0).map(drop)
}

/// As `check`, of properties that belong to no pipeline.
///
/// # Errors
/// What librdkafka has against them.
pub fn check_alone(properties: &Properties) -> Result<(), Fault> {
    Client::new(Kind::Producer, &common(properties), 0).map(drop)
}

/// For a client that only asks the cluster.
pub fn client(plan: &Plan) -> Properties {
    common(&plan.kafka)
}

/// For a client that only asks the cluster of the control topics.
pub fn of_control(control: &Control) -> Properties {
    common(&control.kafka)
}

/// For the loop that decides. When its daemon is gone another is to decide soon, and nothing waits for a slow member: what it does
/// takes milliseconds.
pub fn decider(control: &Control, group: &str) -> Properties {
    let mut properties = consumer(control, group, Assignor::CooperativeSticky);
    for (name, value) in [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")] {
        if !control.kafka.0.contains_key(name) {
            properties.0.insert(name.into(), value.into());
        }
    }
    properties
}

/// For a producer of commands: each is written at once, or is given up after a while.
pub fn commands(control: &Control) -> Properties {
    let mut properties = common(&control.kafka);
    for (name, value) in [("enable.idempotence", "true"), ("message.timeout.ms", "30000"), ("linger.ms", "0")] {
        properties.0.insert(name.into(), value.into());
    }
    properties
}

/// For a producer of artifacts, each a transaction of its own.
pub fn artifacts(control: &Control, id: &str) -> Properties {
    let mut properties = common(&control.kafka);
    for (name, value) in [("transactional.id", id), ("transaction.timeout.ms", "60000"), ("linger.ms", "0")] {
        properties.0.insert(name.into(), value.into());
    }
    properties
}

/// For a `Reader`. It joins no group, and librdkafka wants a name for one all the same: each has its own, named by its
/// purpose.
pub fn reader<'a>(settings: impl Into<ClientSettings<'a>>, purpose: &str) -> Properties {
    let mut properties = common(settings.into().kafka);
    properties.0.insert("group.id".into(), format!("sandpiper.{purpose}.{}", uuid::Uuid::new_v4()));
    properties.0.entry("socket.timeout.ms".into()).or_insert_with(|| SILENCE.as_millis().to_string());
    properties
}
