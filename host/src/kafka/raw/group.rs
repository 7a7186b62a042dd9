//! A member's identity in its consumer group.

use std::ffi::CStr;
#[cfg(test)]
use std::ptr;

use rdkafka::bindings as rd;

use super::Client;

/// A member's identity in its group at one moment.
pub struct Group(*mut rd::rd_kafka_consumer_group_metadata_t);

impl Group {
    /// What the client's group metadata are now; `None` where it is in no group.
    pub fn of(client: &Client) -> Option<Self> {
        // SAFETY: the client is alive; metadata that are not null are ours.
        let metadata = unsafe { rd::rd_kafka_consumer_group_metadata(client.ptr()) };
        if metadata.is_null() { None } else { Some(Self(metadata)) }
    }

    #[cfg(test)]
    pub fn none() -> Self {
        Self(ptr::null_mut())
    }

    /// Whether the group has given this member an id and a generation. The broker accepts a commit without them unchecked.
    pub fn has_membership(&self) -> bool {
        if self.0.is_null() {
            return false;
        }
        // SAFETY: the metadata are alive and own the id, which is terminated.
        unsafe {
            let member = CStr::from_ptr(rd::rd_kafka_consumer_group_metadata_member_id(self.0));
            rd::rd_kafka_consumer_group_metadata_generation_id(self.0) >= 0 && !member.is_empty()
        }
    }

    pub fn ptr(&self) -> *const rd::rd_kafka_consumer_group_metadata_t {
        self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned here.
            unsafe { rd::rd_kafka_consumer_group_metadata_destroy(self.0) }
        }
    }
}
