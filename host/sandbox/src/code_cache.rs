//! Compiled code on disk. Machine code is run from here, so it must be ours from the file up to the root, whole, and made
//! of what its name says: `COMPONENT.SETTINGS.CODE.cwasm`, each a SHA-256, the last of the code itself.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{Digest, ownership};

/// The ending of code that is being written.
const PART: &str = "part";

/// A directory of mode 0700.
pub(super) struct CodeCache {
    path: PathBuf,
    /// Of the engine: code of other ones is of no use here.
    settings: String,
    /// Where nobody named a directory: it goes with the engine.
    _temporary: Option<tempfile::TempDir>,
}

impl CodeCache {
    /// # Errors
    /// When another user could write what is run from there.
    pub fn open(path: &Path, settings: String) -> Result<Self> {
        let is_new = !path.exists();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("creating the code cache {}", path.display()))?;
        let path = std::path::absolute(path)?;
        check_directory(&path)?;
        ownership::check_parents("the code cache", &path)?;
        if let Some(parent) = path.parent().filter(|_| is_new) {
            // With the directory's name all code would go that is synced in it.
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .with_context(|| format!("syncing {}", parent.display()))?;
        }
        let cache = Self { path, settings, _temporary: None };
        cache.tidy()?;
        cache.evict(|_| true)?;
        Ok(cache)
    }

    /// # Errors
    /// As `open`.
    pub fn temporary(settings: String) -> Result<Self> {
        let ours = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("sandpiper-code-").permissions(ours).tempdir()?;
        let cache = Self::open(directory.path(), settings)?;
        Ok(Self { _temporary: Some(directory), ..cache })
    }

    /// The file of a component's code; `None` when there is none, or none that is whole.
    pub fn find(&self, component: Digest) -> Option<PathBuf> {
        let prefix = format!("{}.{}.", component.hex(), self.settings);
        for entry in fs::read_dir(&self.path).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(digest) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".cwasm")) else {
                continue;
            };
            let path = entry.path();
            match File::open(&path).map_err(Into::into).and_then(digest_of) {
                Ok(found) if found == digest => return Some(path),
                Ok(_) => tracing::warn!(path = %path.display(), "compiled code is damaged; compiling anew"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "compiled code is unusable; compiling anew")
                }
            }
            self.remove(&path);
        }
        None
    }

    /// Has `compile` write the code, with a directory that is its own to write into; answers the code's file, which is on the disk then.
    ///
    /// # Errors
    /// When that fails, or the code cannot be kept.
    pub fn add(&self, component: Digest, compile: impl FnOnce(File, &Path) -> Result<()>) -> Result<PathBuf> {
        let file = tempfile::Builder::new()
            .suffix(&format!(".{PART}"))
            .tempfile_in(&self.path)
            .with_context(|| format!("the code cache {} cannot be written", self.path.display()))?;
        compile(file.reopen()?, &self.path)?;
        file.as_file().sync_all()?;
        let digest = digest_of(file.reopen()?)?;
        let path = self.path.join(format!("{}.{}.{digest}.cwasm", component.hex(), self.settings));
        file.persist(&path)?;
        File::open(&self.path)?.sync_all()?;
        Ok(path)
    }

    /// Removes a file that turned out to be of no use.
    pub fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "compiled code cannot be removed");
        }
    }

    /// Removes the code of all components but those that are needed, and what another engine made.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn evict(&self, is_needed: impl Fn(Digest) -> bool) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut parts = name.split('.');
            let component = parts.next().and_then(|hex| format!("sha256:{hex}").parse().ok());
            let is_of_use = parts.next() == Some(&self.settings) && component.is_some_and(&is_needed);
            // What ends otherwise is being written.
            if name.ends_with(".cwasm") && !is_of_use {
                self.remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Removes what was being written when its process ended.
    fn tidy(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == PART) {
                self.remove(&path);
            }
        }
        Ok(())
    }
}

/// Refuses all but a directory that only we may look into.
fn check_directory(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
    let user = ownership::user();
    ensure!(
        metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0,
        "the code cache {} must be a directory of user {user} with mode 0700, since machine code is run from it; \
         correct it with `chmod 700`, or remove it",
        path.display()
    );
    Ok(())
}

fn digest_of(mut file: File) -> Result<String> {
    let mut digest = Sha256::new();
    std::io::copy(&mut file, &mut digest)?;
    Ok(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn open(path: &Path) -> Result<CodeCache> {
        CodeCache::open(path, "settings".into())
    }

    fn ours() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        mode(directory.path(), 0o700);
        directory
    }

    #[test]
    fn a_cache_that_nobody_named_is_ours_alone_and_goes_with_the_engine() {
        let cache = CodeCache::temporary("settings".into()).unwrap();
        let path = cache.path.clone();
        assert!(path.exists());
        drop(cache);
        assert!(!path.exists());
    }

    fn add(cache: &CodeCache, component: &[u8]) -> PathBuf {
        cache.add(Digest::of(component), |mut file, _| Ok(file.write_all(b"code")?)).unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_was_added_is_found_by_its_component_also_by_another_process() {
        let directory = ours();
        let path = add(&open(directory.path()).unwrap(), b"one");
        let cache = open(directory.path()).unwrap();
        assert_eq!(cache.find(Digest::of(b"one")), Some(path));
        assert_eq!(cache.find(Digest::of(b"other")), None);
    }

    #[test]
    fn damaged_code_is_not_found_and_goes() {
        let directory = ours();
        let cache = open(directory.path()).unwrap();
        let path = add(&cache, b"one");
        fs::write(&path, b"cod\0").unwrap();
        assert_eq!(cache.find(Digest::of(b"one")), None);
        assert!(!path.exists());
    }

    #[test]
    fn code_that_is_not_needed_and_of_other_engines_is_evicted() {
        let directory = ours();
        let cache = open(directory.path()).unwrap();
        let (kept, evicted) = (add(&cache, b"kept"), add(&cache, b"evicted"));
        cache.evict(|component| component == Digest::of(b"kept")).unwrap();
        assert!(kept.exists() && !evicted.exists());
        fs::write(directory.path().join("half.part"), b"").unwrap();
        CodeCache::open(directory.path(), "other".into()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn code_that_fails_to_be_made_leaves_nothing() {
        let directory = ours();
        let cache = open(directory.path()).unwrap();
        cache.add(Digest::of(b"one"), |_, _| anyhow::bail!("no")).unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_another_user_may_write_is_refused_up_to_the_root() {
        let top = tempfile::tempdir().unwrap();
        let parent = top.path().join("parent");
        let cache = parent.join("state/code");
        open(&cache).unwrap();
        for writable in [0o777, 0o775, 0o757, 0o1777] {
            // Sticky is enough only for root's.
            // SAFETY: it has no preconditions.
            let allowed = writable == 0o1777 && unsafe { libc::geteuid() } == 0;
            mode(&parent, writable);
            match open(&cache) {
                Ok(_) => assert!(allowed, "{writable:o}"),
                Err(error) => assert!(!allowed && error.to_string().contains("which others may write"), "{error}"),
            }
        }
        mode(&parent, 0o755);
        mode(&cache, 0o750);
        assert!(open(&cache).err().unwrap().to_string().contains("mode 0700"));
    }

    #[test]
    fn a_link_is_followed_and_what_it_leads_through_is_checked_too() {
        let top = tempfile::tempdir().unwrap();
        let (real, link) = (top.path().join("real"), top.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        open(&link.join("code")).unwrap();
        mode(&real, 0o777);
        assert!(open(&link.join("code")).err().unwrap().to_string().contains("which others may write"));
    }
}
