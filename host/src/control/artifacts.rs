//! Plugins and models by their content: the same bytes are kept once.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sandpiper_sandbox::{Digest, Hasher};
use tempfile::NamedTempFile;

use super::directory::StateDirectory;
use super::journal;

/// An artifact that no deployment needs may be on its way into one: it is sent first, and named afterwards.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(3_600);

/// An artifact whose bytes are still coming: none of them stays when this is dropped.
pub struct Incoming<'a> {
    directory: &'a StateDirectory,
    file: NamedTempFile,
    hasher: Hasher,
}

impl Incoming<'_> {
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).with_context(|| format!("writing {}", self.file.path().display()))
    }

    /// Keeps it: whole, and on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(self) -> Result<Digest> {
        self.keep_within(u64::MAX)
    }

    /// Keeps one that no deployment names yet, as long as all of those have no more than so many bytes together.
    ///
    /// # Errors
    /// When they have more, or it cannot be written.
    pub fn keep_within(self, quota: u64) -> Result<Digest> {
        let digest = self.hasher.finish();
        if quota < u64::MAX {
            let size = self.file.as_file().metadata()?.len();
            self.directory.check_quota(Some(digest), size, quota)?;
        }
        // One that is there already is replaced: it may be damaged, and its age counts from now on.
        self.directory.persist(self.file, &self.directory.artifact_file(digest))?;
        Ok(digest)
    }
}

fn artifact_file(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("artifacts").join(digest.hex())
}

/// An artifact of a state directory, whoever holds it.
///
/// # Errors
/// When it is not there, or is not what it was.
pub(super) fn kept(directory: &Path, digest: Digest) -> Result<Vec<u8>> {
    let file = artifact_file(directory, digest);
    let bytes = fs::read(&file).with_context(|| format!("artifact {digest} cannot be read from {}", file.display()))?;
    is_undamaged(&file, digest, Digest::of(&bytes))?;
    Ok(bytes)
}

fn is_undamaged(file: &Path, digest: Digest, found: Digest) -> Result<()> {
    if found != digest {
        bail!("{} is damaged: its content is not {digest}; deploy the file again", file.display());
    }
    Ok(())
}

impl StateDirectory {
    /// Begins to keep an artifact that comes piece by piece.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub fn receive_artifact(&self) -> Result<Incoming<'_>> {
        Ok(Incoming { directory: self, file: self.temporary()?, hasher: Digest::hasher() })
    }

    /// Keeps a file's bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_artifact(&self, bytes: &[u8]) -> Result<Digest> {
        let mut incoming = self.receive_artifact()?;
        incoming.write(bytes)?;
        incoming.keep()
    }

    /// # Errors
    /// When it is not there, or is not what it was.
    pub fn artifact(&self, digest: Digest) -> Result<Vec<u8>> {
        kept(self.path(), digest)
    }

    pub fn has_artifact(&self, digest: Digest) -> bool {
        self.artifact_file(digest).exists()
    }

    /// Whether an artifact can be deployed, without keeping all of it in memory.
    ///
    /// # Errors
    /// As `artifact`.
    pub fn check_artifact(&self, digest: Digest) -> Result<()> {
        let path = self.artifact_file(digest);
        let unreadable = || format!("artifact {digest} cannot be read from {}", path.display());
        let mut file = fs::File::open(&path).with_context(unreadable)?;
        let (mut hasher, mut buffer) = (Digest::hasher(), vec![0; 64 << 10]);
        loop {
            let read = file.read(&mut buffer).with_context(unreadable)?;
            match buffer.get(..read) {
                Some([]) | None => break,
                Some(bytes) => hasher.update(bytes),
            }
        }
        is_undamaged(&path, digest, hasher.finish())
    }

    fn artifact_file(&self, digest: Digest) -> PathBuf {
        artifact_file(self.path(), digest)
    }

    /// Drops artifacts that no pipeline's history needs. What cannot be dropped stays until the next time: whether a
    /// deployment is kept does not hang on it.
    pub(super) fn collect_artifacts(&self) {
        if let Err(error) = self.needed_artifacts().and_then(|needed| self.drop_artifacts(&needed)) {
            let why = format!("{error:#}");
            tracing::warn!(why, "artifacts that nothing needs could not be removed; they take room and no more");
        }
    }

    /// Whether so many more bytes may lie here that no deployment names. Those of `digest` are not counted twice.
    ///
    /// # Errors
    /// When they would be more than the quota, or it cannot be known.
    pub fn check_quota(&self, digest: Option<Digest>, more: u64, quota: u64) -> Result<()> {
        self.collect_artifacts();
        let needed = self.needed_artifacts()?;
        let own = digest.map(|digest| digest.hex());
        if own.as_ref().is_some_and(|own| needed.contains(own)) {
            return Ok(());
        }
        let mut unnamed = 0;
        for entry in fs::read_dir(self.path().join("artifacts"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !needed.contains(&name) && own.as_ref() != Some(&name) {
                // One that has just gone takes no room.
                unnamed += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        if unnamed + more > quota {
            bail!(
                "artifacts that no deployment names have {unnamed} bytes, and with this one more than the {quota} that may lie \
                 in {}: deploy them, or wait {} minutes, after which they go",
                self.path().display(),
                ON_ITS_WAY.as_secs() / 60
            );
        }
        Ok(())
    }

    fn needed_artifacts(&self) -> Result<HashSet<String>> {
        let mut needed = HashSet::new();
        for entry in fs::read_dir(self.path().join("pipelines"))? {
            let file = entry?.path();
            let read = || journal::read(&fs::read(&file)?);
            let history = read().with_context(|| format!("{} cannot be read", file.display()))?.history;
            needed.extend(history.artifacts().map(|digest| digest.hex()));
        }
        Ok(needed)
    }

    fn drop_artifacts(&self, needed: &HashSet<String>) -> Result<()> {
        for entry in fs::read_dir(self.path().join("artifacts"))? {
            let entry = entry?;
            let is_old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age >= ON_ITS_WAY);
            if is_old && !needed.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}
