//! Lists of partitions with offsets.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings as rd;

use super::Code;

/// A list of partitions with offsets.
pub struct List(*mut rd::rd_kafka_topic_partition_list_t);

impl Default for List {
    fn default() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { rd::rd_kafka_topic_partition_list_new(8) })
    }
}

impl List {
    pub fn ptr(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0
    }

    /// A negative offset is one of librdkafka's logical ones.
    pub fn add(&mut self, topic: &CStr, partition: i32, offset: i64, metadata: &str) {
        // SAFETY: the list is alive and owns the element, whose metadata it frees with free(): so malloc.
        unsafe {
            let element = rd::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition);
            (*element).offset = offset;
            if !metadata.is_empty() {
                let copy = libc::malloc(metadata.len());
                ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                (*element).metadata = copy.cast();
                (*element).metadata_size = metadata.len();
            }
        }
    }

    pub fn elements(&self) -> Vec<Element> {
        // SAFETY: the list is alive.
        unsafe { elements_of(self.0) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: owned here.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// One entry of a list, copied out.
pub struct Element {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
    pub error: Code,
}

impl Element {
    /// # Safety
    /// The entry is librdkafka's: its topic is terminated, and its metadata has the length that stands beside it.
    pub(super) unsafe fn read(element: &rd::rd_kafka_topic_partition_t) -> Self {
        // SAFETY: the caller's promise.
        let (topic, metadata) = unsafe {
            let metadata = if element.metadata.is_null() {
                &[][..]
            } else {
                std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
            };
            (CStr::from_ptr(element.topic), metadata)
        };
        Self {
            topic: topic.to_string_lossy().into_owned(),
            partition: element.partition,
            offset: element.offset,
            metadata: String::from_utf8_lossy(metadata).into_owned(),
            error: element.err,
        }
    }
}

/// The entries of a list that somebody else may own, copied out.
///
/// # Safety
/// The list is alive, or null.
pub(super) unsafe fn elements_of(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<Element> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise; its first `cnt` elements are initialised, and an empty one has no memory at all.
    unsafe {
        let elements = if (*list).elems.is_null() {
            &[][..]
        } else {
            std::slice::from_raw_parts((*list).elems, (*list).cnt.max(0) as usize)
        };
        elements.iter().map(|element| Element::read(element)).collect()
    }
}
