//! A group member that reads through one queue of its own.
//!
//! Every assigned partition's queue is forwarded to it before the assignment starts: a record can then arrive
//! nowhere else. Rebalances and errors come as events of the consumer's queue; the loop asks for them.

mod complaints;
mod leaving;
mod reading;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{CStr, CString};
use std::ptr;
use std::time::{Duration, Instant};

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use complaints::Complaints;
use reading::Message;

use super::raw::{Client, Kind, List, Queue, Verdict, describe, is_configuration, millis_until, view};
use crate::config::plan::{Properties, Start};
use crate::record::{TopicIndex, Topics};
use crate::stream::fault::Fault;
use crate::stream::source::{Committed, Event, Position, Source, TopicPartition};

/// How often events are looked at while records flow, and at most how long the loop waits for a record.
const EVENTS: Duration = Duration::from_millis(5);
/// Time to read committed offsets. While the last owner's transaction is open they are asked for again until it is over: the
/// loop does that, and hears of its group in between.
const COMMITTED: Duration = Duration::from_secs(1);
/// Time for another request about offsets.
const REQUEST: Duration = Duration::from_secs(5);

/// A batch's bounds.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub records: usize,
    /// Bytes of values; a single larger record makes a batch of its own.
    pub bytes: usize,
}

pub struct KafkaSource {
    // Queues go before the client, in the order of the fields.
    records: Queue,
    events: Queue,
    client: Client,
    complaints: Complaints,
    topics: Topics,
    names: Vec<CString>,
    /// librdkafka's topic handles as they were met, with our index.
    handles: Vec<(*mut rd::rd_kafka_topic_t, TopicIndex)>,
    start: Start,
    limits: BatchLimits,
    /// Read but not handed out: what did not fit into the last batch.
    held: VecDeque<Message>,
    buffer: Vec<*mut rd::rd_kafka_message_t>,
    assigned: BTreeSet<TopicPartition>,
    /// What the group gave and has not taken back.
    given: BTreeSet<TopicPartition>,
    /// What is said next.
    next: Option<Event>,
    looked: Instant,
    /// How long a rebalance is waited for before this member leaves.
    patience: Duration,
    closed: bool,
}

// SAFETY: messages and topic handles may be used from any thread; the source is owned by one at a time.
unsafe impl Send for KafkaSource {}

impl KafkaSource {
    /// Subscribes; partitions come as events.
    ///
    /// # Errors
    /// `Configuration` when librdkafka refuses the properties.
    pub fn new(properties: &Properties, topics: Topics, start: Start, limits: BatchLimits) -> Result<Self, Fault> {
        let events = rd::RD_KAFKA_EVENT_REBALANCE | rd::RD_KAFKA_EVENT_ERROR;
        let complaints = Complaints::default();
        // SAFETY: the configuration is alive; the fields of a source are dropped in their order.
        let client = Client::with(Kind::Consumer, properties, events, |conf| unsafe { complaints.listen(conf) })?;
        let mut names = Vec::new();
        let mut subscription = List::default();
        for topic in topics.names() {
            let name = CString::new(topic.as_str())
                .map_err(|_| Fault::Configuration(format!("topic {topic:?} holds a NUL byte")))?;
            subscription.add(&name, -1, 0, "");
            names.push(name);
        }
        // SAFETY: the client is alive; the main queue's events join the consumer's.
        unsafe { rd::rd_kafka_poll_set_consumer(client.ptr()) };
        let source = Self {
            records: Queue::own(&client),
            events: Queue::of_consumer(&client),
            client,
            complaints,
            topics,
            names,
            handles: Vec::new(),
            start,
            limits,
            held: VecDeque::new(),
            buffer: vec![ptr::null_mut(); limits.records.max(1)],
            assigned: BTreeSet::new(),
            given: BTreeSet::new(),
            next: None,
            looked: Instant::now(),
            patience: leaving::patience(properties),
            closed: false,
        };
        // SAFETY: client and list are alive.
        match unsafe { rd::rd_kafka_subscribe(source.client.ptr(), subscription.ptr()) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(source),
            code => Err(Fault::Configuration(format!(
                "cannot subscribe to {:?}: {}",
                source.topics.names(),
                describe(code)
            ))),
        }
    }

    fn event(&mut self, wait: Duration) -> Result<Option<Event>, Fault> {
        self.looked = Instant::now();
        let Some(event) = self.events.poll(wait) else { return Ok(None) };
        let code = event.error();
        match event.kind() {
            rd::RD_KAFKA_EVENT_REBALANCE => {
                // SAFETY: the event is alive and owns the list.
                let list = view(unsafe { rd::rd_kafka_event_topic_partition_list(event.ptr()) });
                let partitions = self.ours(list.iter().map(|element| (element.topic.as_str(), element.partition)));
                if code == Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
                    return Ok(Some(self.given(partitions)));
                }
                self.given.retain(|partition| !partitions.contains(partition));
                // SAFETY: the client is alive.
                let lost = unsafe { rd::rd_kafka_assignment_lost(self.client.ptr()) } != 0;
                Ok(Some(Event::Revoked { partitions, lost }))
            }
            rd::RD_KAFKA_EVENT_ERROR if is_configuration(code) => Err(Fault::Configuration(event.message())),
            rd::RD_KAFKA_EVENT_ERROR if code == Code::RD_KAFKA_RESP_ERR__FATAL => Err(Fault::Unknown(event.message())),
            rd::RD_KAFKA_EVENT_ERROR if is_missing(code) => Ok(Some(Event::Missing(format!(
                "{}; create the topic, as `sandpiper check --connect` says",
                event.message()
            )))),
            rd::RD_KAFKA_EVENT_ERROR => Ok(Some(Event::Trouble(event.message()))),
            _ => Ok(None),
        }
    }

    /// What to say of an assignment. The group is answered at once, or all its members would wait until the partitions can be
    /// started.
    fn given(&mut self, partitions: Vec<TopicPartition>) -> Event {
        if let Err(fault) = self.assign(&[]) {
            tracing::warn!(%fault, "the group could not be answered");
        }
        let before = if self.is_cooperative() { BTreeSet::new() } else { std::mem::take(&mut self.given) };
        self.given.extend(&partitions);
        if before.is_empty() {
            return Event::Assigned(partitions);
        }
        // With the eager protocol this is all there is, and what came before is taken back without a word where a topic has
        // grown before anybody heard of it.
        self.next = Some(Event::Assigned(partitions));
        Event::Revoked { partitions: before.into_iter().collect(), lost: true }
    }

    fn ours<'a>(&self, partitions: impl Iterator<Item = (&'a str, i32)>) -> Vec<TopicPartition> {
        partitions
            .filter_map(|(name, partition)| Some(TopicPartition { topic: self.topics.index(name)?, partition }))
            .collect()
    }

    fn name(&self, topic: TopicIndex) -> &CStr {
        self.names.get(topic.get()).map_or(c"", CString::as_c_str)
    }

    fn list(&self, partitions: impl Iterator<Item = (TopicPartition, i64)>, metadata: &str) -> List {
        let mut list = List::default();
        for (partition, offset) in partitions {
            list.add(self.name(partition.topic), partition.partition, offset, metadata);
        }
        list
    }

    fn positions(&self, positions: &[Position], metadata: &str) -> List {
        self.list(positions.iter().map(|position| (position.partition, position.offset)), metadata)
    }

    fn plain(&self, partitions: &[TopicPartition]) -> List {
        self.list(partitions.iter().map(|partition| (*partition, rd::RD_KAFKA_OFFSET_INVALID.into())), "")
    }

    fn is_cooperative(&self) -> bool {
        // SAFETY: the client is alive; the answer is a static string or null.
        unsafe {
            let protocol = rd::rd_kafka_rebalance_protocol(self.client.ptr());
            !protocol.is_null() && CStr::from_ptr(protocol) == c"COOPERATIVE"
        }
    }
}

impl Source for KafkaSource {
    type Group = Group;

    fn next(&mut self, wait: Duration) -> Result<Event, Fault> {
        if let Some(next) = self.next.take() {
            return Ok(next);
        }
        if self.looked.elapsed() >= EVENTS
            && let Some(event) = self.event(Duration::ZERO)?
        {
            return Ok(event);
        }
        if let Some(event) = self.complaints.take(self.topics.names()) {
            return Ok(event);
        }
        if self.held.is_empty() {
            self.read(wait.min(EVENTS));
        }
        Ok(self.batch()?.unwrap_or(Event::Idle))
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), Fault> {
        for position in positions {
            let partition = position.partition;
            // SAFETY: the client and our queue are alive; the partition's queue is let go after it was forwarded.
            unsafe {
                let name = self.name(partition.topic).as_ptr();
                let queue = rd::rd_kafka_queue_get_partition(self.client.ptr(), name, partition.partition);
                if queue.is_null() {
                    return Err(Fault::Unknown(format!(
                        "partition {} of {} has no queue",
                        partition.partition,
                        self.topics.name(partition.topic)
                    )));
                }
                rd::rd_kafka_queue_forward(queue, self.records.ptr());
                rd::rd_kafka_queue_destroy(queue);
            }
        }
        let list = self.positions(positions, "");
        // A pause outlives an assignment, and whoever must wait is paused anew.
        // SAFETY: client and list are alive.
        unsafe { rd::rd_kafka_resume_partitions(self.client.ptr(), list.ptr()) };
        if self.is_cooperative() {
            // SAFETY: client and list are alive; librdkafka copies the list.
            answered("the assignment", unsafe { rd::rd_kafka_incremental_assign(self.client.ptr(), list.ptr()) })?;
        } else {
            // SAFETY: client and list are alive; librdkafka copies the list.
            result("assign", unsafe { rd::rd_kafka_assign(self.client.ptr(), list.ptr()) })?;
        }
        self.assigned.extend(positions.iter().map(|position| position.partition));
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        let gone = |partition: TopicPartition| partitions.contains(&partition);
        // Those that were announced but never started are unknown to librdkafka.
        let started: Vec<TopicPartition> = self.assigned.iter().copied().filter(|partition| gone(*partition)).collect();
        let held = std::mem::take(&mut self.held);
        for message in held {
            let topic = self.topic_of(message.facts());
            if !gone(TopicPartition { topic, partition: message.facts().partition }) {
                self.held.push_back(message);
            }
        }
        // A topic's handle may go with its last partition, and its address come back as another's.
        self.handles.clear();
        if self.is_cooperative() {
            let list = self.plain(&started);
            // SAFETY: client and list are alive.
            answered("the revocation", unsafe { rd::rd_kafka_incremental_unassign(self.client.ptr(), list.ptr()) })?;
            self.assigned.retain(|partition| !gone(*partition));
        } else {
            // SAFETY: the client is alive; a null list is the empty assignment.
            result("unassign", unsafe { rd::rd_kafka_assign(self.client.ptr(), ptr::null()) })?;
            self.assigned.clear();
        }
        Ok(())
    }

    fn seek(&mut self, positions: &[Position]) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        let sought: Vec<TopicPartition> = positions.iter().map(|position| position.partition).collect();
        let held = std::mem::take(&mut self.held);
        for message in held {
            let topic = self.topic_of(message.facts());
            if !sought.contains(&TopicPartition { topic, partition: message.facts().partition }) {
                self.held.push_back(message);
            }
        }
        let list = self.positions(positions, "");
        // SAFETY: client and list are alive.
        let error = unsafe { rd::rd_kafka_seek_partitions(self.client.ptr(), list.ptr(), REQUEST.as_millis() as i32) };
        if super::raw::verdict(error).is_some() {
            return Err(Fault::Unknown("the partitions could not be sought".into()));
        }
        match list.elements().iter().find(|element| element.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
            None => Ok(()),
            Some(element) => Err(Fault::Unknown(format!(
                "{}/{} could not be sought: {}",
                element.topic,
                element.partition,
                describe(element.error)
            ))),
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        let list = self.plain(partitions);
        // SAFETY: client and list are alive.
        result("pause", unsafe { rd::rd_kafka_pause_partitions(self.client.ptr(), list.ptr()) })
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        let list = self.plain(partitions);
        // SAFETY: client and list are alive.
        result("resume", unsafe { rd::rd_kafka_resume_partitions(self.client.ptr(), list.ptr()) })
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Fault> {
        let list = self.plain(partitions);
        let deadline = Instant::now() + COMMITTED;
        // SAFETY: client and list are alive; the answer is written into the list.
        result("read the committed offsets", unsafe {
            rd::rd_kafka_committed(self.client.ptr(), list.ptr(), millis_until(deadline))
        })?;
        let mut committed = Vec::new();
        for element in list.elements() {
            result("read the committed offsets", element.error)?;
            for partition in self.ours(std::iter::once((element.topic.as_str(), element.partition))) {
                let offset = (element.offset >= 0).then_some(element.offset);
                committed.push(Committed { partition, offset, metadata: element.metadata.clone() });
            }
        }
        Ok(committed)
    }

    fn start_of(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Position>, Fault> {
        let mut positions = Vec::new();
        for partition in partitions {
            let (mut low, mut high) = (0, 0);
            let name = self.name(partition.topic);
            // SAFETY: the client is alive, the name terminated.
            let code = unsafe {
                rd::rd_kafka_query_watermark_offsets(
                    self.client.ptr(),
                    name.as_ptr(),
                    partition.partition,
                    &mut low,
                    &mut high,
                    REQUEST.as_millis() as i32,
                )
            };
            let place = format!("{}/{}", name.to_string_lossy(), partition.partition);
            if is_missing(code) {
                return Err(Fault::Unknown(vanished(&name.to_string_lossy())));
            }
            result(&format!("find the start of {place}"), code)?;
            let offset = match self.start {
                Start::Earliest => low,
                Start::Latest => high,
            };
            positions.push(Position { partition: *partition, offset });
        }
        Ok(positions)
    }

    fn commit(&mut self, positions: &[Position], metadata: &str) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        let list = self.positions(positions, metadata);
        // SAFETY: client and list are alive.
        let code = unsafe { rd::rd_kafka_commit(self.client.ptr(), list.ptr(), 0) };
        match code {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code if is_configuration(code) => Err(Fault::Configuration(describe(code))),
            code => Err(Fault::Abortable(format!("the offsets could not be committed: {}", describe(code)))),
        }
    }

    fn group(&mut self) -> Result<Group, Fault> {
        // The first of these is forgotten when partitions are started meanwhile; then the others or the broker refuse.
        // SAFETY: the client is alive; the metadata is owned by Group from here on.
        unsafe {
            if rd::rd_kafka_assignment_lost(self.client.ptr()) != 0 {
                return Err(Fault::Abortable("the assignment is lost".into()));
            }
            let group = Group(rd::rd_kafka_consumer_group_metadata(self.client.ptr()));
            if group.0.is_null() {
                return Err(Fault::Abortable("there is no group membership".into()));
            }
            let member = CStr::from_ptr(rd::rd_kafka_consumer_group_metadata_member_id(group.0));
            if rd::rd_kafka_consumer_group_metadata_generation_id(group.0) < 0 || member.is_empty() {
                return Err(Fault::Abortable("this member is not in the group at the moment".into()));
            }
            Ok(group)
        }
    }

    fn end(&self, partition: TopicPartition) -> Option<i64> {
        let (mut low, mut high) = (0, 0);
        // SAFETY: the client is alive; the answer is what it last heard, without a request.
        let code = unsafe {
            rd::rd_kafka_get_watermark_offsets(
                self.client.ptr(),
                self.name(partition.topic).as_ptr(),
                partition.partition,
                &mut low,
                &mut high,
            )
        };
        (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    fn close(&mut self) {
        self.shut_down();
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// What there is to say of an input topic that was there.
pub(super) fn vanished(topic: &str) -> String {
    format!(
        "topic {topic} does not exist any more; create it again, as `sandpiper check --connect` says, or take it out of \
         [input] topics"
    )
}

fn is_missing(code: rd::rd_kafka_resp_err_t) -> bool {
    [
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
    ]
    .contains(&code)
}

/// What a call about the assignment came to.
fn answered(what: &str, error: *mut rd::rd_kafka_error_t) -> Result<(), Fault> {
    match super::raw::verdict(error) {
        None => Ok(()),
        Some(Verdict::Fault(fault)) => Err(Fault::Unknown(format!("{what} was refused: {fault}"))),
        Some(Verdict::Again(message) | Verdict::Fenced(message)) => {
            Err(Fault::Unknown(format!("{what} was refused: {message}")))
        }
    }
}

fn result(what: &str, code: rd::rd_kafka_resp_err_t) -> Result<(), Fault> {
    match code {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code if is_configuration(code) => Err(Fault::Configuration(format!("cannot {what}: {}", describe(code)))),
        code => Err(Fault::Unknown(format!("cannot {what}: {}", describe(code)))),
    }
}

/// A member's identity in its group at one moment.
pub struct Group(*mut rd::rd_kafka_consumer_group_metadata_t);

impl Group {
    #[cfg(test)]
    pub fn none() -> Self {
        Self(ptr::null_mut())
    }

    pub fn ptr(&self) -> *const rd::rd_kafka_consumer_group_metadata_t {
        self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned here.
            unsafe { rd::rd_kafka_consumer_group_metadata_destroy(self.0) }
        }
    }
}
