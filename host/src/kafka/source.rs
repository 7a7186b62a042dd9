//! A group member that reads through one queue of its own.
//!
//! Every assigned partition's queue is forwarded to it before the assignment starts: a record can then arrive
//! nowhere else. Rebalances and errors come as events of the consumer's queue; the loop asks for them.

mod batches;
mod events;
mod group_offsets;
mod leaving;
mod partition_errors;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use group_offsets::GroupOffsets;
use topics::InputTopics;

use super::raw::{
    CallError, Client, Code, Kind, Message, MessageBuffer, Queue, Reports, describe, fault, is_configuration,
    is_missing,
};
pub use super::raw::{Group, HeaderLimits};
use crate::config::plan::{self, Properties, Start};
use crate::record::Topics;
use crate::stream::fault::Fault;
use crate::stream::source::{Committed, Event, Position, Source, TopicPartition};
use crate::stream::transaction::Deployed;

/// How often events are polled while records flow, and at most how long the loop waits for a record.
const EVENTS: Duration = Duration::from_millis(5);
/// Time to read committed offsets. While the last owner's transaction is open they are asked for again until it is over: the
/// loop does that, and serves its group in between.
const COMMITTED: Duration = Duration::from_secs(1);
/// Time for another request about offsets.
const REQUEST: Duration = Duration::from_secs(5);

/// A batch's bounds.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub records: usize,
    /// Bytes of values, keys and headers, and what headers take besides; a single larger record makes a batch of its own.
    pub bytes: usize,
    /// Of each record.
    pub headers: HeaderLimits,
}

impl From<&plan::Limits> for BatchLimits {
    fn from(limits: &plan::Limits) -> Self {
        let headers = HeaderLimits { count: limits.max_headers, bytes: limits.max_header_bytes };
        Self { records: limits.batch_records, bytes: limits.batch_bytes, headers }
    }
}

pub struct KafkaSource {
    // Queues go before the client, in the order of the fields.
    records: Queue,
    events: Queue,
    group_offsets: GroupOffsets,
    client: Client,
    properties: Properties,
    /// The id that the group last gave to this member; empty before.
    member_id: String,
    topics: InputTopics,
    start: Start,
    limits: BatchLimits,
    /// Read but not handed out: what did not fit into the last batch.
    held: VecDeque<Message>,
    buffer: MessageBuffer,
    /// Of the last batch, by which it is judged how many records may be taken out of librdkafka's queue at once.
    record_size: usize,
    /// What the group has assigned to this member and not taken back.
    assigned: BTreeSet<TopicPartition>,
    /// Those of them that are read: an assignment is announced first, and started when its offsets are known.
    started: BTreeSet<TopicPartition>,
    /// The assignment that comes next, where one event of the group's is a revocation and an assignment.
    after_revocation: Option<Event>,
    last_event_poll: Instant,
    /// How long a rebalance is waited for before this member leaves.
    rebalance_patience: Duration,
    closed: bool,
}

impl KafkaSource {
    /// Subscribes; partitions come as events.
    ///
    /// # Errors
    /// `Configuration` when librdkafka refuses the properties.
    pub fn new(properties: &Properties, topics: Topics, start: Start, limits: BatchLimits) -> Result<Self, Fault> {
        let events = rd::RD_KAFKA_EVENT_REBALANCE | rd::RD_KAFKA_EVENT_ERROR;
        let client = Client::with(Kind::Consumer, properties, events, Reports::listen_for_partitions)?;
        let topics = InputTopics::new(topics)?;
        client.join_consumer_queue();
        let source = Self {
            records: Queue::own(&client),
            events: Queue::of_consumer(&client),
            group_offsets: GroupOffsets::new(&client, properties),
            client,
            properties: properties.clone(),
            member_id: String::new(),
            topics,
            start,
            limits,
            held: VecDeque::new(),
            buffer: MessageBuffer::with_room_for(limits.records),
            record_size: 0,
            assigned: BTreeSet::new(),
            started: BTreeSet::new(),
            after_revocation: None,
            last_event_poll: Instant::now(),
            rebalance_patience: leaving::rebalance_patience(properties),
            closed: false,
        };
        source.client.subscribe(&source.topics.subscription()).map_err(|code| {
            Fault::Configuration(format!("cannot subscribe to {:?}: {}", source.topics.names.names(), describe(code)))
        })?;
        Ok(source)
    }

    /// A partition's oldest offset, and the one behind its last.
    fn watermarks(&self, TopicPartition { topic, partition }: TopicPartition) -> Result<(i64, i64), Fault> {
        let name = self.topics.name(topic);
        self.client.query_watermarks(self.topics.terminated(topic), partition, REQUEST).map_err(|code| {
            if is_missing(code) {
                Fault::Unknown(vanished(name))
            } else {
                cannot(&format!("find the start of {name}/{partition}"), code)
            }
        })
    }
}

impl Source for KafkaSource {
    type Group = Group;

    fn next(&mut self, wait: Duration) -> Result<Event, Fault> {
        if let Some(event) = self.after_revocation.take() {
            return Ok(event);
        }
        if self.last_event_poll.elapsed() >= EVENTS
            && let Some(event) = self.poll_event(Duration::ZERO)?
        {
            return Ok(event);
        }
        if let Some(event) = partition_errors::take(self.client.reports(), self.topics.names.names()) {
            return Ok(event);
        }
        if self.held.is_empty() {
            self.fill(wait.min(EVENTS));
        }
        Ok(self.batch()?.unwrap_or(Event::Idle))
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), Fault> {
        for position in positions {
            let TopicPartition { topic, partition } = position.partition;
            let queue = Queue::of_partition(&self.client, self.topics.terminated(topic), partition);
            let queue = queue.ok_or_else(|| {
                Fault::Unknown(format!("partition {partition} of {:?} has no queue", self.topics.names.names()))
            })?;
            queue.forward(&self.records);
        }
        let list = self.topics.positions(positions, "");
        // A pause outlives an assignment, and whoever must wait is paused anew. It fails where there is nothing to resume.
        let _ = self.client.resume(&list);
        if self.client.is_cooperative() {
            accepted("the assignment", self.client.incremental_assign(&list))?;
        } else {
            self.client.assign(&list).map_err(|code| cannot("assign", code))?;
        }
        self.started.extend(positions.iter().map(|position| position.partition));
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        // Those that were announced but never started are unknown to librdkafka.
        let started: Vec<TopicPartition> =
            self.started.iter().copied().filter(|partition| partitions.contains(partition)).collect();
        self.drop_held(partitions);
        self.topics.forget_handles();
        if self.client.is_cooperative() {
            let list = self.topics.without_offsets(&started);
            accepted("the revocation", self.client.incremental_unassign(&list))?;
            self.started.retain(|partition| !partitions.contains(partition));
        } else {
            self.client.assign_nothing().map_err(|code| cannot("unassign", code))?;
            self.started.clear();
        }
        Ok(())
    }

    fn seek(&mut self, positions: &[Position]) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        let sought: Vec<TopicPartition> = positions.iter().map(|position| position.partition).collect();
        self.drop_held(&sought);
        let list = self.topics.positions(positions, "");
        if self.client.seek(&list, REQUEST).is_err() {
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
        self.client.pause(&self.topics.without_offsets(partitions)).map_err(|code| cannot("pause", code))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.client.resume(&self.topics.without_offsets(partitions)).map_err(|code| cannot("resume", code))
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Fault> {
        let unread = |code| cannot("read the committed offsets", code);
        let list = self.topics.without_offsets(partitions);
        self.client.committed(&list, Instant::now() + COMMITTED).map_err(unread)?;
        let mut committed = Vec::new();
        for element in list.elements() {
            if element.error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(unread(element.error));
            }
            if let Some(partition) = self.topics.partition(&element.topic, element.partition) {
                let offset = (element.offset >= 0).then_some(element.offset);
                committed.push(Committed { partition, offset, metadata: element.metadata });
            }
        }
        Ok(committed)
    }

    fn start_of(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Position>, Fault> {
        let mut positions = Vec::new();
        for partition in partitions {
            let (low, high) = self.watermarks(*partition)?;
            let offset = match self.start {
                Start::Earliest => low,
                Start::Latest => high,
            };
            positions.push(Position { partition: *partition, offset });
        }
        Ok(positions)
    }

    fn oldest(&mut self, partition: TopicPartition) -> Result<Position, Fault> {
        Ok(Position { partition, offset: self.watermarks(partition)?.0 })
    }

    fn commit(&mut self, positions: &[Position], metadata: &str) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        match self.client.commit(&self.topics.positions(positions, metadata)) {
            Ok(()) => Ok(()),
            Err(code) if is_configuration(code) => Err(fault(code, describe(code))),
            Err(code) => Err(Fault::Abortable(format!("the offsets could not be committed: {}", describe(code)))),
        }
    }

    fn group(&mut self) -> Result<Group, Fault> {
        // librdkafka forgets that an assignment was lost when partitions are started meanwhile; then the membership's check,
        // or the broker, refuses.
        if self.client.is_assignment_lost() {
            return Err(Fault::Abortable("the assignment is lost".into()));
        }
        let group = Group::of(&self.client);
        let group = group.ok_or_else(|| Fault::Abortable("there is no group membership".into()))?;
        if !group.has_membership() {
            return Err(Fault::Abortable("this member is not in the group at the moment".into()));
        }
        Ok(group)
    }

    fn deployments(&mut self) -> Vec<Deployed> {
        self.group_offsets.deployments(&self.client, &self.topics.names, Instant::now())
    }

    fn end(&self, partition: TopicPartition) -> Option<i64> {
        self.client.last_high_watermark(self.topics.terminated(partition.topic), partition.partition)
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

/// What a call about the assignment came to: its partitions are given up and started anew where it was refused.
fn accepted(what: &str, outcome: Result<(), CallError>) -> Result<(), Fault> {
    outcome.map_err(|error| match error {
        CallError::Fault(fault) => Fault::Unknown(format!("{what} was refused: {fault}")),
        CallError::Retry(message) | CallError::Fenced(message) => {
            Fault::Unknown(format!("{what} was refused: {message}"))
        }
    })
}

fn cannot(what: &str, code: Code) -> Fault {
    fault(code, format!("cannot {what}: {}", describe(code)))
}
