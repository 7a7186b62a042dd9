//! The state directory: who this daemon is, what each pipeline runs, and the plugins and models that it needs for it.
//!
//! `instance` names the daemon, `lock` keeps a second one out, `pipelines/NAME.json` is a pipeline's history (`journal`),
//! `artifacts/DIGEST` are files by content (`artifacts`), `code/` is compiled code. Every file is written whole or not
//! at all: what is being written stands in `incoming/`, and what a process that was killed left there goes.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sandpiper_sandbox::ownership;
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
            make(&path).with_context(|| {
                format!("the state directory {} cannot be written; choose another with --state", path.display())
            })
        };
        directory("pipelines")?;
        directory("artifacts")?;
        keep_others_out(path)?;
        ownership::check_parents("the state directory", path)?;
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
        // A process that was killed may have made a folder, and not synced its name.
        sync(path).with_context(|| format!("syncing {}", path.display()))?;
        let mut state = Self { path: path.to_owned(), _lock: lock, instance: String::new() };
        state.instance = match instance {
            Some(instance) => instance.to_owned(),
            None => state.kept_instance()?,
        };
        state.collect_artifacts();
        Ok(state)
    }

    fn kept_instance(&self) -> Result<String> {
        let file = self.path.join("instance");
        match fs::read_to_string(&file) {
            Ok(text) if is_name(text.trim()) => Ok(text.trim().to_owned()),
            Ok(_) => bail!(
                "{} holds no name of a daemon, and may be damaged: write the name into it that this daemon had (its dead letters \
                 and its log have it), or remove it for a new one",
                file.display()
            ),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("reading {}", file.display()))
            }
            Err(_) => {
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
            Ok(sync(file.parent().unwrap_or(file))?)
        };
        persist().with_context(|| format!("writing {}", file.display()))
    }
}

/// Makes a directory of mode 0700 and those above it, and has their names on the disk when this returns: with the name all
/// goes that was synced in it.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(parent)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match sync(parent) {
        // Somebody else's directory may be one that we can write and not read; then its owner's system has to sync it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Has a directory's names on the disk when this returns.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_control())
}

/// Whoever may write here says what runs, and whoever may read finds tokens and models: it is ours alone. One that is root's,
/// as a mounted volume may be, cannot be changed by us; then its mode is its owner's business, unless anybody may write.
fn keep_others_out(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    let user = ownership::user();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let shown = path.display();
    if owner == user {
        if mode & 0o077 != 0 {
            tracing::warn!(
                "the state directory {shown} had mode {mode:04o}; it has 0700 now, so that nobody else can use it"
            );
            fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(|| format!("chmod 700 {shown}"))?;
        }
        return Ok(());
    }
    if owner != 0 {
        bail!(
            "the state directory {shown} belongs to user {owner}, who could exchange what this daemon runs: give it to user {user} \
             by chown, or choose another with --state"
        );
    }
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        bail!(
            "anybody may write into the state directory {shown}: take that away by `chmod o-w`, or choose another with --state"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(StateDirectory::open(&path, None).unwrap());
        for folder in [path.clone(), path.join("pipelines"), path.join("artifacts")] {
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700, "{}", folder.display());
        }
    }

    #[test]
    fn a_state_directory_that_another_user_may_exchange_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (parent, state) = (folder.path().join("parent"), folder.path().join("parent/state"));
        drop(StateDirectory::open(&state, None).unwrap());
        // 0775 is what an umask of 002 makes, 2775 what Kubernetes makes of a volume with an fsGroup.
        for mode in [0o775, 0o2775, 0o777] {
            fs::set_permissions(&parent, Permissions::from_mode(mode)).unwrap();
            let refused = StateDirectory::open(&state, None).err().unwrap().to_string();
            assert!(refused.contains("the state directory") && refused.contains("chmod go-w"), "{mode:o}: {refused}");
        }
        fs::set_permissions(&parent, Permissions::from_mode(0o755)).unwrap();
        drop(StateDirectory::open(&state, None).unwrap());
    }

    #[test]
    fn a_name_that_is_damaged_is_not_silently_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let name = StateDirectory::open(folder.path(), None).unwrap().instance().to_owned();
        assert_eq!(StateDirectory::open(folder.path(), None).unwrap().instance(), name);
        for damaged in [&b""[..], &[0; 36], &[0xff; 4]] {
            fs::write(folder.path().join("instance"), damaged).unwrap();
            let refused = StateDirectory::open(folder.path(), None).err().map(|error| format!("{error:#}")).unwrap();
            assert!(refused.contains("instance"), "{refused}");
        }
    }
}
