//! Sandpiper: a WebAssembly-plugin pipeline host for Apache Kafka.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod dead_letter;
pub mod demo;
pub mod deployment;
pub mod dev;
pub mod digest;
pub mod fault;
pub mod feedback;
pub mod isolate;
pub mod kafka;
pub mod metrics;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod prediction;
pub mod record;
pub mod report;
pub mod sink;
pub mod slot;
pub mod source;
pub mod stage;
pub mod staging;
pub mod state;
pub mod status;
pub mod stock;
pub mod train;
pub mod transaction;
pub mod wasm;
pub mod worker;
