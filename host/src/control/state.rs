//! The state directory: who this daemon is, what each pipeline runs, and the plugins and models that it needs for it.
//!
//! `instance` names the daemon, `lock` keeps a second one out, `pipelines/NAME.json` is a pipeline's history,
//! `artifacts/DIGEST` are files by content, `code/` is compiled code. Every file is written whole or not at all.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::control::deployment::Deployment;
use crate::stream::brake::Pause;
use sandpiper_sandbox::Digest;

/// Deployments that are remembered of each pipeline.
const REMEMBERED: usize = 200;

/// A state directory, held by this process.
pub struct State {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    instance: String,
}

/// What is remembered of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Digest of the releases that the pipeline's file asked for when it was last applied: when the file asks for
    /// something else, it is applied again; otherwise the last deployment stands.
    pub applied: Option<Digest>,
    /// By revision, the last is the current one.
    pub deployments: Vec<Deployment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
}

impl History {
    pub fn current(&self) -> Option<&Deployment> {
        self.deployments.last()
    }

    /// What there is to go back to: the last deployment that ran something else and did not fail.
    pub fn previous(&self) -> Option<&Deployment> {
        let runs = self.current()?.releases.digest();
        self.deployments.iter().rev().find(|each| each.failed.is_none() && each.releases.digest() != runs)
    }
}

impl State {
    /// Opens or creates the directory. `instance` overrides the name that is kept there.
    ///
    /// # Errors
    /// When another daemon holds it, or it cannot be written.
    pub fn open(path: &Path, instance: Option<&str>) -> Result<Self> {
        let directory = |name: &str| -> Result<()> {
            let path = path.join(name);
            fs::create_dir_all(&path).with_context(|| {
                format!("the state directory {} cannot be written; choose another with --state", path.display())
            })
        };
        directory("pipelines")?;
        directory("artifacts")?;
        let lock = File::create(path.join("lock")).with_context(|| {
            format!("the state directory {} cannot be written; choose another with --state", path.display())
        })?;
        if lock.try_lock().is_err() {
            bail!(
                "the state directory {} is in use by another daemon; give this one its own with --state",
                path.display()
            );
        }
        let mut state = Self { path: path.to_owned(), _lock: lock, instance: String::new() };
        state.instance = match instance {
            Some(instance) => instance.to_owned(),
            None => state.kept_instance()?,
        };
        Ok(state)
    }

    fn kept_instance(&self) -> Result<String> {
        let file = self.path.join("instance");
        match fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            _ => {
                let fresh = uuid::Uuid::new_v4().to_string();
                self.write(&file, fresh.as_bytes())?;
                Ok(fresh)
            }
        }
    }

    /// Names this daemon in transactional ids and dead letters.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// When the file is there but cannot be read or understood.
    pub fn history(&self, pipeline: &str) -> Result<History> {
        let file = self.history_file(pipeline);
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is not a history that this version understands; move it away to start from the pipeline's file",
                    file.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(History::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Writes a history, the oldest deployments left out beyond 200, and drops artifacts that none needs.
    ///
    /// # Errors
    /// When it cannot be written: then the old one stands.
    pub fn set_history(&self, pipeline: &str, history: &mut History) -> Result<()> {
        let surplus = history.deployments.len().saturating_sub(REMEMBERED);
        history.deployments.drain(..surplus);
        self.write(&self.history_file(pipeline), &serde_json::to_vec_pretty(history)?)?;
        if surplus > 0 {
            self.forget_artifacts()?;
        }
        Ok(())
    }

    fn history_file(&self, pipeline: &str) -> PathBuf {
        self.path.join("pipelines").join(format!("{pipeline}.json"))
    }

    /// Keeps a file's bytes; the same bytes are kept once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let file = self.artifact_file(digest);
        if !file.exists() {
            self.write(&file, bytes)?;
        }
        Ok(digest)
    }

    /// # Errors
    /// When it is not there, or is not what it was.
    pub fn artifact(&self, digest: Digest) -> Result<Vec<u8>> {
        let file = self.artifact_file(digest);
        let bytes =
            fs::read(&file).with_context(|| format!("artifact {digest} cannot be read from {}", file.display()))?;
        if Digest::of(&bytes) != digest {
            bail!("{} is damaged: its content is not {digest}; remove it and deploy again", file.display());
        }
        Ok(bytes)
    }

    fn artifact_file(&self, digest: Digest) -> PathBuf {
        self.path.join("artifacts").join(digest.hex())
    }

    fn forget_artifacts(&self) -> Result<()> {
        let mut needed = HashSet::new();
        for entry in fs::read_dir(self.path.join("pipelines"))? {
            let history: History = serde_json::from_slice(&fs::read(entry?.path())?)?;
            for deployment in &history.deployments {
                for (_, release) in deployment.releases.iter() {
                    needed.insert(release.plugin.hex());
                    needed.extend(release.model.map(|model| model.hex()));
                }
            }
        }
        for entry in fs::read_dir(self.path.join("artifacts"))? {
            let entry = entry?;
            if !needed.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Whole or not at all, and on the disk when this returns.
    fn write(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        let write = || -> Result<()> {
            let mut temporary = tempfile::NamedTempFile::new_in(&self.path)?;
            temporary.write_all(bytes)?;
            temporary.as_file().sync_all()?;
            temporary.persist(file)?;
            if let Some(directory) = file.parent() {
                File::open(directory)?.sync_all()?;
            }
            Ok(())
        };
        write().with_context(|| format!("writing {}", file.display()))
    }
}
