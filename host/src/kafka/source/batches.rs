//! What the queue of all assigned partitions holds, taken out as batches.

use std::time::Duration;

use super::super::raw::{Code, MessageRef, describe, fault, is_configuration, is_missing};
use super::{KafkaSource, vanished};
use crate::record::{BatchBuilder, Excess, Origin, TopicIndex};
use crate::stream::fault::Fault;
use crate::stream::source::{Event, Position, TopicPartition};
use sandpiper_sandbox::batch::size_of_headers;

/// What headers that cannot be read are taken to be: as many as a record may hold by Kafka's default.
const UNREAD: usize = 1 << 20;

impl KafkaSource {
    /// Takes what is there, waiting for the first record only: the batch call alone would wait to be filled.
    pub(super) fn fill(&mut self, wait: Duration) {
        if self.take() > 0 || wait.is_zero() {
            return;
        }
        if let Some(message) = self.records.consume(wait) {
            self.held.push_back(message);
            self.take();
        }
    }

    /// Takes about a batch: what is taken out of librdkafka's queue makes room there for as much again.
    fn take(&mut self) -> usize {
        let most = (self.limits.bytes / self.record_size.max(1)).max(1);
        self.records.consume_batch(&mut self.buffer, most, &mut self.held)
    }

    /// Forgets the messages of those partitions that were read and not handed out.
    pub(super) fn drop_held(&mut self, partitions: &[TopicPartition]) {
        let topics = &mut self.topics;
        self.held.retain(|message| !partitions.contains(&topics.partition_of(message.get())));
    }

    /// What is held as a batch, or the error that stands first in it.
    pub(super) fn batch(&mut self) -> Result<Option<Event>, Fault> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let bytes = self.held.iter().take(self.limits.records).map(|message| message.get().size()).sum::<usize>();
        let mut builder = BatchBuilder::with_capacity(
            self.topics.names.clone(),
            self.held.len().min(self.limits.records),
            bytes.min(self.limits.bytes),
        );
        let mut raw_size = 0;
        while let Some(owned) = self.held.pop_front() {
            let message = owned.get();
            let TopicPartition { topic, partition } = self.topics.partition_of(message);
            if message.error() != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                if !builder.is_empty() {
                    self.held.push_front(owned);
                    break;
                }
                return self.error_event(message, topic).map(Some);
            }
            let headers = message.headers(self.limits.headers);
            let copied = headers.as_ref().ok().and_then(Option::as_deref).map_or(0, size_of_headers);
            let size = message.size() + message.key().map_or(0, <[u8]>::len) + copied;
            let fits = builder.len() < self.limits.records && builder.size() + size <= self.limits.bytes;
            if !fits && !builder.is_empty() {
                self.held.push_front(owned);
                break;
            }
            let origin = Origin { topic, partition, offset: message.offset() };
            let (headers, excess) = headers.map_or_else(|excess| (None, Some(excess)), |headers| (headers, None));
            builder.push(origin, message.timestamp(), message.key(), message.value(), headers);
            raw_size += size;
            if let Some(excess) = excess {
                // librdkafka holds all of them beside the record.
                raw_size += if let Excess::Headers { bytes, .. } = excess { bytes } else { UNREAD };
                builder.exceeds(excess);
            }
        }
        self.record_size = raw_size / builder.len().max(1);
        Ok(if builder.is_empty() { None } else { Some(Event::Batch(builder.finish())) })
    }

    /// What a message that is an error means for the loop.
    fn error_event(&self, message: MessageRef<'_>, topic: TopicIndex) -> Result<Event, Fault> {
        let text = message.value().map(String::from_utf8_lossy).unwrap_or_default();
        let text = format!("{}: {text}", describe(message.error()));
        let partition = TopicPartition { topic, partition: message.partition() };
        match message.error() {
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => Ok(Event::OutOfRange(partition)),
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => Ok(Event::End(Position { partition, offset: message.offset() })),
            code if is_configuration(code) => Err(fault(code, text)),
            Code::RD_KAFKA_RESP_ERR__FATAL => Err(Fault::Unknown(text)),
            code if is_missing(code) => Ok(Event::Missing(vanished(self.topics.name(topic)))),
            _ => Ok(Event::Trouble(text)),
        }
    }
}
