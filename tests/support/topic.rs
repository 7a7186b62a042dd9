//! Topics as seen by plain Kafka clients: written, read to their end, committed by a group.

use super::record::{Content, Record};
use super::{PATIENCE, until_true};
use anyhow::{Context, Result, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Time for one call to a broker.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a broker may leave a transaction open: `transaction_timeout`, 10 s by default, the second after which the
/// coordinator checks for it, and the time that markers take.
const MAX_OPEN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Isolation {
    Committed,
    Uncommitted,
}

/// Keeps the first delivery that failed.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Option<KafkaError>>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            first.get_or_insert_with(|| error.clone());
        }
    }
}

/// An idempotent producer that partitions as Java's does.
pub struct Producer {
    producer: BaseProducer<Failures>,
    failures: Failures,
}

impl Producer {
    pub fn new(bootstrap: &str) -> Result<Producer> {
        let failures = Failures::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "1000000")
            .set("partitioner", "murmur2_random")
            .set("reconnect.backoff.max.ms", "200")
            // A test stops brokers: a request to one that is gone must not hold the producer for long.
            .set("socket.timeout.ms", "5000")
            .create_with_context(failures.clone())?;
        Ok(Producer { producer, failures })
    }

    /// Queues one record, waiting while the queue is full.
    pub fn send(&self, topic: &str, record: &Record) -> Result<()> {
        let content = &record.content;
        let mut out: BaseRecord<[u8], [u8]> = BaseRecord::to(topic);
        out.key = content.key.as_deref();
        out.payload = content.value.as_deref();
        out.partition = record.partition;
        out.timestamp = record.timestamp;
        if !content.headers.is_empty() {
            let empty = OwnedHeaders::new_with_capacity(content.headers.len());
            out.headers = Some(content.headers.iter().fold(empty, |headers, (key, value)| {
                headers.insert(rdkafka::message::Header { key, value: value.as_deref() })
            }));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.producer.send(out) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    out = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => bail!("cannot write to {topic}: {error}"),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until everything is written; an error when something was not.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(PATIENCE)?;
        let first = self.failures.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        first.map_or(Ok(()), |error| bail!("a record was not written: {error}"))
    }
}

/// Writes records and waits until they are there.
pub fn write<'a>(bootstrap: &str, topic: &str, records: impl IntoIterator<Item = &'a Record>) -> Result<()> {
    let producer = Producer::new(bootstrap)?;
    records.into_iter().try_for_each(|record| producer.send(topic, record))?;
    producer.flush()
}

fn consumer(bootstrap: &str, group: &str, isolation: Isolation) -> Result<BaseConsumer> {
    let isolation = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .set("reconnect.backoff.max.ms", "200");
    config.create().context("no consumer")
}

/// Repeats a call until it succeeds: a broker that has just started refuses some for a moment.
fn retry<T>(what: &str, mut call: impl FnMut() -> KafkaResult<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => bail!("{what}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = retry("no metadata", || consumer.fetch_metadata(Some(topic), CALL_TIMEOUT))?;
    let found = metadata.topics().iter().find(|each| each.name() == topic && each.error().is_none());
    let partitions = found.with_context(|| format!("there is no topic {topic}"))?.partitions().len();
    Ok(i32::try_from(partitions)?)
}

fn ends_of(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i64>> {
    let end = |partition| retry("no end of a partition", || consumer.fetch_watermarks(topic, partition, CALL_TIMEOUT));
    (0..partitions(consumer, topic)?).map(|partition| Ok(end(partition)?.1)).collect()
}

/// The offset behind the last record of each partition, open and aborted transactions included.
pub fn ends(bootstrap: &str, topic: &str) -> Result<Vec<i64>> {
    ends_of(&consumer(bootstrap, "none", Isolation::Uncommitted)?, topic)
}

/// Everything up to the present end, ordered by partition and offset.
///
/// By position, never by count: transactions leave gaps. As read_committed it first waits out the
/// transactions that are open below that end.
pub fn read(bootstrap: &str, topic: &str, isolation: Isolation) -> Result<Vec<Record>> {
    let ends = ends(bootstrap, topic)?;
    let consumer = consumer(bootstrap, "none", isolation)?;
    until_true(&format!("transactions on {topic} are closed"), || {
        Ok(ends_of(&consumer, topic)?.iter().zip(&ends).all(|(stable, end)| stable >= end))
    })?;
    read_stable(bootstrap, topic, isolation)
}

/// Partitions whose last stable offset stays below their end for longer than a broker leaves a transaction open.
pub fn open_transactions(bootstrap: &str, topic: &str) -> Result<Vec<String>> {
    let ends = ends(bootstrap, topic)?;
    let consumer = consumer(bootstrap, "none", Isolation::Committed)?;
    let deadline = Instant::now() + MAX_OPEN;
    loop {
        let stable = ends_of(&consumer, topic)?;
        let partitions = (0..).zip(stable.iter().zip(&ends));
        let open: Vec<String> = partitions
            .filter(|(_, (stable, end))| stable < end)
            .map(|(partition, (stable, end)): (i32, _)| format!("{topic}/{partition}: stable up to {stable} of {end}"))
            .collect();
        if open.is_empty() || Instant::now() > deadline {
            return Ok(open);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As `read`, without waiting for open transactions: as read_committed, up to the last stable offset.
pub fn read_stable(bootstrap: &str, topic: &str, isolation: Isolation) -> Result<Vec<Record>> {
    let ends = ends(bootstrap, topic)?;
    let consumer = consumer(bootstrap, "none", isolation)?;
    let mut open: BTreeSet<i32> =
        (0..).zip(&ends).filter(|(_, end)| **end > 0).map(|(partition, _)| partition).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut records = Vec::new();
    let mut last_progress = Instant::now();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(to_record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) if !is_transient(&error) => bail!("cannot read {topic}: {error}"),
            Some(Err(_)) | None => {
                ensure!(last_progress.elapsed() < PATIENCE, "nothing more comes from {topic}, whose ends are {ends:?}");
                continue;
            }
        }
        last_progress = Instant::now();
    }
    // Records that were written meanwhile may be among them: only those below the ends taken above are kept.
    records.retain(|record| ends.get(record.partition.unwrap_or(0) as usize).is_some_and(|end| record.offset < *end));
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Errors that the client reports and then recovers from by itself.
fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
    error
        .rdkafka_error_code()
        .is_some_and(|code| [AllBrokersDown, BrokerTransportFailure, OperationTimedOut].contains(&code))
}

fn to_record(message: &BorrowedMessage) -> Record {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Record {
        content: Content {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        },
        partition: Some(message.partition()),
        timestamp: message.timestamp().to_millis(),
        offset: message.offset(),
    }
}

/// Calls `take` with the timestamp of each record of a topic that becomes readable from now on, until `stop` is set.
#[allow(dead_code, reason = "for the soak")]
pub fn follow(bootstrap: &str, topic: &str, stop: &AtomicBool, mut take: impl FnMut(i64)) -> Result<()> {
    let consumer = consumer(bootstrap, "none", Isolation::Committed)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions(&consumer, topic)? {
        assignment.add_partition_offset(topic, partition, Offset::End)?;
    }
    consumer.assign(&assignment)?;
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => take(message.timestamp().to_millis().context("a record without a time")?),
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) if is_transient(&error) => {}
            Some(Err(error)) => bail!("cannot read {topic}: {error}"),
        }
    }
    Ok(())
}

/// What a group committed for one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// −1 when there is none.
    pub offset: i64,
    pub metadata: String,
}

/// What a group committed for each partition of a topic.
pub fn committed(bootstrap: &str, group: &str, topic: &str) -> Result<Vec<Commit>> {
    let consumer = consumer(bootstrap, group, Isolation::Committed)?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, partitions(&consumer, topic)? - 1);
    let answer = retry("no committed offsets", || consumer.committed_offsets(wanted.clone(), CALL_TIMEOUT))?;
    let mut commits: Vec<(i32, Commit)> = answer
        .elements()
        .iter()
        .map(|each| {
            let offset = if let Offset::Offset(offset) = each.offset() { offset } else { -1 };
            (each.partition(), Commit { offset, metadata: each.metadata().to_owned() })
        })
        .collect();
    commits.sort_by_key(|(partition, _)| *partition);
    Ok(commits.into_iter().map(|(_, commit)| commit).collect())
}

/// The ids of a group's members, each with its assignment as Kafka encodes it.
pub fn members(bootstrap: &str, group: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    // A coordinator that has just started says so instead of answering.
    let groups = retry("no members", || consumer.fetch_group_list(Some(group), CALL_TIMEOUT))?;
    let members = groups.groups().iter().flat_map(|group| group.members());
    Ok(members.map(|member| (member.id().to_owned(), member.assignment().unwrap_or_default().to_vec())).collect())
}
