//! Hands outputs to a producer: where each goes, in as few calls as they allow, and what is refused before or after.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::time::Instant;

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::super::partitioner::Partitioner;
use super::super::producer::{Placement, Producer, SLICE, Sent, refused};
use super::KafkaSink;
use crate::record::Headers;
use crate::record::output::{Output, Outputs, Span};
use crate::stream::failpoint::failpoint;
use crate::stream::fault::{Fault, Refused};

impl KafkaSink {
    /// Where a record goes.
    fn place(&self, producer: &Producer, outputs: &Outputs, output: &Output) -> i32 {
        let Some(topic) = producer.topics.get(output.route) else { return 0 };
        match (topic.target.placement, output.key) {
            (Placement::Input, _) => output.origin.partition,
            (Placement::Key, Some(key)) => Partitioner::Murmur2.partition(outputs.bytes(key), topic.partitions),
            (Placement::Folded | Placement::Key, _) => output.origin.partition % topic.partitions.max(1),
        }
    }

    /// Hands over records that carry neither header nor timestamp: one call for all of a topic.
    fn send_plain(&mut self, outputs: &Outputs, records: &[Output], deadline: Instant) -> Result<(), Fault> {
        let first = self.sent.len();
        self.sent.extend(records.iter().map(Sent::from));
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
        let topic = records.first().and_then(|output| producer.topics.get(output.route));
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
        self.sent.push(output.into());
        let opaque = self.sent.len();
        let producer = self.producer()?;
        let Some(topic) = producer.topics.get(output.route) else { return Ok(()) };
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
                return Err(refused(code, Some(output.into())));
            }
            self.wait_for_room(producer, deadline)?;
        }
    }

    /// The records that their topic is known not to take.
    pub(super) fn unfit(&self, outputs: &Outputs, records: &[Output]) -> Result<Option<Vec<Refused>>, Fault> {
        let producer = self.producer()?;
        let why = |output: &Output| {
            let limits = producer.topics.get(output.route)?.limits;
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
    pub(super) fn certain(&mut self, result: Result<(), Fault>) -> Result<(), Fault> {
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
                !alone && is_plain(output) && output.route == first.route && !is_suspect(self, output)
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
            failpoint!(IN_PRODUCE);
            if alone {
                self.producer()?.flush(&self.sent, deadline)?;
            }
        }
        Ok(())
    }

    pub(super) fn send_resting(&mut self, deadline: Instant) -> Result<(), Fault> {
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
    let span = |span: Option<Span>| span.map_or(0, |span| outputs.bytes(span).len());
    let header = |(name, value): &(String, Option<Vec<u8>>)| name.len() + value.as_ref().map_or(0, Vec::len) + 10;
    let headers: usize = output.headers.iter().flat_map(|headers| headers.iter()).map(header).sum();
    OVERHEAD + span(output.key) + span(output.value) + headers
}

fn is_plain(output: &Output) -> bool {
    output.headers.is_none() && output.timestamp.is_none()
}

/// Pointer and length as librdkafka takes them: a null pointer is null, an empty slice is empty.
fn raw(outputs: &Outputs, span: Option<Span>) -> (*mut c_void, usize) {
    match span {
        None => (ptr::null_mut(), 0),
        Some(span) => {
            let bytes = outputs.bytes(span);
            (bytes.as_ptr().cast_mut().cast(), bytes.len())
        }
    }
}

fn native_headers(headers: &Headers) -> *mut rd::rd_kafka_headers_t {
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
