//! A topic, or some of its partitions, read to the end that it has when it is opened; outside of any group, and
//! committing nothing.
//!
//! The end is the high watermark, not the last stable offset: what a transaction that is open by then has written counts.
//! The records are read as committed ones, so the broker lets nobody past an open transaction: the reader waits it out. No
//! record comes out for aborted transactions and for the markers that end one. So the position is what counts: librdkafka
//! tells with each `PARTITION_EOF` which offset it would fetch next, at the last stable offset, and again when that has
//! moved.

mod position;
mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use position::Positions;

use super::raw::{
    Client, Code, HeaderLimits, Kind, List, MessageRef, Queue, QueueEvent, describe, is_configuration, is_missing,
};
use crate::config::plan::Properties;
use crate::record::Headers;
use crate::stream::fault::Fault;

/// Bytes of one fetch, unless the user says otherwise; not less than a record that a topic takes by default.
const FETCH: usize = 2 << 20;
/// Between two attempts to open.
const RETRY: Duration = Duration::from_millis(100);

/// What is read.
pub enum Partitions {
    /// Those that the topic has when it is opened. One that is added later is not read.
    All,
    Of(BTreeSet<i32>),
}

/// Where reading starts. Where an offset was deleted, the oldest that is left comes next.
pub enum ReadFrom {
    Beginning,
    /// By partition; the beginning of one that is not named.
    Offsets(BTreeMap<i32, i64>),
    /// That many offsets before the end of each partition.
    Last(i64),
    /// The first record of that time or later, milliseconds since the Unix epoch.
    Since(i64),
    /// What becomes readable from now on: the last stable offset. What is in open transactions comes when they commit.
    Now,
}

/// One end of a range of a topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// The first offset that a partition holds; as the other end, the one behind its last.
    Outermost,
    /// The first record of that time or later, milliseconds since the Unix epoch; as the other end, what stands before it.
    Time(i64),
    /// By partition. Where a range begins, those that are not named are not read; where it ends, they are read to their end.
    Offsets(BTreeMap<i32, i64>),
}

/// A record, copied out.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Record {
    fn of(message: MessageRef<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.value().map(<[u8]>::to_vec),
            headers: message.headers(HeaderLimits::NONE).ok().flatten().map(|headers| *headers).unwrap_or_default(),
        }
    }
}

#[derive(Debug, PartialEq)]
pub enum Next<T = Record> {
    /// In the order of its partition. Until all partitions are at their end, one that is may yield what was written since;
    /// not so of a range.
    Record(T),
    /// Nothing came within the time.
    Idle,
    /// The client reports what it mends by itself, as a broker that is away.
    Trouble(String),
    /// Every partition has been read to its end. Said once; whoever goes on gets what is written later.
    End,
}

/// Offsets, not records: a compacted or transactional topic has fewer records than offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    pub read: u64,
    pub whole: u64,
}

pub struct Reader {
    // The queue goes before the client, in the order of the fields.
    queue: Queue,
    client: Client,
    topic: String,
    positions: Positions,
    /// Whether nothing behind a partition's end is wanted.
    is_range: bool,
    /// When a record or the position of a partition came last.
    last_arrival: Instant,
    end_reported: bool,
}

impl Reader {
    /// Takes the ends and starts to fetch. A broker that is away is waited for as long as `patience` says.
    ///
    /// # Errors
    /// `Configuration` where waiting does not help: the topic or a partition does not exist, an offset lies behind the end,
    /// the broker or librdkafka refuses us. `Unknown` when no broker has answered in time.
    pub fn open(
        properties: &Properties,
        topic: &str,
        partitions: &Partitions,
        from: &ReadFrom,
        patience: Duration,
    ) -> Result<Self, Fault> {
        Self::open_with(properties, topic, patience, false, |client, name, deadline| {
            span::positions(client, topic, name, partitions, from, deadline)
        })
    }

    /// As `open`, for a range: nothing behind its end comes out.
    ///
    /// # Errors
    /// As `open`'s, and `Configuration` where the topic does not hold all of the range any more, or nothing of it.
    pub fn open_range(
        properties: &Properties,
        topic: &str,
        from: &Bound,
        to: &Bound,
        patience: Duration,
    ) -> Result<Self, Fault> {
        Self::open_with(properties, topic, patience, true, |client, name, deadline| {
            span::range(client, topic, name, from, to, deadline)
        })
    }

    fn open_with(
        properties: &Properties,
        topic: &str,
        patience: Duration,
        is_range: bool,
        ask: impl Fn(&Client, &CStr, Instant) -> Result<Positions, Fault>,
    ) -> Result<Self, Fault> {
        let client = Client::new(Kind::Consumer, &for_reading(properties), rd::RD_KAFKA_EVENT_ERROR)?;
        client.join_consumer_queue();
        let name =
            CString::new(topic).map_err(|_| Fault::Configuration(format!("topic {topic:?} holds a NUL byte")))?;
        let queue = Queue::of_consumer(&client);
        let deadline = Instant::now() + patience;
        let positions = loop {
            let message = match ask(&client, &name, deadline) {
                Err(Fault::Unknown(message)) => message,
                result => break result?,
            };
            // A request only says that it was not answered; why, as that we are not who we say, comes as an event.
            while let Some(event) = queue.poll(Duration::ZERO) {
                if is_final(&event) {
                    return Err(Fault::Configuration(format!("topic {topic} cannot be read: {}", event.message())));
                }
            }
            if Instant::now() + RETRY >= deadline {
                let brokers = properties.0.get("bootstrap.servers").map_or("the brokers", String::as_str);
                return Err(Fault::Unknown(format!("asking {brokers} for topic {topic}: {message}")));
            }
            std::thread::sleep(RETRY);
        };
        let mut assignment = List::default();
        for (partition, position, end) in positions.iter() {
            if !is_range || position < end {
                assignment.add(&name, partition, position, "");
            }
        }
        client
            .assign(&assignment)
            .map_err(|code| Fault::Configuration(format!("topic {topic} cannot be read: {}", describe(code))))?;
        Ok(Self {
            queue,
            client,
            topic: topic.to_owned(),
            positions,
            is_range,
            last_arrival: Instant::now(),
            end_reported: false,
        })
    }

    /// What comes next, waiting at most that long.
    ///
    /// # Errors
    /// What waiting does not mend, named: the topic does not exist any more, the broker refuses us.
    pub fn next(&mut self, wait: Duration) -> Result<Next, Fault> {
        self.next_as(wait, Record::of)
    }

    /// As `next`, with what `read` makes of the record instead of its copy.
    ///
    /// # Errors
    /// As `next`.
    pub fn next_as<T>(&mut self, wait: Duration, mut read: impl FnMut(MessageRef<'_>) -> T) -> Result<Next<T>, Fault> {
        let deadline = Instant::now() + wait;
        loop {
            if !self.end_reported && self.positions.are_at_their_end() {
                self.end_reported = true;
                return Ok(Next::End);
            }
            let Some(event) = self.queue.poll(deadline.saturating_duration_since(Instant::now())) else {
                return Ok(Next::Idle);
            };
            if let Some(next) = self.take(&event, &mut read)? {
                return Ok(next);
            }
        }
    }

    /// How many partitions are read.
    pub fn partitions(&self) -> usize {
        self.positions.iter().count()
    }

    /// Each partition, the offset that is read next and the one at which reading ends.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64, i64)> {
        self.positions.iter()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.positions.progress()
    }

    /// How long neither a record nor a partition's position came.
    pub fn silence(&self) -> Duration {
        self.last_arrival.elapsed()
    }

    /// A partition and the offset at which an open transaction holds it back, when nothing else keeps the reader from its
    /// end. Not known of a partition whose start lies behind the last stable offset.
    pub fn open_transaction(&self) -> Option<(i32, i64)> {
        self.positions.held_back()
    }

    /// What an event is to the caller; a position is nothing to it.
    fn take<T>(
        &mut self,
        event: &QueueEvent,
        read: &mut impl FnMut(MessageRef<'_>) -> T,
    ) -> Result<Option<Next<T>>, Fault> {
        if let Some(message) = event.fetched() {
            self.last_arrival = Instant::now();
            let (partition, offset) = (message.partition(), message.offset());
            let was_at_its_end = self.is_range && self.positions.is_at_its_end(partition);
            self.positions.advance(partition, offset.saturating_add(1));
            if self.is_range && !was_at_its_end && self.positions.is_at_its_end(partition) {
                self.leave(partition);
            }
            if self.is_range && self.positions.is_behind_the_end(partition, offset) {
                return Ok(None);
            }
            return Ok(Some(Next::Record(read(message))));
        }
        if event.kind() != rd::RD_KAFKA_EVENT_ERROR {
            return Ok(None);
        }
        let code = event.error();
        if code == Code::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            if let Some(place) = event.partition() {
                self.last_arrival = Instant::now();
                self.positions.reach_stable_end(place.partition, place.offset);
            }
            return Ok(None);
        }
        let text = format!("reading {}: {}", self.topic, event.message());
        match code {
            // librdkafka looks for the coordinator of every consumer's group; a reader wants nothing of its own.
            Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => Ok(None),
            _ if is_final(event) => Err(Fault::Configuration(text)),
            _ => Ok(Some(Next::Trouble(text))),
        }
    }
}

impl Reader {
    /// Fetches no more of a partition whose range has been read: the topic may go on for long behind it.
    fn leave(&self, partition: i32) {
        let Ok(name) = CString::new(self.topic.as_str()) else { return };
        let mut list = List::default();
        list.add(&name, partition, 0, "");
        // Where it fails, what comes is passed over.
        let _ = self.client.incremental_unassign(&list);
    }
}

/// Whether it is an error that waiting does not mend.
fn is_final(event: &QueueEvent) -> bool {
    let code = event.error();
    code != Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        && (is_configuration(code) || is_missing(code) || event.is_fatal())
}

/// The properties without which a reader would not be one.
fn for_reading(properties: &Properties) -> Properties {
    let mut properties = properties.clone();
    for (name, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        // Where the offset that is read next was deleted, the oldest that is left comes next.
        ("auto.offset.reset", "earliest"),
        ("enable.partition.eof", "true"),
        // Of ours: librdkafka's own is 64 MiB, whatever is read.
        ("queued.max.messages.kbytes", "8192"),
        ("queued.min.messages", "4096"),
        ("fetch.queue.backoff.ms", "5"),
    ] {
        properties.0.insert(name.into(), value.into());
    }
    properties.0.entry("fetch.max.bytes".into()).or_insert_with(|| FETCH.to_string());
    properties
}

#[cfg(test)]
mod tests;
