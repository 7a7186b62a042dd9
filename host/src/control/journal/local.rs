//! The state directory as a journal: `pipelines/NAME.json` is a pipeline's history, with the command that last changed
//! it. A single process needs no more: it decides alone, and goes on from the state.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Entry, Journal, Kept};
use crate::control::command::{Action, CommandId};
use crate::control::directory::StateDirectory;
use crate::control::history::History;
use crate::record::Revision;

/// The file's form. An older one has no command in it.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    history: &'a History,
    last_command: &'a Entry,
}

#[derive(Deserialize)]
struct Read {
    #[serde(flatten)]
    history: History,
    #[serde(default)]
    last_command: Option<Last>,
}

/// Of the command its id is enough: a later version may have written actions that this one does not know.
#[derive(Deserialize)]
struct Last {
    id: CommandId,
}

impl StateDirectory {
    fn history_file(&self, pipeline: &str) -> PathBuf {
        self.path().join("pipelines").join(format!("{pipeline}.json"))
    }
}

impl Journal for StateDirectory {
    fn read(&self, pipeline: &str) -> Result<Kept> {
        let file = self.history_file(pipeline);
        match fs::read(&file) {
            Ok(bytes) => {
                let read: Read = serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "{} is not a history that this version understands; move it away to start from the pipeline's file",
                        file.display()
                    )
                })?;
                Ok(Kept { history: read.history, last: read.last_command.map(|last| last.id) })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    fn keep(&self, pipeline: &str, entry: &Entry, history: &History) -> Result<()> {
        let written = serde_json::to_vec_pretty(&Written { history, last_command: entry })?;
        self.write(&self.history_file(pipeline), &written)?;
        let is_trimmed = history.deployments.first().is_some_and(|oldest| oldest.revision > Revision::FIRST);
        if is_trimmed && matches!(entry.command.action, Action::Staged { .. }) {
            self.collect_artifacts()?;
        }
        Ok(())
    }
}
