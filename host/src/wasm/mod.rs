//! The sandbox: components compiled, checked, opened and called, with nothing granted.
//!
//! Nothing here knows Kafka. A plugin that traps, loops or answers nonsense costs its call, never the worker.

pub mod answers;
pub mod bindings;
pub mod engine;
pub mod instance;
pub mod plugin;
mod shape;
mod state;
mod stdio;

pub use engine::Engine;
pub use instance::{Failure, FailureKind, Limits};
pub use plugin::{Described, Interface, Plugin};
