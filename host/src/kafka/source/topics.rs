//! The input topics: ours by index, librdkafka's by name and by handle.

use std::ffi::{CStr, CString};

use rdkafka::bindings as rd;

use super::super::raw::{List, MessageRef};
use crate::record::{TopicIndex, Topics};
use crate::stream::fault::Fault;
use crate::stream::source::{Position, TopicPartition};

pub(super) struct InputTopics {
    pub(super) names: Topics,
    terminated: Vec<CString>,
    /// librdkafka's handles as they were met, with our index.
    handles: Vec<(*mut rd::rd_kafka_topic_t, TopicIndex)>,
}

// SAFETY: handles are compared, and never followed.
unsafe impl Send for InputTopics {}

impl InputTopics {
    /// # Errors
    /// `Configuration` where a name holds a NUL byte.
    pub(super) fn new(names: Topics) -> Result<Self, Fault> {
        let mut terminated = Vec::new();
        for topic in names.names() {
            terminated.push(
                CString::new(topic.as_str())
                    .map_err(|_| Fault::Configuration(format!("topic {topic:?} holds a NUL byte")))?,
            );
        }
        Ok(Self { names, terminated, handles: Vec::new() })
    }

    pub(super) fn subscription(&self) -> List {
        let mut list = List::default();
        for name in &self.terminated {
            list.add(name, -1, 0, "");
        }
        list
    }

    /// Empty for an index that is none of ours.
    pub(super) fn terminated(&self, topic: TopicIndex) -> &CStr {
        self.terminated.get(topic.get()).map_or(c"", CString::as_c_str)
    }

    pub(super) fn name(&self, topic: TopicIndex) -> &str {
        self.names.name(topic)
    }

    /// `None` for a topic that is none of ours.
    pub(super) fn partition(&self, name: &str, partition: i32) -> Option<TopicPartition> {
        Some(TopicPartition { topic: self.names.index(name)?, partition })
    }

    /// Where a message was read: by its handle, since comparing names costs more for each record.
    pub(super) fn partition_of(&mut self, message: MessageRef<'_>) -> TopicPartition {
        let (handle, partition) = (message.topic_handle(), message.partition());
        if let Some((_, topic)) = self.handles.iter().find(|(known, _)| *known == handle) {
            return TopicPartition { topic: *topic, partition };
        }
        let name = message.topic_name();
        let topic = self.names.index(&name.to_string_lossy()).unwrap_or(TopicIndex::FIRST);
        self.handles.push((handle, topic));
        TopicPartition { topic, partition }
    }

    /// A topic's handle may go with its last partition, and its address come back as another's.
    pub(super) fn forget_handles(&mut self) {
        self.handles.clear();
    }

    pub(super) fn positions(&self, positions: &[Position], metadata: &str) -> List {
        self.list(positions.iter().map(|position| (position.partition, position.offset)), metadata)
    }

    pub(super) fn without_offsets(&self, partitions: &[TopicPartition]) -> List {
        self.list(partitions.iter().map(|partition| (*partition, rd::RD_KAFKA_OFFSET_INVALID.into())), "")
    }

    fn list(&self, partitions: impl Iterator<Item = (TopicPartition, i64)>, metadata: &str) -> List {
        let mut list = List::default();
        for (partition, offset) in partitions {
            list.add(self.terminated(partition.topic), partition.partition, offset, metadata);
        }
        list
    }
}
