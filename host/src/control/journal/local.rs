//! The state directory as a journal: `pipelines/NAME.json` is a pipeline's history, with the command that last changed
//! it. A single process needs no more: it decides alone, and goes on from the state.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};

use super::{Entry, Journal, Kept};
use crate::control::command::{Action, CommandId};
use crate::control::deployment::Deployment;
use crate::control::directory::StateDirectory;
use crate::control::history::{Call, History};
use crate::control::rollout::Rollout;
use crate::stream::pause::Pause;

/// What a file begins with: the digest of all that follows this line, so that no history that was changed on the disk says
/// what runs.
const DIGEST: &str = "{\n  \"digest\": \"";
/// `sha256:` and its digits.
const DIGEST_LENGTH: usize = 71;
/// What ends that line.
const END: &str = "\",\n";

/// The file's form behind its digest.
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
    last_command: Last,
}

/// An older form, without a digest, and perhaps without a command. Nothing else may stand in it: a damaged digest makes no
/// older file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Older {
    // Always written, also when it was none.
    #[serde(deserialize_with = "Option::deserialize")]
    applied: Option<Digest>,
    deployments: Vec<Deployment>,
    #[serde(default)]
    paused: Option<Pause>,
    #[serde(default)]
    rollout: Option<Rollout>,
    #[serde(default)]
    calls: Vec<Call>,
    #[serde(default)]
    last_command: Option<Last>,
}

/// Of the command its id is enough: a later version may have written actions that this one does not know.
#[derive(Deserialize)]
struct Last {
    id: CommandId,
}

fn write(history: &History, entry: &Entry) -> Result<Vec<u8>> {
    let written = serde_json::to_string_pretty(&Written { history, last_command: entry })?;
    let rest = written.strip_prefix("{\n").context("a history is an object of several lines")?;
    Ok(format!("{DIGEST}{}{END}{rest}", Digest::of(rest.as_bytes())).into_bytes())
}

/// What a history's file says.
///
/// # Errors
/// When it is not as it was written.
pub(in crate::control) fn read(bytes: &[u8]) -> Result<Kept> {
    let kept = match bytes.strip_prefix(DIGEST.as_bytes()) {
        Some(line) => {
            let (digest, rest) = line.split_at_checked(DIGEST_LENGTH).context("it ends in its first line")?;
            let rest = rest.strip_prefix(END.as_bytes()).context("its first line is no digest")?;
            let digest: Digest = std::str::from_utf8(digest)?.parse()?;
            ensure!(Digest::of(rest) == digest, "its content is not {digest}, which it begins with");
            let read: Read = serde_json::from_slice(&[b"{", rest].concat())?;
            Kept { history: read.history, last: Some(read.last_command.id) }
        }
        None => {
            let Older { applied, deployments, paused, rollout, calls, last_command } = serde_json::from_slice(bytes)?;
            let history = History { applied, deployments, paused, rollout, calls, ..History::default() };
            Kept { history, last: last_command.map(|last| last.id) }
        }
    };
    let revisions = kept.history.deployments.iter().map(|deployment| deployment.revision);
    // The last one needs a successor, too.
    ensure!(revisions.clone().all(|revision| revision < revision.next()), "there is no revision after its last one");
    ensure!(revisions.is_sorted_by(|one, next| one < next), "its revisions do not grow");
    Ok(kept)
}

fn history_file(directory: &Path, pipeline: &str) -> PathBuf {
    directory.join("pipelines").join(format!("{pipeline}.json"))
}

/// What a state directory has of a pipeline, whoever holds it: the file is replaced whole.
///
/// # Errors
/// When it cannot be read or understood.
pub(in crate::control) fn kept(directory: &Path, pipeline: &str) -> Result<Kept> {
    let file = history_file(directory, pipeline);
    match fs::read(&file) {
        Ok(bytes) => read(&bytes).with_context(|| {
            format!(
                "{} is not a history that this version understands; it may be damaged: put a copy in its place, or move it \
                 away to start from the pipeline's file",
                file.display()
            )
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

impl Journal for StateDirectory {
    fn read(&self, pipeline: &str) -> Result<Kept> {
        kept(self.path(), pipeline)
    }

    fn keep(&self, pipeline: &str, entry: &Entry, history: &History) -> Result<()> {
        self.write(&history_file(self.path(), pipeline), &write(history, entry)?)?;
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
    use crate::control::deployment::{Challenger, Release, Releases};
    use crate::record::Revision;
    use std::time::{Duration, SystemTime};

    fn entry() -> Entry {
        Entry {
            command: Command {
                id: CommandId(1),
                from: String::new(),
                by: None,
                against: None,
                action: Action::Staged { of: CommandId(1), owns: true },
            },
            at: 0,
        }
    }

    fn age(state: &StateDirectory, digest: Digest) {
        let file = fs::File::options().write(true).open(state.path().join("artifacts").join(digest.hex())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
    }

    fn release(plugin: Digest) -> Release {
        Release { name: "x".into(), plugin, model: None, config: serde_json::json!({}) }
    }

    /// A history whose release has numbers of full length in its configuration.
    fn history() -> History {
        let digest = Digest::of(b"x");
        let config = serde_json::json!({ "threshold": 0.926_286_909_756_665_1, "floor": 6.934_698_245_112_694e276 });
        let release = Release { config, ..release(digest) };
        let releases = Releases { classify: Some(release), ..Releases::default() };
        let deployment = |revision, failed| Deployment {
            revision,
            releases: releases.clone(),
            reason: "trained on \"May\"".into(),
            by: None,
            at: 1,
            on_probation: false,
            scorer_on_probation: false,
            failed,
            challenger: None,
        };
        let deployments =
            vec![deployment(Revision::FIRST, Some("trap".into())), deployment(Revision::FIRST.next(), None)];
        History { applied: Some(digest), deployments, ..History::default() }
    }

    #[test]
    fn a_release_is_the_same_one_after_a_restart() {
        let kept = read(&write(&history(), &entry()).unwrap()).unwrap();
        assert_eq!(kept, Kept { history: history(), last: Some(CommandId(1)) });
        let digest = |history: &History| history.current().unwrap().releases.digest();
        assert_eq!(digest(&kept.history), digest(&history()));
    }

    #[test]
    fn a_history_in_which_anything_has_changed_on_the_disk_is_not_read() {
        let written = write(&history(), &entry()).unwrap();
        for at in 0..written.len() {
            for other in [0, b' ', b'1', written[at] ^ 1, written[at] ^ 0x20] {
                let mut damaged = written.clone();
                damaged[at] = other;
                // A digest's digits may be capitals.
                if let Ok(kept) = read(&damaged) {
                    assert_eq!(kept.history, history(), "byte {at} as {other}");
                    assert!(damaged.eq_ignore_ascii_case(&written), "byte {at} as {other}");
                }
            }
            assert!(read(&written[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_older_history_has_no_digest_and_nothing_unknown() {
        let older = serde_json::json!({ "applied": null, "deployments": [] });
        assert_eq!(read(older.to_string().as_bytes()).unwrap(), Kept::default());
        for (key, value) in [("digess", "sha256:00"), ("applied", "sha256:00"), ("deployments", "")] {
            let mut damaged = older.clone();
            damaged[key] = value.into();
            assert!(read(damaged.to_string().as_bytes()).is_err(), "{damaged}");
        }
        assert!(read(br#"{"deployments":[]}"#).is_err(), "what was applied is always said");
    }

    #[test]
    fn revisions_that_do_not_grow_are_of_no_history() {
        let [first, last] = [1, u64::MAX].map(|number| Revision::new(number).unwrap());
        for revisions in [vec![first, first], vec![first.next(), first], vec![first, last]] {
            let mut damaged = history();
            let deployment = damaged.deployments.remove(0);
            damaged.deployments =
                revisions.into_iter().map(|revision| Deployment { revision, ..deployment.clone() }).collect();
            assert!(read(&write(&damaged, &entry()).unwrap()).is_err(), "{damaged:?}");
        }
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
        let releases = Releases { classify: Some(release(fresh)), ..Releases::default() };
        let challenger =
            Challenger { releases, rollout: Revision::FIRST, sample: 0.5, canary: 0.0, allow_new_classes: false };
        let mut rolling = history();
        rolling.deployments.iter_mut().for_each(|deployment| deployment.challenger = Some(challenger.clone()));
        state.keep("iris", &entry(), &rolling).unwrap();
        assert!(state.artifact(fresh).is_ok(), "what is rolled out is needed");
        state.keep("iris", &entry(), &History::default()).unwrap();
        assert!(state.artifact(fresh).is_err());
        let fresh = state.keep_artifact(b"fresh").unwrap();
        age(&state, fresh);
        drop(state);
        assert!(StateDirectory::open(folder.path(), None).unwrap().artifact(fresh).is_err());
    }
}
