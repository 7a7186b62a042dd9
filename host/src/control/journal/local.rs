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
                        "{} is not a history that this version understands; it may be damaged: put a copy in its place, or move it away to start from the pipeline's file",
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
        if matches!(entry.command.action, Action::Staged { .. }) {
            self.collect_artifacts();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::Command;
    use std::time::{Duration, SystemTime};

    fn entry() -> Entry {
        Entry {
            command: Command { id: CommandId(1), by: None, against: None, action: Action::Staged { of: CommandId(1) } },
            at: 0,
        }
    }

    fn age(state: &StateDirectory, digest: sandpiper_sandbox::Digest) {
        let file = fs::File::options().write(true).open(state.path().join("artifacts").join(digest.hex())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
    }

    #[test]
    fn what_is_written_is_kept_although_another_pipelines_history_is_damaged_and_nothing_is_collected() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(folder.path(), None).unwrap();
        let digest = state.keep_artifact(b"perhaps of the damaged one").unwrap();
        age(&state, digest);
        fs::write(folder.path().join("pipelines/other.json"), [0; 64]).unwrap();
        state.keep("iris", &entry(), &History::default()).unwrap();
        assert_eq!(state.read("iris").unwrap().last, Some(CommandId(1)));
        assert!(state.artifact(digest).is_ok());
        let refused = format!("{:#}", state.read("other").unwrap_err());
        assert!(refused.contains("other.json") && refused.contains("move it away"), "{refused}");
    }

    #[test]
    fn what_no_deployment_names_goes_with_the_next_one_and_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(folder.path(), None).unwrap();
        let (one, fresh) = (state.keep_artifact(b"one").unwrap(), state.keep_artifact(b"fresh").unwrap());
        age(&state, one);
        state.keep("iris", &entry(), &History::default()).unwrap();
        assert!(state.artifact(one).is_err() && state.artifact(fresh).is_ok());
        age(&state, fresh);
        drop(state);
        assert!(StateDirectory::open(folder.path(), None).unwrap().artifact(fresh).is_err());
    }
}
