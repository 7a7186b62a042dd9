//! A message that was read: a record, or the error that stands in its place.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr;

use rdkafka::bindings as rd;

use super::Code;
use crate::record::{Excess, Headers};

/// A message that was taken from a queue. Destroyed when dropped.
pub struct Message(MessageRef<'static>);

// SAFETY: messages may be used from any thread.
unsafe impl Send for Message {}

impl Message {
    /// # Safety
    /// A message that nobody else destroys, or null.
    pub(super) unsafe fn own(message: *mut rd::rd_kafka_message_t) -> Option<Self> {
        // SAFETY: the caller's promise; it is alive until it is dropped here.
        unsafe { MessageRef::borrow(message).map(Self) }
    }

    pub fn get(&self) -> MessageRef<'_> {
        self.0
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: taken from a queue once, destroyed once.
        unsafe { rd::rd_kafka_message_destroy(self.0.message.as_ptr()) }
    }
}

/// A message that somebody owns for as long.
#[derive(Clone, Copy)]
pub struct MessageRef<'a> {
    message: ptr::NonNull<rd::rd_kafka_message_t>,
    owner: PhantomData<&'a rd::rd_kafka_message_t>,
}

impl<'a> MessageRef<'a> {
    /// # Safety
    /// The message is alive for as long as the result is used, or null.
    pub(super) unsafe fn borrow(message: *const rd::rd_kafka_message_t) -> Option<Self> {
        ptr::NonNull::new(message.cast_mut()).map(|message| Self { message, owner: PhantomData })
    }

    fn fields(self) -> &'a rd::rd_kafka_message_t {
        // SAFETY: alive until its owner drops it; nobody writes to it.
        unsafe { self.message.as_ref() }
    }

    /// `NO_ERROR` for a record.
    pub fn error(self) -> Code {
        self.fields().err
    }

    pub fn partition(self) -> i32 {
        self.fields().partition
    }

    pub fn offset(self) -> i64 {
        self.fields().offset
    }

    /// Bytes of the value.
    pub fn size(self) -> usize {
        self.fields().len
    }

    /// librdkafka's handle of the topic: equal handles are the same topic while one of its partitions is assigned.
    pub fn topic_handle(self) -> *mut rd::rd_kafka_topic_t {
        self.fields().rkt
    }

    pub fn topic_name(self) -> &'a CStr {
        if self.fields().rkt.is_null() {
            return c"";
        }
        // SAFETY: the message's topic handle is alive as long as the message, its name terminated.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.fields().rkt)) }
    }

    pub fn key(self) -> Option<&'a [u8]> {
        // SAFETY: pointer and length belong together, and live as long as the message.
        unsafe { bytes(self.fields().key, self.fields().key_len) }
    }

    /// Of an error, its text.
    pub fn value(self) -> Option<&'a [u8]> {
        // SAFETY: pointer and length belong together, and live as long as the message.
        unsafe { bytes(self.fields().payload, self.fields().len) }
    }

    /// Milliseconds since the Unix epoch.
    pub fn timestamp(self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let timestamp = unsafe { rd::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0).then_some(timestamp)
    }

    /// Copied out; `None` where there are none. Nothing is copied of those that are above the limits.
    ///
    /// # Errors
    /// What is above them, or that librdkafka does not read them.
    pub fn headers(self, limits: HeaderLimits) -> Result<Option<Box<Headers>>, Excess> {
        let mut raw = ptr::null_mut();
        // SAFETY: the message is alive and keeps the headers.
        match unsafe { rd::rd_kafka_message_headers(self.message.as_ptr(), &mut raw) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            Code::RD_KAFKA_RESP_ERR__NOENT => return Ok(None),
            _ => return Err(Excess::Unread),
        }
        // SAFETY: the headers are alive as long as the message.
        let count = unsafe { rd::rd_kafka_header_cnt(raw) };
        // SAFETY: as above; name and value point into them, for as long.
        let each = || (0..count).map_while(|at| unsafe { header(raw, at) });
        let bytes = each().map(|(name, value)| name.count_bytes() + value.map_or(0, <[u8]>::len)).sum();
        if count > limits.count || bytes > limits.bytes {
            return Err(Excess::Headers { count, bytes });
        }
        let headers: Headers =
            each().map(|(name, value)| (name.to_string_lossy().into_owned(), value.map(<[u8]>::to_vec))).collect();
        Ok(if headers.is_empty() { None } else { Some(Box::new(headers)) })
    }
}

/// How many headers of a record are copied, at most.
#[derive(Clone, Copy, Debug)]
pub struct HeaderLimits {
    pub count: usize,
    /// Of names and values together.
    pub bytes: usize,
}

impl HeaderLimits {
    /// All that librdkafka reads.
    pub const NONE: Self = Self { count: usize::MAX, bytes: usize::MAX };
}

/// # Safety
/// The headers are alive for as long as the result is used.
unsafe fn header<'a>(headers: *const rd::rd_kafka_headers_t, at: usize) -> Option<(&'a CStr, Option<&'a [u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the caller's promise; the name is terminated, the value as long as its size.
    unsafe {
        let found = rd::rd_kafka_header_get_all(headers, at, &mut name, &mut value, &mut size);
        (found == Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| (CStr::from_ptr(name), bytes(value.cast_mut(), size)))
    }
}

/// librdkafka's null and empty, told apart.
///
/// # Safety
/// That many bytes stand at `start` for as long as the result is used, or it is null.
unsafe fn bytes<'a>(start: *mut c_void, size: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) })
}
