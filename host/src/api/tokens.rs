//! The two secrets that callers show: the admin's, who may change what runs, and the viewer's, who may look.
//!
//! Each is a line of a file of mode 0600 in the state directory, made when the daemon first starts there. They are read once;
//! one that is to be replaced is removed, and the daemon started anew.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use subtle::ConstantTimeEq as _;

/// The file of the state directory that the admin's token stands in.
pub const ADMIN_FILE: &str = "admin.token";
/// The viewer's.
pub const VIEWER_FILE: &str = "viewer.token";

/// Bytes of chance in a token that is made here; each is two letters of it.
const CHANCE: usize = 32;
/// A token that was made elsewhere has as many letters, at least.
const SHORTEST: usize = 32;
/// The bits of a file's mode that would let others read it, or anybody else write it.
const TOO_OPEN: u32 = 0o027;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        })
    }
}

/// The secrets of one daemon.
pub struct Tokens {
    admin: String,
    viewer: String,
}

impl Tokens {
    /// Reads both, and makes what is not there yet. `admin` is another file for the admin's, which must be there.
    ///
    /// # Errors
    /// When one cannot be read, is too short, or can be read by others.
    pub fn open(directory: &Path, admin: Option<&Path>) -> Result<Self> {
        let made = |name: &str| -> Result<String> {
            let file = directory.join(name);
            make(&file)?;
            read(&file)
        };
        Ok(Self { admin: admin.map_or_else(|| made(ADMIN_FILE), read)?, viewer: made(VIEWER_FILE)? })
    }

    /// Whose token that is. How long it takes says nothing about the secrets.
    pub fn role_of(&self, token: &[u8]) -> Option<Role> {
        let is_admin = self.admin.as_bytes().ct_eq(token);
        let is_viewer = self.viewer.as_bytes().ct_eq(token);
        if bool::from(is_admin) { Some(Role::Admin) } else { bool::from(is_viewer).then_some(Role::Viewer) }
    }
}

/// A token's file, as a daemon or a command reads it.
///
/// # Errors
/// When it is not there, no token, or can be read by others.
pub fn read(file: &Path) -> Result<String> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("the token's file {name} cannot be read"))?;
    let mode = fs::metadata(file)?.permissions().mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        bail!("the token's file {name} can be read or changed by others (its mode is {mode:03o}): chmod 600 {name}");
    }
    let token = text.trim();
    if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(
            "{name} holds no token, which is a line of {SHORTEST} or more ASCII letters and digits: `openssl rand -hex 32` \
             makes one; in a state directory, remove the file and the daemon makes it at its next start"
        );
    }
    Ok(token.to_owned())
}

/// Makes a token's file unless there is one.
fn make(file: &Path) -> Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        return Ok(());
    }
    let write = || -> Result<()> {
        let mut chance = [0; CHANCE];
        getrandom::fill(&mut chance)?;
        let token: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        // Whoever opens it finds all of it: its mode is 0600 from the start, and its name comes last.
        let directory = file.parent().context("a file without a directory")?;
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        writeln!(temporary, "{token}")?;
        temporary.as_file().sync_all()?;
        match temporary.persist_noclobber(file) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => return Err(error.error.into()),
            _ => {}
        }
        // People copy it, and it is to stay the same one.
        Ok(fs::File::open(directory)?.sync_all()?)
    };
    write().with_context(|| format!("making the token {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_made_once_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path(), None).unwrap();
        for (name, role) in [(ADMIN_FILE, Role::Admin), (VIEWER_FILE, Role::Viewer)] {
            let file = directory.path().join(name);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            let token = read(&file).unwrap();
            assert_eq!(token.len(), 2 * CHANCE);
            assert_eq!(tokens.role_of(token.as_bytes()), Some(role));
            assert_eq!(tokens.role_of(&token.as_bytes()[..63]), None, "a part of it is nobody's");
        }
        assert_eq!(tokens.role_of(b""), None);
        assert_ne!(tokens.admin, tokens.viewer);
        let again = Tokens::open(directory.path(), None).unwrap();
        assert_eq!((again.admin, again.viewer), (tokens.admin, tokens.viewer));
    }

    #[test]
    fn a_token_that_others_can_read_or_that_is_too_short_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Tokens::open(directory.path(), None).unwrap();
        let file = directory.path().join(ADMIN_FILE);
        let refused = || Tokens::open(directory.path(), None).err().unwrap().to_string();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused().contains("chmod 600") && refused().contains("644"), "{}", refused());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Tokens::open(directory.path(), None).is_ok(), "a group is named by whoever runs the daemon");
        for text in ["", "short", &"ä".repeat(64)] {
            fs::write(&file, text).unwrap();
            assert!(refused().contains("holds no token"), "{text}: {}", refused());
        }
    }

    #[test]
    fn a_token_may_come_from_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        assert!(Tokens::open(directory.path(), Some(&secret)).is_err());
        make(&secret).unwrap();
        let tokens = Tokens::open(directory.path(), Some(&secret)).unwrap();
        assert_eq!(tokens.role_of(read(&secret).unwrap().as_bytes()), Some(Role::Admin));
        assert!(!directory.path().join(ADMIN_FILE).exists());
    }
}
