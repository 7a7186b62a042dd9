//! What the group and the client have to say, as events of the worker's loop.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::super::members;
use super::super::raw::{Code, QueueEvent, fault, is_configuration, is_missing};
use super::KafkaSource;
use crate::stream::fault::Fault;
use crate::stream::source::{Event, Source as _, TopicPartition};

impl KafkaSource {
    /// The next event of the consumer's queue, if one comes within the time.
    pub(super) fn poll_event(&mut self, wait: Duration) -> Result<Option<Event>, Fault> {
        self.last_event_poll = Instant::now();
        self.note_member_id();
        self.group_offsets.check(self.last_event_poll)?;
        let Some(event) = self.events.poll(wait) else { return Ok(None) };
        match event.kind() {
            rd::RD_KAFKA_EVENT_REBALANCE => Ok(Some(self.on_rebalance(&event))),
            rd::RD_KAFKA_EVENT_ERROR => self.on_error(&event).map(Some),
            _ => Ok(None),
        }
    }

    /// A group gives a member another id when it has forgotten it.
    fn note_member_id(&mut self) {
        let id = self.client.member_id();
        if id != self.member_id {
            if !id.is_empty() {
                members::note_own(&id);
            }
            self.member_id = id;
        }
    }

    fn on_rebalance(&mut self, event: &QueueEvent) -> Event {
        let partitions: Vec<TopicPartition> = (event.partitions().iter())
            .filter_map(|element| self.topics.partition(&element.topic, element.partition))
            .collect();
        if event.error() == Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            return self.on_assignment(partitions);
        }
        self.assigned.retain(|partition| !partitions.contains(partition));
        Event::Revoked { partitions, lost: self.client.is_assignment_lost() }
    }

    /// The group is answered at once, or all its members would wait until the partitions can be started.
    fn on_assignment(&mut self, partitions: Vec<TopicPartition>) -> Event {
        if let Err(fault) = self.assign(&[]) {
            tracing::warn!(%fault, "the group could not be answered");
        }
        let before = if self.client.is_cooperative() { BTreeSet::new() } else { std::mem::take(&mut self.assigned) };
        self.assigned.extend(&partitions);
        if before.is_empty() {
            return Event::Assigned(partitions);
        }
        // With the eager protocol this is the whole assignment, and what came before is taken back without a word where a
        // topic has grown before anybody learned of the first one.
        self.after_revocation = Some(Event::Assigned(partitions));
        Event::Revoked { partitions: before.into_iter().collect(), lost: true }
    }

    fn on_error(&self, event: &QueueEvent) -> Result<Event, Fault> {
        let text = event.message();
        match event.error() {
            Code::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL => {
                Err(Fault::Denied(members::in_the_way(&self.properties).unwrap_or(text)))
            }
            code if is_configuration(code) => Err(fault(code, text)),
            Code::RD_KAFKA_RESP_ERR__FATAL => Err(Fault::Unknown(text)),
            _ if event.is_fatal() => Err(Fault::Unknown(text)),
            code if is_missing(code) => {
                Ok(Event::Missing(format!("{text}; create the topic, as `sandpiper check --connect` says")))
            }
            _ => Ok(Event::Trouble(text)),
        }
    }
}
