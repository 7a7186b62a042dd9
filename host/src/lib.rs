//! Sandpiper: a WebAssembly-plugin pipeline host for Apache Kafka.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod authoring;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod feedback;
pub mod kafka;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod stream;
