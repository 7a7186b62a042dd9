//! The state directory: who this daemon is, what each pipeline runs, and the plugins and models that it needs for it.
//!
//! `instance` names the daemon, `lock` keeps a second one out, `pipelines/NAME.json` is a pipeline's history (`journal`),
//! `artifacts/DIGEST` are files by content (`artifacts`), `code/` is compiled code. Every file is written whole or not
//! at all: what is being written stands in `incoming/`, and what a process that was killed left there goes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;

/// Where files stand while they are written.
const INCOMING: &str = "incoming";

/// A state directory, held by this process.
pub struct StateDirectory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    instance: String,
}

impl StateDirectory {
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
        match fs::remove_dir_all(path.join(INCOMING)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("emptying {}", path.join(INCOMING).display()));
            }
            _ => directory(INCOMING)?,
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

    /// Whole or not at all, and on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written: then the old content stands.
    pub(super) fn write(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        let mut temporary = self.temporary()?;
        temporary.write_all(bytes).with_context(|| format!("writing {}", file.display()))?;
        self.persist(temporary, file)
    }

    /// A file of mode 0600 that is not there yet.
    pub(super) fn temporary(&self) -> Result<NamedTempFile> {
        let folder = self.path.join(INCOMING);
        NamedTempFile::new_in(&folder).with_context(|| format!("writing into {}", folder.display()))
    }

    /// Makes a file what was written, and has that on the disk when this returns.
    pub(super) fn persist(&self, temporary: NamedTempFile, file: &Path) -> Result<()> {
        let persist = || -> Result<()> {
            temporary.as_file().sync_all()?;
            temporary.persist(file)?;
            if let Some(directory) = file.parent() {
                File::open(directory)?.sync_all()?;
            }
            Ok(())
        };
        persist().with_context(|| format!("writing {}", file.display()))
    }
}
