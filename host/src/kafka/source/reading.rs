//! What the queue of all assigned partitions holds, taken out as batches.

use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::super::raw::{describe, is_configuration};
use super::{KafkaSource, is_missing, vanished};
use crate::record::{BatchBuilder, Headers, Origin, TopicIndex};
use crate::stream::fault::Fault;
use crate::stream::source::{Event, TopicPartition};

/// A message, destroyed when dropped.
pub(super) struct Message(*mut rd::rd_kafka_message_t);

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: taken from a queue once, destroyed once.
        unsafe { rd::rd_kafka_message_destroy(self.0) }
    }
}

impl Message {
    pub(super) fn facts(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: alive until dropped; nobody writes to it.
        unsafe { &*self.0 }
    }

    fn value(&self) -> Option<&[u8]> {
        bytes(self.facts().payload, self.facts().len)
    }

    fn key(&self) -> Option<&[u8]> {
        bytes(self.facts().key, self.facts().key_len)
    }

    fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let timestamp = unsafe { rd::rd_kafka_message_timestamp(self.0, &mut kind) };
        (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0).then_some(timestamp)
    }

    fn headers(&self) -> Option<Box<Headers>> {
        let mut raw = ptr::null_mut();
        // SAFETY: the message is alive and keeps the headers.
        if unsafe { rd::rd_kafka_message_headers(self.0, &mut raw) } != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let mut headers = Headers::new();
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers are alive; name and value point into them.
            unsafe {
                let found = rd::rd_kafka_header_get_all(raw, headers.len(), &mut name, &mut value, &mut size);
                if found != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return if headers.is_empty() { None } else { Some(Box::new(headers)) };
                }
                let value = bytes(value.cast_mut(), size).map(<[u8]>::to_vec);
                headers.push((CStr::from_ptr(name).to_string_lossy().into_owned(), value));
            }
        }
    }
}

/// librdkafka's null and empty, told apart.
fn bytes<'a>(start: *mut std::ffi::c_void, size: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: librdkafka gives pointer and length of memory that lives as long as the message that is borrowed.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) })
}

impl KafkaSource {
    /// Takes what is there, waiting for the first record only: the batch call alone would wait to be filled.
    pub(super) fn read(&mut self, wait: Duration) {
        if self.drain() > 0 || wait.is_zero() {
            return;
        }
        // SAFETY: the queue is alive; a message that is not null is ours.
        let message = unsafe { rd::rd_kafka_consume_queue(self.records.ptr(), wait.as_millis().max(1) as i32) };
        if !message.is_null() {
            self.held.push_back(Message(message));
            self.drain();
        }
    }

    fn drain(&mut self) -> usize {
        // SAFETY: the buffer has room for that many pointers; librdkafka's count says how many it wrote.
        let count = unsafe {
            rd::rd_kafka_consume_batch_queue(self.records.ptr(), 0, self.buffer.as_mut_ptr(), self.buffer.len())
        };
        let count = count.max(0) as usize;
        self.held.extend(self.buffer.iter().take(count).map(|message| Message(*message)));
        count
    }

    pub(super) fn topic_of(&mut self, message: &rd::rd_kafka_message_t) -> TopicIndex {
        if let Some((_, topic)) = self.handles.iter().find(|(handle, _)| *handle == message.rkt) {
            return *topic;
        }
        // SAFETY: the message's topic handle is alive, its name terminated.
        let name = unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(message.rkt)) };
        let topic = self.topics.index(&name.to_string_lossy()).unwrap_or(TopicIndex::FIRST);
        self.handles.push((message.rkt, topic));
        topic
    }

    /// What is held as a batch, or the error that stands first in it.
    pub(super) fn batch(&mut self) -> Result<Option<Event>, Fault> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let bytes = self.held.iter().take(self.limits.records).map(|message| message.facts().len).sum::<usize>();
        let mut builder = BatchBuilder::with_capacity(
            self.topics.clone(),
            self.held.len().min(self.limits.records),
            bytes.min(self.limits.bytes),
        );
        while let Some(message) = self.held.pop_front() {
            let facts = message.facts();
            let topic = self.topic_of(facts);
            if facts.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                if !builder.is_empty() {
                    self.held.push_front(message);
                    break;
                }
                return self.error(&message, topic);
            }
            let fits = builder.len() < self.limits.records && builder.bytes() + facts.len <= self.limits.bytes;
            if !fits && !builder.is_empty() {
                self.held.push_front(message);
                break;
            }
            let origin = Origin { topic, partition: facts.partition, offset: facts.offset };
            builder.push(origin, message.timestamp(), message.key(), message.value(), message.headers());
        }
        Ok(if builder.is_empty() { None } else { Some(Event::Batch(builder.finish())) })
    }

    fn error(&self, message: &Message, topic: TopicIndex) -> Result<Option<Event>, Fault> {
        let facts = message.facts();
        let text = message.value().map(String::from_utf8_lossy).unwrap_or_default();
        let text = format!("{}: {text}", describe(facts.err));
        match facts.err {
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
                Ok(Some(Event::OutOfRange(TopicPartition { topic, partition: facts.partition })))
            }
            code if is_configuration(code) => Err(Fault::Configuration(text)),
            Code::RD_KAFKA_RESP_ERR__FATAL => Err(Fault::Unknown(text)),
            code if is_missing(code) => Ok(Some(Event::Missing(vanished(self.topics.name(topic))))),
            _ => Ok(Some(Event::Trouble(text))),
        }
    }
}
