//! Whose a path is, up to the root: who may write a directory may put another one into the place of anything in it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The effective user of this process.
pub fn user() -> u32 {
    // SAFETY: it has no preconditions.
    unsafe { libc::geteuid() }
}

/// Refuses a path that somebody else may exchange, of which `what` says what it is. Every directory above it must be this user's or
/// root's, and be written by nobody else: also not by a group, whose members cannot be known. A sticky directory of root's,
/// as `/tmp`, lets nobody touch what another one made there.
///
/// # Errors
/// When a directory above it is somebody else's to write; the message says which, and how to mend it.
pub fn check_parents(what: &str, path: &Path) -> Result<()> {
    let path = std::path::absolute(path)?;
    // As it is written and as it is: each link on the way stands in a directory, too.
    for written in [path.clone(), fs::canonicalize(&path)?] {
        written.ancestors().skip(1).try_for_each(|parent| check_parent(what, &path, parent))?;
    }
    Ok(())
}

fn check_parent(what: &str, path: &Path, parent: &Path) -> Result<()> {
    let metadata = fs::metadata(parent).with_context(|| format!("reading {}", parent.display()))?;
    let (owner, mode) = (metadata.uid(), metadata.mode());
    let (path, parent) = (path.display(), parent.display());
    if owner != 0 && owner != user() {
        bail!(
            "{what} {path} stands in {parent}, which belongs to user {owner}, who may exchange what is run from there; choose \
             another state directory"
        );
    }
    if mode & 0o022 != 0 && !(owner == 0 && mode & 0o1000 != 0) {
        bail!(
            "{what} {path} stands in {parent}, which others may write (mode {:o}), so that they may exchange what is run from \
             there; correct it with `chmod go-w {parent}`, or choose another state directory",
            mode & 0o7777
        );
    }
    Ok(())
}
