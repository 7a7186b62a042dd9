//! The sandbox: components compiled, checked, opened and called, with nothing granted but a log and the record's context.
//!
//! Nothing here knows Kafka. A plugin that traps, loops or answers against the rules fails its call, never the worker.
//!
//! # Layout
//! - `wit`: the interfaces between plugins and the host, one module for each version
//! - `batch`: records laid out flat, as one call takes them
//! - `complexity`, `compiler`, `code_cache`: from a component's bytes to machine code
//! - `engine`, `stubs`, `plugin`: from machine code to a plugin that can be opened
//! - `instance`, `world`, `state`, `plugin_log`, `failure`: an opened plugin, what it is granted, how a call fails
//! - `secrets`: what of its configuration no plugin shows by mistake
//! - `stage`, `answers`: its place in a pipeline, and the rules that its answers must keep
//! - `digest`, `stock`: content addresses, and the plugins that are built in
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod answers;
pub mod batch;
mod code_cache;
pub mod compiler;
mod complexity;
pub mod digest;
pub mod engine;
mod failure;
pub mod instance;
pub mod ownership;
pub mod plugin;
mod plugin_log;
pub mod secrets;
pub mod stage;
mod state;
pub mod stock;
mod stubs;
pub mod wit;
mod world;

pub use compiler::Compiler;
pub use digest::{Digest, Hasher};
pub use engine::Engine;
pub use failure::{Failure, FailureKind};
pub use instance::Limits;
pub use plugin::{Interface, Plugin, UnlinkedPlugin};
pub use secrets::Secrets;
pub use world::Opening;
