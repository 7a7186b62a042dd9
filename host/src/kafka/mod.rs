//! Kafka, thin: librdkafka's own calls where rdkafka's safe API is too slow or wrong for a transactional worker.
//!
//! `raw` owns the pointers and has safe calls on them; `source` and `sink` implement the worker's traits; `reader` reads
//! a topic to its end, outside of any group; `topics` asks the cluster what it has; `members` names who is in a group, and
//! `group_offsets` what it has committed; `partitioner` says where a key goes.
//! `retransmits`, `offset_committer` and `waits` stand between us and what librdkafka does not keep.
//! No callback of ours runs on librdkafka's threads but the log's and one that counts requests: events are polled by the
//! worker's loop, and the errors of partitions come to it while it reads.

pub(crate) mod group_offsets;
pub(crate) mod members;
mod offset_committer;
pub mod partitioner;
pub mod producer;
pub mod properties;
pub(crate) mod raw;
pub mod reader;
mod retransmits;
pub mod sink;
pub mod source;
pub mod topics;
#[cfg(all(target_os = "linux", target_pointer_width = "64", any(target_env = "gnu", target_env = "musl")))]
mod waits;

pub use sink::KafkaSink;
pub use source::KafkaSource;
