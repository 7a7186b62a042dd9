//! What a daemon's state directory remembers, for a verb that runs beside the daemon: it holds no lock and changes nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::deployment::Releases;
use super::directory::StateDirectory;
use super::history::History;
use super::{artifacts, journal};

/// A state directory that somebody else may hold.
pub struct Remembered {
    path: PathBuf,
}

impl Remembered {
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A pipeline's history; empty where the directory knows nothing of it, or is not there.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn history(&self, pipeline: &str) -> Result<History> {
        Ok(journal::local::kept(&self.path, pipeline)?.history)
    }

    /// Keeps what those releases need to process records in another directory, so that they can be opened there.
    ///
    /// # Errors
    /// When a plugin or a model is not there any more, or cannot be kept.
    pub fn copy(&self, releases: &Releases, to: &StateDirectory) -> Result<()> {
        for (_, release) in releases.path() {
            for digest in [Some(release.plugin), release.model].into_iter().flatten() {
                to.keep_artifact(&artifacts::kept(&self.path, digest)?)?;
            }
        }
        Ok(())
    }
}
