//! The two secrets that callers show: the admin's, who may change what runs, and the viewer's, who may look.
//!
//! Each is a line of a file of mode 0600 in the state directory, made when the daemon first starts there. They are read once;
//! one that is to be replaced is removed, and the daemon started anew.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ring::hmac;
use subtle::ConstantTimeEq as _;

/// The file of the state directory that the admin's token stands in.
pub const ADMIN_FILE: &str = "admin.token";
/// The viewer's.
pub const VIEWER_FILE: &str = "viewer.token";

/// Bytes of chance in a token that is made here; each is two letters of it.
const CHANCE: usize = 32;
/// A token that was made elsewhere has as many letters, at least.
const SHORTEST: usize = 32;
/// Where a token's file stands, which says who may read it beside its owner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kept {
    /// Nobody else.
    InState,
    /// A file that somebody named by `--token-file`, as a mounted secret: its group.
    Elsewhere,
}

impl Kept {
    /// The bits of a file's mode that would let others read it, or anybody else write it.
    fn too_open(self) -> u32 {
        match self {
            Self::InState => 0o077,
            Self::Elsewhere => 0o027,
        }
    }
}

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
    /// When one cannot be read, is too short, can be read by others, or belongs to another user, who knows it.
    pub fn open(directory: &Path, admin: Option<&Path>) -> Result<Self> {
        let made = |name: &str| -> Result<String> {
            let file = directory.join(name);
            make(&file)?;
            ours(&file, Kept::InState)
        };
        let admin = admin.map_or_else(|| made(ADMIN_FILE), |file| ours(file, Kept::Elsewhere))?;
        Ok(Self { admin, viewer: made(VIEWER_FILE)? })
    }

    /// The proofs that the admin's and the viewer's are known here.
    pub fn proofs(&self, nonce: &str, address: SocketAddr) -> [String; 2] {
        [&self.admin, &self.viewer].map(|token| proof(token, nonce, address))
    }

    /// Whose token that is. How long it takes says nothing about the secrets.
    pub fn role_of(&self, token: &[u8]) -> Option<Role> {
        let is_admin = self.admin.as_bytes().ct_eq(token);
        let is_viewer = self.viewer.as_bytes().ct_eq(token);
        if bool::from(is_admin) { Some(Role::Admin) } else { bool::from(is_viewer).then_some(Role::Viewer) }
    }
}

/// A token's file, as a command reads it: whoever is asked to show a token may be another user than its owner.
///
/// # Errors
/// When it is not there, no token, or can be read by others.
pub fn read(file: &Path, kept: Kept) -> Result<String> {
    Ok(read_with_owner(file, kept)?.0)
}

/// As a daemon reads it: whose file it is knows the token.
fn ours(file: &Path, kept: Kept) -> Result<String> {
    let (token, owner) = read_with_owner(file, kept)?;
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    if owner != 0 && owner != user {
        let name = file.display();
        bail!(
            "the token's file {name} belongs to user {owner}, who knows what it holds: chown {user} {name}, or remove it"
        );
    }
    Ok(token)
}

fn read_with_owner(file: &Path, kept: Kept) -> Result<(String, u32)> {
    let name = file.display();
    let unreadable = || format!("the token's file {name} cannot be read");
    let mut opened = fs::File::open(file).with_context(unreadable)?;
    let metadata = opened.metadata().with_context(unreadable)?;
    let mode = metadata.mode() & 0o777;
    if mode & kept.too_open() != 0 {
        bail!("the token's file {name} can be read or changed by others (its mode is {mode:03o}): chmod 600 {name}");
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).with_context(unreadable)?;
    let token = text.trim();
    if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(
            "{name} holds no token, which is a line of {SHORTEST} or more ASCII letters and digits: `openssl rand -hex 32` \
             makes one; in a state directory, remove the file and the daemon makes it at its next start"
        );
    }
    Ok((token.to_owned(), metadata.uid()))
}

/// What a daemon answers to show that it knows a token, without the token: HMAC-SHA256 of the caller's nonce and of the address
/// that the daemon listens on, so that nobody else can pass its answer on as his own. In hexadecimal digits.
pub fn proof(token: &str, nonce: &str, address: SocketAddr) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    hex(hmac::sign(&key, proven(nonce, address).as_bytes()).as_ref())
}

/// Whether that is the proof of this token, for this nonce and address. How long it takes says nothing about the token.
pub fn is_proof(shown: &str, token: &str, nonce: &str, address: SocketAddr) -> bool {
    proof(token, nonce, address).as_bytes().ct_eq(shown.as_bytes()).into()
}

fn proven(nonce: &str, address: SocketAddr) -> String {
    format!("sandpiper admin API\n{nonce}\n{address}")
}

/// Something that nobody has seen before, in hexadecimal digits.
///
/// # Errors
/// When the system has no chance to give.
pub fn chance() -> Result<String> {
    let mut chance = [0; CHANCE];
    getrandom::fill(&mut chance)?;
    Ok(hex(&chance))
}

/// Whether a caller's text may be what `chance` made.
pub fn is_nonce(text: &str) -> bool {
    text.len() == 2 * CHANCE && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a token's file unless there is one.
fn make(file: &Path) -> Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        return Ok(());
    }
    let write = || -> Result<()> {
        let token = chance()?;
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn tokens_are_made_once_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path(), None).unwrap();
        for (name, role) in [(ADMIN_FILE, Role::Admin), (VIEWER_FILE, Role::Viewer)] {
            let file = directory.path().join(name);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            let token = read(&file, Kept::InState).unwrap();
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
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for (open, shown) in [(0o644, "644"), (0o640, "640"), (0o620, "620")] {
            mode(open);
            assert!(refused().contains("chmod 600") && refused().contains(shown), "{}", refused());
            assert!(read(&file, Kept::InState).is_err(), "a command does not show it either");
        }
        mode(0o640);
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(Tokens::open(elsewhere.path(), Some(&file)).is_ok(), "a mounted secret's group is who mounts it names");
        mode(0o644);
        assert!(Tokens::open(elsewhere.path(), Some(&file)).is_err());
        mode(0o600);
        for text in ["", "short", &"ä".repeat(64)] {
            fs::write(&file, text).unwrap();
            assert!(refused().contains("holds no token"), "{text}: {}", refused());
        }
    }

    #[test]
    fn a_token_of_another_users_is_refused_by_the_daemon_whose_it_would_be() {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        Tokens::open(directory.path(), None).unwrap();
        let file = directory.path().join(ADMIN_FILE);
        std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        for place in [None, Some(file.as_path())] {
            let why = Tokens::open(directory.path(), place).err().unwrap().to_string();
            assert!(why.contains("belongs to user 65534"), "{why}");
        }
        assert!(read(&file, Kept::InState).is_ok(), "root may command another user's daemon");
    }

    #[test]
    fn a_token_may_come_from_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        assert!(Tokens::open(directory.path(), Some(&secret)).is_err());
        make(&secret).unwrap();
        let tokens = Tokens::open(directory.path(), Some(&secret)).unwrap();
        assert_eq!(tokens.role_of(read(&secret, Kept::Elsewhere).unwrap().as_bytes()), Some(Role::Admin));
        assert!(!directory.path().join(ADMIN_FILE).exists());
    }

    #[test]
    fn a_proof_holds_for_one_token_one_nonce_and_one_address() {
        let (here, elsewhere) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path(), None).unwrap();
        let (nonce, other) = (chance().unwrap(), chance().unwrap());
        assert!(is_nonce(&nonce) && !is_nonce("") && !is_nonce(&"g".repeat(64)) && nonce != other);
        let [admin, viewer] = tokens.proofs(&nonce, here);
        assert!(is_proof(&admin, &tokens.admin, &nonce, here) && is_proof(&viewer, &tokens.viewer, &nonce, here));
        assert!(!is_proof(&admin, &tokens.viewer, &nonce, here) && !is_proof("", &tokens.admin, &nonce, here));
        assert!(!is_proof(&admin, &tokens.admin, &other, here), "an answer to another question");
        assert!(!is_proof(&admin, &tokens.admin, &nonce, elsewhere), "an answer that somebody passes on");
        assert!(!admin.contains(&tokens.admin));
    }
}
