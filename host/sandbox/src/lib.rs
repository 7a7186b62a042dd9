//! The sandbox: components compiled, checked, opened and called, with nothing granted.
//!
//! Nothing here knows Kafka. A plugin that traps, loops or answers nonsense costs its call, never the worker.
//!
//! # Layout
//! - `wit`: the interfaces between plugins and the host, a module a version
//! - `batch`: records laid out flat, as one call takes them
//! - `engine`, `plugin`, `shape`: from bytes to a component that may run
//! - `instance`, `state`, `stdio`: one that is opened, what it is granted, what it says
//! - `stage`, `answers`: its place in a pipeline, and the rules that its answers must keep
//! - `stock`: the plugins that are built in
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod answers;
pub mod batch;
pub mod digest;
pub mod engine;
pub mod instance;
pub mod plugin;
mod shape;
pub mod stage;
mod state;
mod stdio;
pub mod stock;
pub mod wit;

pub use digest::Digest;
pub use engine::Engine;
pub use instance::{Failure, FailureKind, Limits};
pub use plugin::{Described, Interface, Plugin};
