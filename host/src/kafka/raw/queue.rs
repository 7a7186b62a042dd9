//! Queues that events or messages are taken from.

use std::collections::VecDeque;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::list::{Element, elements_of};
use super::{Client, Code, Message, MessageRef};

/// A queue of ours, or a reference to one of the client's.
pub struct Queue(*mut rd::rd_kafka_queue_t);

// SAFETY: queues may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    pub fn own(client: &Client) -> Self {
        // SAFETY: the client is alive.
        Self(unsafe { rd::rd_kafka_queue_new(client.ptr()) })
    }

    pub fn of_consumer(client: &Client) -> Self {
        // SAFETY: the client is alive and a consumer.
        Self(unsafe { rd::rd_kafka_queue_get_consumer(client.ptr()) })
    }

    /// A partition's, or none where librdkafka knows of no such partition.
    pub fn of_partition(client: &Client, topic: &CStr, partition: i32) -> Option<Self> {
        // SAFETY: the client is alive, the name terminated; a queue that is not null is a reference of ours.
        let queue = unsafe { rd::rd_kafka_queue_get_partition(client.ptr(), topic.as_ptr(), partition) };
        if queue.is_null() { None } else { Some(Self(queue)) }
    }

    pub fn main(client: &Client) -> Self {
        // SAFETY: the client is alive.
        Self(unsafe { rd::rd_kafka_queue_get_main(client.ptr()) })
    }

    pub fn ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.0
    }

    /// Has everything that comes here arrive there from now on.
    pub fn forward(&self, to: &Queue) {
        // SAFETY: both queues are alive; librdkafka holds on to the second for as long as it needs it.
        unsafe { rd::rd_kafka_queue_forward(self.0, to.0) }
    }

    /// The next event, if one comes within the time.
    pub fn poll(&self, wait: Duration) -> Option<QueueEvent> {
        // SAFETY: the queue is alive.
        let event = unsafe { rd::rd_kafka_queue_poll(self.0, wait.as_millis() as c_int) };
        if event.is_null() { None } else { Some(QueueEvent(event)) }
    }

    /// The next message, if one comes within the time.
    pub fn consume(&self, wait: Duration) -> Option<Message> {
        // SAFETY: the queue is alive; a message that is not null is ours.
        unsafe { Message::own(rd::rd_kafka_consume_queue(self.0, wait.as_millis().max(1) as c_int)) }
    }

    /// Moves messages that are there behind those of `to`, as many as that and as the buffer has room for; says how many.
    pub fn consume_batch(&self, buffer: &mut MessageBuffer, most: usize, to: &mut VecDeque<Message>) -> usize {
        let room = buffer.0.len().min(most);
        // SAFETY: the buffer has room for that many pointers; librdkafka's count says how many it wrote.
        let count = unsafe { rd::rd_kafka_consume_batch_queue(self.0, 0, buffer.0.as_mut_ptr(), room) };
        let count = count.max(0) as usize;
        // SAFETY: each of these was written just now, and is ours.
        to.extend(buffer.0.iter().take(count).filter_map(|message| unsafe { Message::own(*message) }));
        count
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: this is the only owner of this reference.
        unsafe { rd::rd_kafka_queue_destroy(self.0) }
    }
}

/// Room for the pointers that one call writes. It holds no message between calls.
pub struct MessageBuffer(Vec<*mut rd::rd_kafka_message_t>);

// SAFETY: between calls nobody looks at these pointers.
unsafe impl Send for MessageBuffer {}

impl MessageBuffer {
    pub fn with_room_for(messages: usize) -> Self {
        Self(vec![ptr::null_mut(); messages.max(1)])
    }
}

/// An event that was polled.
pub struct QueueEvent(*mut rd::rd_kafka_event_t);

impl QueueEvent {
    pub fn ptr(&self) -> *mut rd::rd_kafka_event_t {
        self.0
    }

    /// One of `RD_KAFKA_EVENT_…`.
    pub fn kind(&self) -> c_int {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_type(self.0) }
    }

    pub fn error(&self) -> Code {
        // SAFETY: the event is alive.
        unsafe { rd::rd_kafka_event_error(self.0) }
    }

    /// Whether it is an error after which its client does nothing any more. The code is then the reason's, not `__FATAL`.
    pub fn is_fatal(&self) -> bool {
        // SAFETY: the event is alive; only an error's says whether it is fatal.
        self.kind() == rd::RD_KAFKA_EVENT_ERROR && unsafe { rd::rd_kafka_event_error_is_fatal(self.0) } != 0
    }

    pub fn message(&self) -> String {
        // SAFETY: the event is alive and owns the string, which may be absent.
        unsafe {
            let text = rd::rd_kafka_event_error_string(self.0);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }

    /// The partitions of a rebalance.
    pub fn partitions(&self) -> Vec<Element> {
        // SAFETY: the event is alive and owns the list, which may be absent.
        unsafe { elements_of(rd::rd_kafka_event_topic_partition_list(self.0)) }
    }

    /// The partition that an error is about, and its offset, where there is one.
    pub fn partition(&self) -> Option<Element> {
        // SAFETY: the event is alive; the partition is made for this call, copied and freed.
        unsafe {
            let partition = rd::rd_kafka_event_topic_partition(self.0);
            let element = Element::read(partition.as_ref()?);
            rd::rd_kafka_topic_partition_destroy(partition);
            Some(element)
        }
    }

    /// The record that was fetched, once. The event owns it.
    pub fn fetched(&self) -> Option<MessageRef<'_>> {
        if self.kind() != rd::RD_KAFKA_EVENT_FETCH {
            return None;
        }
        // SAFETY: the event is alive, and so is its message for as long.
        unsafe { MessageRef::borrow(rd::rd_kafka_event_message_next(self.0)) }
    }
}

impl Drop for QueueEvent {
    fn drop(&mut self) {
        // SAFETY: polled once, destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0) }
    }
}
