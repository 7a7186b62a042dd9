//! What a pipeline's control survives by: its commands, and the history that came of them.

pub(super) mod local;

pub(super) use local::read;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::command::{Command, CommandId};
use super::history::History;

/// A command that changed the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub command: Command,
    /// When it was applied, milliseconds since the Unix epoch.
    pub at: i64,
}

/// What a journal has of a pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    pub history: History,
    /// The last command that changed it.
    pub last: Option<CommandId>,
}

/// Keeps commands and what came of them. One for all pipelines of a daemon.
pub trait Journal: Send + Sync {
    /// # Errors
    /// When what is kept cannot be read or understood.
    fn read(&self, pipeline: &str) -> Result<Kept>;

    /// Both, or neither; they outlive the process when this returns.
    ///
    /// # Errors
    /// When they cannot be kept: then what was kept before stands.
    fn keep(&self, pipeline: &str, entry: &Entry, history: &History) -> Result<()>;
}
