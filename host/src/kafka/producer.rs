//! One producer and its topics: made, counted, flushed, and asked what became of what was sent.

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::offset_committer::{OffsetCommitter, Offsets};
use super::raw::{
    CallError, Client, Kind, Queue, QueueEvent, describe, fault, is_configuration, millis_until, outcome,
};
use super::retransmits::{Link, Retransmits};
use super::topics;
use crate::config::plan::Properties;
use crate::record::output::{Output, Outputs};
use crate::record::{Origin, Routes, Topics};
use crate::stream::fault::{Fault, Objection, Refused, Written};

/// Time for `init_transactions`: an old transaction of the same id may have to be aborted first.
const INIT: Duration = Duration::from_secs(10);
/// A wait for room or for the last acknowledgement, before failed deliveries are looked at again.
pub(super) const SLICE: Duration = Duration::from_millis(20);
/// Where the records of an output topic go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Placement {
    /// The input's partition number; counts must be equal.
    Input,
    /// The input's partition number modulo the count: for dead letters, whose topic may be smaller.
    Folded,
    /// murmur2 of the key, as Java's clients do; a null key goes where `Folded` would.
    Key,
}

/// An output topic by name.
#[derive(Clone, Debug)]
pub struct SinkTopic {
    pub name: String,
    pub placement: Placement,
}

/// Whose a transactional id is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holder {
    /// One worker's.
    Worker,
    /// That of one piece of work, whoever does it: who is in doubt about a transaction, or sees the id taken over, ends.
    Work,
    /// That of the member that owns the input: it takes the id over with the partitions, and has no producer before.
    Owner,
}

/// What a producer is made of.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    pub properties: Properties,
    /// `None` is at-least-once.
    pub transactional_id: Option<String>,
    pub holder: Holder,
    pub topics: Routes<SinkTopic>,
    /// The loop's input topics, whose partition counts an output's must equal.
    pub inputs: Topics,
    /// The loop's, whose members are named when somebody takes over the transactional id.
    pub group: String,
    pub counts: PartitionCounts,
}

/// How many partitions a loop's topics have, as the sink has asked last; clones share it.
#[derive(Clone, Debug, Default)]
pub struct PartitionCounts(Arc<ArcSwap<topics::Partitions>>);

impl PartitionCounts {
    pub fn set(&self, found: topics::Partitions) {
        self.0.store(Arc::new(found));
    }

    /// `None` where it was not asked yet.
    pub fn of(&self, topic: &str) -> Option<i32> {
        self.0.load().get(topic).copied().flatten()
    }
}

pub(super) struct Producer {
    // Topics and queue go before the client.
    pub(super) topics: Routes<Topic>,
    pub(super) queue: Queue,
    /// `None` where there are no transactions.
    offset_committer: Option<OffsetCommitter>,
    pub(super) link: Arc<Link>,
}

/// What a delivery report is asked for.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) origin: Origin,
    pub(super) what: Written,
    /// Bytes of a batch that holds it alone, at most.
    pub(super) size: usize,
    /// It has a time of its own; else it was given this machine's.
    pub(super) dated: bool,
}

impl Sent {
    pub(super) fn new(outputs: &Outputs, output: &Output) -> Self {
        let (origin, dated) = (output.origin, output.timestamp.is_some());
        Self { origin, what: output.into(), size: outputs.written_size(output), dated }
    }
}

pub(super) struct Topic {
    pub(super) target: SinkTopic,
    pub(super) handle: *mut rd::rd_kafka_topic_t,
    pub(super) partitions: i32,
    pub(super) limits: topics::Limits,
}

// SAFETY: topic handles may be used from any thread.
unsafe impl Send for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made once by rd_kafka_topic_new, and the client is still alive.
        unsafe { rd::rd_kafka_topic_destroy(self.handle) }
    }
}

impl Producer {
    pub(super) fn new(settings: &SinkSettings) -> Result<Self, Fault> {
        let mut properties = settings.properties.clone();
        if let Some(id) = &settings.transactional_id {
            properties.0.insert("transactional.id".into(), id.clone());
        }
        let names: Vec<&str> = settings.topics.iter().map(|topic| topic.name.as_str()).collect();
        let limits = topics::limits(&properties, &names);
        // A batch that outgrew one topic's limit would be refused with every record in it.
        let sizes = || limits.values().map(|limits| limits.max_bytes);
        if let Some(least) = sizes().min() {
            let batch =
                properties.0.get("batch.size").and_then(|size| size.parse().ok()).unwrap_or(1_000_000).min(least);
            properties.0.insert("batch.size".into(), batch.to_string());
            let most = sizes().max().unwrap_or(least);
            properties.0.entry("message.max.bytes".into()).or_insert_with(|| most.to_string());
        }
        let retransmits = Retransmits::default();
        let events = rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR;
        // SAFETY: the configuration is alive; the fields of a producer are dropped in their order.
        let client = Client::with(Kind::Producer, &properties, events, |conf| unsafe { retransmits.watch(conf) })?;
        let topics = settings.topics.try_map(|topic| {
            let name = CString::new(topic.name.as_str())
                .map_err(|_| Fault::Configuration(format!("topic {:?} holds a NUL byte", topic.name)))?;
            // SAFETY: client and name are alive.
            let handle = unsafe { rd::rd_kafka_topic_new(client.ptr(), name.as_ptr(), ptr::null_mut()) };
            let limits = limits.get(&topic.name).copied().unwrap_or(topics::Limits::UNKNOWN);
            Ok(Topic { target: topic.clone(), handle, partitions: 0, limits })
        })?;
        let link = Arc::new(Link { client, retransmits });
        let mut producer = Self {
            topics,
            queue: Queue::main(&link.client),
            offset_committer: (settings.transactional_id.is_some())
                .then(|| OffsetCommitter::start(link.clone()))
                .transpose()?,
            link,
        };
        if settings.transactional_id.is_some() {
            producer.init_transactions()?;
        }
        producer.count_partitions(settings)?;
        Ok(producer)
    }

    pub(super) fn client(&self) -> &Client {
        &self.link.client
    }

    pub(super) fn send_offsets(&self, offsets: &Arc<Offsets>, deadline: Instant) -> Result<(), CallError> {
        let none = || Err(CallError::Fault(Fault::Unknown("this producer has no transactions".into())));
        self.offset_committer.as_ref().map_or_else(none, |committer| committer.send(offsets, deadline))
    }

    fn init_transactions(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + INIT;
        loop {
            // SAFETY: the client is alive and transactional.
            let error = unsafe { rd::rd_kafka_init_transactions(self.client().ptr(), millis_until(deadline)) };
            match outcome(error) {
                Ok(()) => return Ok(()),
                Err(CallError::Retry(_)) if Instant::now() < deadline => {}
                Err(CallError::Retry(message) | CallError::Fenced(message)) => return Err(Fault::Unknown(message)),
                Err(CallError::Fault(fault)) => return Err(fault),
            }
        }
    }

    pub(super) fn count_partitions(&mut self, settings: &SinkSettings) -> Result<topics::Partitions, Fault> {
        let names = settings.topics.iter().map(|topic| topic.name.as_str());
        let names: Vec<&str> = names.chain(settings.inputs.names().iter().map(String::as_str)).collect();
        let found = topics::partitions_by(self.client(), &names)?;
        for topic in self.topics.iter_mut() {
            let target = &topic.target;
            topic.partitions = found.get(&target.name).copied().flatten().ok_or_else(|| {
                Fault::Configuration(format!(
                    "topic {} does not exist; `sandpiper check --connect` says how to create it",
                    target.name
                ))
            })?;
        }
        settings.counts.set(found.clone());
        Ok(found)
    }

    /// Looks at failed deliveries and errors; the first that matters is the transaction's.
    pub(super) fn serve(&self, sent: &[Sent]) -> Result<(), Fault> {
        let mut result = Ok(());
        while let Some(event) = self.queue.poll(Duration::ZERO) {
            result = both(
                result,
                match event.kind() {
                    rd::RD_KAFKA_EVENT_DR => reports(&event, sent),
                    rd::RD_KAFKA_EVENT_ERROR if is_configuration(event.error()) => {
                        Err(fault(event.error(), event.message()))
                    }
                    rd::RD_KAFKA_EVENT_ERROR if event.error() == Code::RD_KAFKA_RESP_ERR__FATAL => {
                        Err(Fault::Unknown(event.message()))
                    }
                    _ => Ok(()),
                },
            );
        }
        result
    }

    /// Waits until everything is acknowledged.
    pub(super) fn flush(&self, sent: &[Sent], deadline: Instant) -> Result<(), Fault> {
        loop {
            // SAFETY: the client is alive.
            let code = unsafe {
                rd::rd_kafka_flush(self.client().ptr(), millis_until(deadline).min(SLICE.as_millis() as i32))
            };
            self.serve(sent)?;
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Fault::Unknown("the brokers did not acknowledge the outputs in time".into()));
            }
        }
    }

    pub(super) fn purge(&self) {
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_purge(self.client().ptr(), rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT) };
    }
}

/// What two results of one transaction come to: refused records are gathered and go before an abort without a
/// reason, anything graver goes before them.
pub(super) fn both(first: Result<(), Fault>, second: Result<(), Fault>) -> Result<(), Fault> {
    match (first, second) {
        (Err(Fault::Refused(mut all)), Err(Fault::Refused(more))) => {
            all.extend(more);
            Err(Fault::Refused(all))
        }
        (Ok(()) | Err(Fault::Abortable(_)), Err(fault)) => Err(fault),
        (Err(Fault::Refused(_)), Err(fault @ (Fault::Unknown(_) | Fault::Denied(_) | Fault::Configuration(_)))) => {
            Err(fault)
        }
        (first, _) => first,
    }
}

/// The failed deliveries of an event.
fn reports(event: &QueueEvent, sent: &[Sent]) -> Result<(), Fault> {
    let mut fault = Ok(());
    loop {
        // SAFETY: the event is alive and owns its messages.
        let message = unsafe { rd::rd_kafka_event_message_next(event.ptr()) };
        if message.is_null() {
            return fault;
        }
        // SAFETY: as above; the opaque value is the index that was given, never a pointer.
        let (code, index) = unsafe { ((*message).err, (*message)._private as usize) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            fault = both(fault, Err(refused(code, sent.get(index.wrapping_sub(1)).copied())));
        }
    }
}

/// What a delivery's error means for its transaction.
pub(super) fn refused(code: rd::rd_kafka_resp_err_t, sent: Option<Sent>) -> Fault {
    let message = describe(code);
    match sent {
        Some(Sent { dated: false, .. }) if code == Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP => {
            Fault::Abortable(format!(
                "{message}: this machine's clock is further from the broker's than the output topic's \
                 message.timestamp.after.max.ms or message.timestamp.before.max.ms: set the clock"
            ))
        }
        Some(Sent { origin, what, size, .. }) if let Some(objection) = objection(code, size) => {
            Fault::Refused(vec![Refused { origin, message, what, objection }])
        }
        _ if is_configuration(code) => fault(code, message),
        _ => Fault::Abortable(format!("an output was not delivered: {message}")),
    }
}

/// What a delivery's error has against a record of that size; `None` where it is not the record's.
fn objection(code: rd::rd_kafka_resp_err_t, size: usize) -> Option<Objection> {
    match code {
        // How much the broker takes it does not say.
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
        | Code::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE
        | Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE => Some(Objection::Size { fits: size / 2 }),
        Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP => Some(Objection::Time),
        Code::RD_KAFKA_RESP_ERR_INVALID_RECORD
        | Code::RD_KAFKA_RESP_ERR_INVALID_MSG
        | Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION => Some(Objection::Unnamed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicIndex;

    fn sent(dated: bool) -> Option<Sent> {
        let origin = Origin { topic: TopicIndex::FIRST, partition: 1, offset: 2 };
        Some(Sent { origin, what: Written::Letter, size: 1_000, dated })
    }

    #[test]
    fn a_time_that_the_broker_refuses_is_the_records_fault_only_where_it_is_the_records_own() {
        let code = Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
        assert!(matches!(refused(code, sent(true)), Fault::Refused(_)));
        assert!(matches!(refused(code, sent(false)), Fault::Abortable(message) if message.contains("set the clock")));
    }

    #[test]
    fn of_several_faults_of_a_transaction_the_gravest_counts_and_refusals_are_gathered() {
        let one = || Err(refused(Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, sent(true)));
        assert!(matches!(both(one(), one()), Err(Fault::Refused(all)) if all.len() == 2));
        let other = || Err(refused(Code::RD_KAFKA_RESP_ERR__TIMED_OUT, sent(true)));
        assert!(matches!(both(other(), one()), Err(Fault::Refused(_))));
        let gone = Err(refused(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, sent(true)));
        assert!(matches!(both(one(), gone), Err(Fault::Denied(_))));
    }
}
