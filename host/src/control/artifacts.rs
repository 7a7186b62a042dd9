//! Plugins and models by their content: the same bytes are kept once.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sandpiper_sandbox::Digest;

use super::directory::StateDirectory;
use super::history::History;

/// An artifact that no deployment needs may be on its way into one: it is sent first, and named afterwards.
const ON_ITS_WAY: Duration = Duration::from_secs(3_600);

impl StateDirectory {
    /// Keeps a file's bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_artifact(&self, bytes: &[u8]) -> Result<Digest> {
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

    pub fn has_artifact(&self, digest: Digest) -> bool {
        self.artifact_file(digest).exists()
    }

    fn artifact_file(&self, digest: Digest) -> PathBuf {
        self.path().join("artifacts").join(digest.hex())
    }

    /// Drops artifacts that no pipeline's history needs.
    ///
    /// # Errors
    /// When a history cannot be read, or an artifact cannot be removed.
    pub fn collect_artifacts(&self) -> Result<()> {
        let mut needed = HashSet::new();
        for entry in fs::read_dir(self.path().join("pipelines"))? {
            let history: History = serde_json::from_slice(&fs::read(entry?.path())?)?;
            for (_, release) in history.deployments.iter().flat_map(|deployment| deployment.releases.iter()) {
                needed.insert(release.plugin.hex());
                needed.extend(release.model.map(|model| model.hex()));
            }
        }
        for entry in fs::read_dir(self.path().join("artifacts"))? {
            let entry = entry?;
            let is_old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age >= ON_ITS_WAY);
            if is_old && !needed.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
