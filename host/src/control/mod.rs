//! What runs, what is to run next, and what is remembered of both.
//!
//! # Layout
//! - `command`: what changes what runs, whoever asks for it, and what comes of it
//! - `fold`: a state and a command in, the next state and what came of the command out; pure
//! - `runner`: one thread a pipeline, which decides or sends to who decides; readers have a snapshot
//! - `controller`: a pipeline's control as people and the rest of the daemon reach it
//! - `history`, `deployment`: what is remembered of what ran
//! - `reconcile`: has the workers follow the state; `opened`: what they are given, and where they take it
//! - `fleet`: a daemon's part where one decides for several
//! - `journal`: what outlives the process; `directory`, `artifacts`: where, on this machine
//! - `remembered`: the same for a verb that runs beside the daemon
//! - `simulation`: the control of several daemons, under test on a Kafka of the test's own
//! - `staging`: from releases to opened pipelines; `compiler`: this program, started anew to compile a plugin

mod artifacts;
pub mod command;
pub mod compiler;
pub mod controller;
pub mod deployment;
pub mod directory;
pub mod fleet;
pub mod fold;
pub mod history;
pub mod journal;
pub mod opened;
mod reconcile;
pub mod remembered;
pub mod rollout;
pub mod runner;
pub mod staging;

pub use controller::Controller;
pub use directory::StateDirectory;

#[cfg(test)]
mod simulation;
