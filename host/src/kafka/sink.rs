//! A producer for one worker: transactional for exactly-once, idempotent for at-least-once.

use std::collections::HashSet;
use std::ffi::{CString, c_void};
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::members;
use super::offsets::Offsets;
pub use super::producer::{Placement, SinkSettings, SinkTopic};
use super::producer::{Producer, SLICE, refused};
use super::raw::{List, Verdict, millis_until, verdict};
use super::source::{Group, vanished};
use crate::failpoint;
use crate::fault::{Fault, Refused};
use crate::output::{Output, Outputs};
use crate::record::Origin;
use crate::sink::Sink;
use crate::source::{Position, TopicPartition};

/// Fenced again within this time, without a timeout of our own, means two holders of one id.
const FENCED_TWICE: Duration = Duration::from_secs(300);
/// The broker ends a transaction for some milliseconds after it has answered. A partition that the next one adds
/// meanwhile is refused, and librdkafka asks again only 20 ms later: so outputs rest here that long, or until this many
/// batches do.
const REST: Duration = Duration::from_millis(4);
const RESTING: usize = 4;
/// An abort waits that long, then failed deliveries are taken and it goes on.
const ABORT: Duration = Duration::from_millis(100);

pub struct KafkaSink {
    /// `None` only while a recovery that failed waits to be tried again.
    producer: Option<Producer>,
    settings: SinkSettings,
    /// Where each record of the open transaction came from; a delivery report names its index.
    sent: Vec<(Origin, bool)>,
    /// A broker refuses a batch for one record in it: what was refused together is sent alone the next time.
    suspects: HashSet<Origin>,
    in_transaction: bool,
    /// When the last transaction was answered.
    ended: Instant,
    /// Outputs that rest, and buffers for the next ones.
    resting: Vec<Outputs>,
    spare: Vec<Outputs>,
    fenced: Option<Instant>,
}

impl KafkaSink {
    /// Connects; a transaction that an earlier holder of the id left open is resolved when this returns.
    ///
    /// # Errors
    /// `Configuration` when librdkafka or the broker refuses the settings or a topic is missing, `Unknown` when no
    /// broker answers in time.
    pub fn new(settings: SinkSettings) -> Result<Self, Fault> {
        let producer = Producer::new(&settings)?;
        Ok(Self {
            producer: Some(producer),
            settings,
            sent: Vec::new(),
            suspects: HashSet::new(),
            in_transaction: false,
            ended: Instant::now(),
            resting: Vec::new(),
            spare: Vec::new(),
            fenced: None,
        })
    }

    /// The same call until it is done, failed or out of time.
    fn repeat(
        &mut self,
        what: &str,
        deadline: Instant,
        mut call: impl FnMut(&Producer) -> Option<Verdict>,
    ) -> Result<(), Fault> {
        loop {
            let producer = self.producer()?;
            match call(producer) {
                None => return Ok(()),
                Some(Verdict::Fault(fault)) => {
                    // The reason for an abort may be a refused record, which says more than the abort itself.
                    producer.serve(&self.sent)?;
                    return Err(fault);
                }
                Some(Verdict::Fenced(message)) => return Err(self.note_fencing(message)),
                Some(Verdict::Again(message)) if Instant::now() >= deadline => {
                    return Err(Fault::Unknown(format!("{what} did not come to an end in time: {message}")));
                }
                Some(Verdict::Again(_)) => std::thread::sleep(SLICE),
            }
        }
    }

    /// A new producer where a request of the transaction that ended may still arrive.
    fn keep_strays_out(&mut self) -> Result<(), Fault> {
        if !self.is_transactional() || !self.producer()?.link.strays.may_arrive() {
            return Ok(());
        }
        tracing::info!(
            "a transaction's end was sent twice: a new producer keeps the first out of the next transaction"
        );
        self.recover()
    }

    fn producer(&self) -> Result<&Producer, Fault> {
        self.producer.as_ref().ok_or_else(|| Fault::Unknown("the producer is not connected".into()))
    }

    fn note_fencing(&mut self, message: String) -> Fault {
        let id = self.settings.transactional_id.clone().unwrap_or_default();
        let before = self.fenced.replace(Instant::now());
        if before.is_some_and(|before| before.elapsed() < FENCED_TWICE) {
            let holders = members::holders(&self.settings.properties, &self.settings.group);
            return Fault::Configuration(format!(
                "the transactional id {id} was taken over twice within five minutes: another daemon runs with the same \
                 instance id: {holders}; give each its own with --instance or its own state directory with --state"
            ));
        }
        Fault::Unknown(format!("the transactional id {id} was taken over: {message}"))
    }

    /// Where a record goes.
    fn place(&self, producer: &Producer, outputs: &Outputs, output: &Output) -> i32 {
        let index = usize::from(output.topic);
        let (Some(topic), Some(target)) = (producer.topics.get(index), self.settings.topics.get(index)) else {
            return 0;
        };
        match (target.placement, output.key) {
            (Placement::Input, _) => output.origin.partition,
            (Placement::Key, Some(key)) => {
                let key = outputs.bytes(key);
                // SAFETY: the key's pointer and length belong together; the other arguments are not looked at.
                unsafe {
                    rd::rd_kafka_msg_partitioner_murmur2(
                        topic.handle,
                        key.as_ptr().cast(),
                        key.len(),
                        topic.partitions,
                        ptr::null_mut(),
                        ptr::null_mut(),
                    )
                }
            }
            (Placement::Folded | Placement::Key, _) => output.origin.partition % topic.partitions.max(1),
        }
    }

    /// Hands over records that carry neither header nor timestamp: one call for all of a topic.
    fn send_plain(&mut self, outputs: &Outputs, records: &[Output], deadline: Instant) -> Result<(), Fault> {
        let first = self.sent.len();
        self.sent.extend(records.iter().map(|output| (output.origin, output.last_resort)));
        let producer = self.producer()?;
        let mut messages: Vec<rd::rd_kafka_message_t> = Vec::with_capacity(records.len());
        for (at, output) in records.iter().enumerate() {
            let (payload, len) = raw(outputs, output.value);
            let (key, key_len) = raw(outputs, output.key);
            // SAFETY: a message of zeros is librdkafka's empty message.
            let mut message: rd::rd_kafka_message_t = unsafe { mem::zeroed() };
            (message.payload, message.len) = (payload, len);
            (message.key, message.key_len) = (key, key_len);
            message.partition = self.place(producer, outputs, output);
            message._private = (first + at + 1) as *mut c_void;
            messages.push(message);
        }
        let topic = records.first().and_then(|output| producer.topics.get(usize::from(output.topic)));
        let Some(handle) = topic.map(|topic| topic.handle) else { return Ok(()) };
        let mut rest = messages.as_mut_slice();
        loop {
            // SAFETY: handle and messages are alive; librdkafka copies key and value.
            let taken = unsafe {
                rd::rd_kafka_produce_batch(
                    handle,
                    -1,
                    rd::RD_KAFKA_MSG_F_COPY | rd::RD_KAFKA_MSG_F_PARTITION,
                    rest.as_mut_ptr(),
                    rest.len() as i32,
                )
            };
            if taken as usize == rest.len() {
                return Ok(());
            }
            // A full queue fails this message and all behind it, so their order holds when they are sent again.
            let failed =
                rest.iter().position(|message| message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap_or(rest.len());
            let Some(message) = rest.get(failed) else { return Ok(()) };
            if message.err != Code::RD_KAFKA_RESP_ERR__QUEUE_FULL {
                let index = message._private as usize;
                return Err(refused(message.err, self.sent.get(index.wrapping_sub(1)).copied()));
            }
            self.wait_for_room(producer, deadline)?;
            rest = rest.get_mut(failed..).unwrap_or_default();
        }
    }

    fn send_one(&mut self, outputs: &Outputs, output: &Output, deadline: Instant) -> Result<(), Fault> {
        use rd::rd_kafka_vtype_t as Type;
        self.sent.push((output.origin, output.last_resort));
        let opaque = self.sent.len();
        let producer = self.producer()?;
        let Some(topic) = producer.topics.get(usize::from(output.topic)) else { return Ok(()) };
        let partition = self.place(producer, outputs, output);
        loop {
            // SAFETY: zeroed unions are valid, and each is filled by its type below.
            let mut fields: [rd::rd_kafka_vu_t; 8] = unsafe { mem::zeroed() };
            let mut count = 0;
            let mut field = |kind: Type, fill: &dyn Fn(&mut rd::rd_kafka_vu_s__bindgen_ty_1)| {
                if let Some(field) = fields.get_mut(count) {
                    field.vtype = kind;
                    fill(&mut field.u);
                    count += 1;
                }
            };
            field(Type::RD_KAFKA_VTYPE_RKT, &|u| u.rkt = topic.handle);
            field(Type::RD_KAFKA_VTYPE_PARTITION, &|u| u.i32_ = partition);
            field(Type::RD_KAFKA_VTYPE_MSGFLAGS, &|u| u.i = rd::RD_KAFKA_MSG_F_COPY);
            field(Type::RD_KAFKA_VTYPE_OPAQUE, &|u| u.ptr = opaque as *mut c_void);
            let (value, value_len) = raw(outputs, output.value);
            let (key, key_len) = raw(outputs, output.key);
            field(Type::RD_KAFKA_VTYPE_VALUE, &|u| {
                u.mem = rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: value, size: value_len }
            });
            field(Type::RD_KAFKA_VTYPE_KEY, &|u| {
                u.mem = rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: key, size: key_len }
            });
            if let Some(timestamp) = output.timestamp {
                field(Type::RD_KAFKA_VTYPE_TIMESTAMP, &|u| u.i64_ = timestamp);
            }
            let headers = output.headers.as_deref().map(native_headers);
            if let Some(headers) = headers {
                field(Type::RD_KAFKA_VTYPE_HEADERS, &|u| u.headers = headers);
            }
            // SAFETY: all pointers are alive; librdkafka copies key and value and owns the headers when it succeeds.
            let error = unsafe { rd::rd_kafka_produceva(producer.client().ptr(), fields.as_ptr(), count) };
            if error.is_null() {
                return Ok(());
            }
            // SAFETY: the call failed, so the headers are still ours; the error is read and freed.
            let code = unsafe {
                if let Some(headers) = headers {
                    rd::rd_kafka_headers_destroy(headers);
                }
                let code = rd::rd_kafka_error_code(error);
                rd::rd_kafka_error_destroy(error);
                code
            };
            if code != Code::RD_KAFKA_RESP_ERR__QUEUE_FULL {
                return Err(refused(code, Some((output.origin, output.last_resort))));
            }
            self.wait_for_room(producer, deadline)?;
        }
    }

    /// The records that their topic is known not to take.
    fn unfit(&self, outputs: &Outputs, records: &[Output]) -> Result<Option<Vec<Refused>>, Fault> {
        let producer = self.producer()?;
        let why = |output: &Output| {
            let limits = producer.topics.get(usize::from(output.topic))?.limits;
            let size = size(outputs, output);
            if size > limits.max_bytes {
                return Some(format!(
                    "its {size} bytes are more than max.message.bytes = {} of its topic",
                    limits.max_bytes
                ));
            }
            (limits.compacted && output.key.is_none()).then(|| "its key is null, and its topic is compacted".to_owned())
        };
        let refused: Vec<Refused> = (records.iter())
            .filter_map(|output| {
                let message = why(output)?;
                Some(Refused { origin: output.origin, message, last_resort: output.last_resort })
            })
            .collect();
        Ok(if refused.is_empty() { None } else { Some(refused) })
    }

    /// What the broker refused is certain only for a record that stood alone in its batch.
    fn certain(&mut self, result: Result<(), Fault>) -> Result<(), Fault> {
        match result {
            Err(Fault::Refused(refused)) if refused.len() > 1 => {
                let (alone, together): (Vec<_>, Vec<_>) =
                    refused.into_iter().partition(|refused| self.suspects.contains(&refused.origin));
                if !alone.is_empty() {
                    return Err(Fault::Refused(alone));
                }
                let why = together.first().map(|refused| refused.message.clone()).unwrap_or_default();
                let message =
                    format!("{} outputs were refused together and are sent one by one now: {why}", together.len());
                self.suspects.extend(together.iter().map(|refused| refused.origin));
                Err(Fault::Abortable(message))
            }
            result => result,
        }
    }

    fn send_all(&mut self, outputs: &Outputs, deadline: Instant) -> Result<(), Fault> {
        self.producer()?.serve(&self.sent)?;
        let is_suspect = |sink: &Self, output: &Output| sink.suspects.contains(&output.origin);
        let mut rest = outputs.records.as_slice();
        while let Some(first) = rest.first() {
            let alone = is_suspect(self, first);
            let joins = |output: &&Output| {
                !alone && is_plain(output) && output.topic == first.topic && !is_suspect(self, output)
            };
            let run = rest.iter().take_while(joins).count().max(1);
            let (records, behind) = rest.split_at(run);
            rest = behind;
            if alone {
                self.producer()?.flush(&self.sent, deadline)?;
            }
            if is_plain(first) {
                self.send_plain(outputs, records, deadline)?;
            } else {
                self.send_one(outputs, first, deadline)?;
            }
            failpoint::pass(failpoint::IN_PRODUCE)?;
            if alone {
                self.producer()?.flush(&self.sent, deadline)?;
            }
        }
        Ok(())
    }

    fn send_resting(&mut self, deadline: Instant) -> Result<(), Fault> {
        for outputs in mem::take(&mut self.resting) {
            let sent = self.send_all(&outputs, deadline);
            self.spare.push(outputs);
            self.certain(sent)?;
        }
        Ok(())
    }

    fn wait_for_room(&self, producer: &Producer, deadline: Instant) -> Result<(), Fault> {
        if Instant::now() >= deadline {
            return Err(Fault::Unknown(
                "the brokers take the outputs too slowly: the producer's queue stayed full".into(),
            ));
        }
        // SAFETY: the client is alive. It ends as soon as the queue is empty.
        unsafe { rd::rd_kafka_flush(producer.client().ptr(), SLICE.as_millis() as i32) };
        producer.serve(&self.sent)
    }
}

/// A batch's header and a record's own fields, at most.
const OVERHEAD: usize = 61 + 25;

/// Bytes of a batch that holds this record alone.
fn size(outputs: &Outputs, output: &Output) -> usize {
    let span = |span: Option<crate::output::Span>| span.map_or(0, |span| outputs.bytes(span).len());
    let header = |(name, value): &(String, Option<Vec<u8>>)| name.len() + value.as_ref().map_or(0, Vec::len) + 10;
    let headers: usize = output.headers.iter().flat_map(|headers| headers.iter()).map(header).sum();
    OVERHEAD + span(output.key) + span(output.value) + headers
}

fn is_plain(output: &Output) -> bool {
    output.headers.is_none() && output.timestamp.is_none()
}

/// Pointer and length as librdkafka takes them: a null pointer is null, an empty slice is empty.
fn raw(outputs: &Outputs, span: Option<crate::output::Span>) -> (*mut c_void, usize) {
    match span {
        None => (ptr::null_mut(), 0),
        Some(span) => {
            let bytes = outputs.bytes(span);
            (bytes.as_ptr().cast_mut().cast(), bytes.len())
        }
    }
}

fn native_headers(headers: &crate::record::Headers) -> *mut rd::rd_kafka_headers_t {
    // SAFETY: names and values are given with their lengths and copied; the list is the caller's.
    unsafe {
        let native = rd::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let (start, size) = value.as_ref().map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            rd::rd_kafka_header_add(native, name.as_ptr().cast(), name.len() as isize, start.cast(), size as isize);
        }
        native
    }
}

impl Sink for KafkaSink {
    type Group = Group;

    fn is_transactional(&self) -> bool {
        self.settings.transactional_id.is_some()
    }

    fn check(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        let Some(producer) = &mut self.producer else {
            return Err(Fault::Unknown("the producer is not connected".into()));
        };
        let found = producer.count_partitions(&self.settings)?;
        for (topic, target) in producer.topics.iter().zip(&self.settings.topics) {
            if target.placement != Placement::Input {
                continue;
            }
            for partition in partitions {
                let Some(input) = self.settings.inputs.get(usize::from(partition.topic)) else { continue };
                let Some(inputs) = found.get(input).copied().flatten() else {
                    return Err(Fault::Unknown(vanished(input)));
                };
                if topic.partitions != inputs {
                    return Err(Fault::Configuration(format!(
                        "topic {} has {} partitions and {input} has {inputs}: an output keeps its input's partition number; \
                         make them equal, or set [output] partition = \"key\"",
                        target.name, topic.partitions
                    )));
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.sent.clear();
        self.producer()?.link.strays.reset();
        if self.is_transactional() {
            self.repeat("begin", Instant::now(), |producer| {
                // SAFETY: the client is alive; this is local, no request.
                verdict(unsafe { rd::rd_kafka_begin_transaction(producer.client().ptr()) })
            })?;
        }
        self.in_transaction = true;
        failpoint::pass(failpoint::AFTER_BEGIN)
    }

    fn rested(&self) -> Option<Instant> {
        self.is_transactional().then_some(self.ended + REST)
    }

    fn send(&mut self, outputs: &mut Outputs, deadline: Instant) -> Result<(), Fault> {
        if let Some(unfit) = self.unfit(outputs, &outputs.records)? {
            return Err(Fault::Refused(unfit));
        }
        self.resting.push(mem::replace(outputs, self.spare.pop().unwrap_or_default()));
        if self.resting.len() < RESTING && self.ended.elapsed() < REST {
            return Ok(());
        }
        self.send_resting(deadline)
    }

    fn commit(&mut self, positions: &[Position], metadata: &str, group: Group, deadline: Instant) -> Result<(), Fault> {
        self.send_resting(deadline)?;
        let flushed = self.producer()?.flush(&self.sent, deadline);
        self.certain(flushed)?;
        if self.is_transactional() {
            let mut list = List::default();
            for position in positions {
                let topic = self.settings.inputs.get(usize::from(position.partition.topic));
                let name = topic.and_then(|topic| CString::new(topic.as_str()).ok()).unwrap_or_default();
                list.add(&name, position.partition.partition, position.offset, metadata);
            }
            let offsets = Arc::new(Offsets { list, group });
            self.repeat("sending the offsets", deadline, |producer| producer.offsets.send(&offsets, deadline))?;
            failpoint::pass(failpoint::AFTER_OFFSETS)?;
            self.repeat("the commit", deadline, |producer| {
                // SAFETY: the client is alive.
                verdict(unsafe { rd::rd_kafka_commit_transaction(producer.client().ptr(), millis_until(deadline)) })
            })?;
            failpoint::pass(failpoint::AFTER_END)?;
        }
        self.in_transaction = false;
        self.ended = Instant::now();
        self.suspects.clear();
        if let Err(fault) = self.keep_strays_out() {
            // What is committed stays so; without a producer the next transaction cannot begin, and that is recovered.
            tracing::warn!(%fault, "no new producer yet");
        }
        Ok(())
    }

    fn abort(&mut self, deadline: Instant) -> Result<(), Fault> {
        self.spare.append(&mut self.resting);
        if !mem::take(&mut self.in_transaction) {
            return Ok(());
        }
        if self.is_transactional() {
            self.repeat("the abort", deadline, |producer| {
                // It does not end before the failed deliveries are taken from the queue.
                while producer.queue.poll(Duration::ZERO).is_some() {}
                // SAFETY: the client is alive.
                verdict(unsafe {
                    rd::rd_kafka_abort_transaction(
                        producer.client().ptr(),
                        millis_until(deadline.min(Instant::now() + ABORT)),
                    )
                })
            })?;
        }
        // The purged and refused records of this transaction are reported now, and are nobody's fault any more.
        let producer = self.producer()?;
        let _ = producer.flush(&self.sent, deadline);
        while producer.queue.poll(Duration::ZERO).is_some() {}
        self.sent.clear();
        self.ended = Instant::now();
        self.keep_strays_out()
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.in_transaction = false;
        self.spare.append(&mut self.resting);
        self.sent.clear();
        // The new producer resolves the old one's transaction: the old one must not act any more.
        if let Some(old) = self.producer.take() {
            old.purge();
        }
        self.producer = Some(Producer::new(&self.settings)?);
        Ok(())
    }
}
