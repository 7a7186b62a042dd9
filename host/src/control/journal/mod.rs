//! What a pipeline's control survives by: its commands, and the history that came of them.
//!
//! Two keep it. The state directory (`local`) is enough for a daemon that decides alone. Through Kafka (`kafka`) one daemon decides
//! for all: the others send it their commands by a `Link`, and hear what was decided as `News`.

pub mod kafka;
pub(super) mod local;

use std::collections::BTreeMap;

pub(super) use local::read;

use anyhow::Result;
use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};

use super::command::{Command, CommandId};
use super::fold::Control;
use super::history::History;
use super::runner::Answer;

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

/// Is given the number of a command that was sent, or why it could not be sent.
pub type Sent = Box<dyn FnOnce(Result<i64, String>) + Send + Sync>;

/// The way to whoever decides for several daemons.
pub trait Link: Send + Sync {
    /// Sends a command and comes back at once; `sent` is called on a thread of the link's.
    fn send(&self, pipeline: &str, command: &Command, sent: Sent);
    /// Has the others able to take those artifacts, as far as this daemon has them; comes back at once.
    fn share(&self, pipeline: &str, artifacts: Vec<Digest>);
    /// This daemon's name.
    fn daemon(&self) -> &str;
    /// Whether this daemon decides at the moment.
    fn decides_here(&self) -> bool;
}

/// What was decided for all daemons, as far as it was heard.
#[derive(Clone, Debug, Default)]
pub struct News {
    pub control: Control,
    /// All commands with lower numbers are decided.
    pub position: i64,
    /// What a command's number counts from: more than 0 where the commands' topic was made anew.
    pub base: u64,
    /// The last ones.
    pub answers: BTreeMap<CommandId, Answer>,
    /// Whether no part of the history is missing.
    pub is_whole: bool,
}

impl News {
    /// The id that a command of that number was decided by.
    pub fn id(&self, number: i64) -> CommandId {
        CommandId(self.base + number.unsigned_abs())
    }
}
