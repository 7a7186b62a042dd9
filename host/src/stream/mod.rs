//! The loop: a source, a process and a sink, and between them a worker that owns every decision about a transaction.
//!
//! Nothing here knows Kafka's client or what a process does with its records.

pub mod backoff;
pub mod breaker;
pub mod clock;
pub mod failpoint;
pub mod fault;
pub mod hold;
pub mod pause;
pub mod process;
pub mod report;
pub mod sink;
pub mod slot;
pub mod source;
pub mod state;
pub mod stop;
pub mod transaction;
pub mod worker;
