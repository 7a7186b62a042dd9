//! What a process does to the files under a folder, as `strace` tells it.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// All calls by which a file, a folder or what they hold can change. One that is not understood below is an error.
const TRACED: &str = "open,openat,openat2,creat,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,\
                      symlinkat,truncate,ftruncate,fallocate,write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,splice,\
                      lseek,dup,dup2,dup3,fsync,fdatasync,sync,syncfs,sync_file_range,msync,io_uring_setup";

/// Paths are relative to the folder.
#[derive(Clone, Debug)]
pub enum Call {
    MakeFolder(PathBuf),
    /// Opened to be written: made unless it is there, and emptied where that was asked for.
    Open {
        file: PathBuf,
        empties: bool,
    },
    Write {
        file: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    /// Of a file's content, or a folder's names.
    Sync {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    /// A line of the process's output: what it tells others to be so.
    Said(String),
}

/// What recording needs and this machine lacks.
pub fn is_missing() -> Option<&'static str> {
    let mut probe = recorder(Path::new("/dev/null"));
    probe.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match probe.status() {
        Ok(status) if status.success() => None,
        Ok(_) => Some("the right to trace a process"),
        Err(_) => Some("strace"),
    }
}

/// A command that runs another one, which is to be added, and leaves its calls in a file.
pub fn recorder(trace: &Path) -> Command {
    let mut command = Command::new("strace");
    // Every byte in full, in hexadecimal; paths beside file descriptors.
    command.args(["-f", "-y", "-xx", "-s", "100000000", "-e", "signal=none"]);
    command.arg("-e").arg(format!("trace={TRACED}")).arg("-o").arg(trace);
    command
}

/// The calls that succeeded, in the order in which they ended.
pub fn read(trace: &Path, base: &Path) -> Result<Vec<Call>> {
    let text = std::fs::read_to_string(trace).with_context(|| trace.display().to_string())?;
    let mut reader = Reader { base: base.canonicalize()?, offsets: HashMap::new(), calls: Vec::new() };
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    for line in text.lines() {
        let (process, line) = line.split_once(' ').context("a line without a process")?;
        let line = line.trim_start();
        if line.starts_with("+++") || line.starts_with("---") {
            continue;
        }
        if let Some(begun) = line.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, begun);
            continue;
        }
        let whole = match line.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => format!("{}{rest}", unfinished.remove(process).unwrap_or_default()),
            None => line.to_owned(),
        };
        reader.line(&whole).with_context(|| whole.chars().take(400).collect::<String>())?;
    }
    Ok(reader.calls)
}

struct Reader {
    base: PathBuf,
    /// Where the next byte goes, by file descriptor, of files under the folder.
    offsets: HashMap<String, usize>,
    calls: Vec<Call>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<()> {
        let (name, rest) = line.split_once('(').context("no call")?;
        let (arguments, result) = rest.rsplit_once(" = ").context("no result")?;
        let arguments = arguments.trim_end().strip_suffix(')').context("no end of the arguments")?;
        if result.starts_with(['-', '?']) {
            return Ok(());
        }
        let arguments: Vec<&str> = arguments.split(", ").collect();
        let argument = |at: usize| arguments.get(at).copied().context("an argument is missing");
        match name {
            "openat" => {
                let Some(file) = self.named(argument(0)?, argument(1)?)? else { return Ok(()) };
                let flags: Vec<&str> = argument(2)?.split('|').collect();
                let number = result.split('<').next().unwrap_or_default();
                self.offsets.insert(number.to_owned(), 0);
                anyhow::ensure!(!flags.contains(&"O_APPEND") && !flags.contains(&"O_TMPFILE"), "{flags:?}");
                if flags.contains(&"O_CREAT") || flags.contains(&"O_TRUNC") {
                    self.calls.push(Call::Open { file, empties: flags.contains(&"O_TRUNC") });
                }
            }
            "mkdir" => self.calls.extend(self.path(argument(0)?)?.map(Call::MakeFolder)),
            "rmdir" | "unlink" => self.calls.extend(self.path(argument(0)?)?.map(Call::Remove)),
            "unlinkat" => self.calls.extend(self.named(argument(0)?, argument(1)?)?.map(Call::Remove)),
            "rename" => self.rename(self.path(argument(0)?)?, self.path(argument(1)?)?)?,
            "renameat" | "renameat2" => {
                let from = self.named(argument(0)?, argument(1)?)?;
                self.rename(from, self.named(argument(2)?, argument(3)?)?)?;
            }
            "write" if descriptor(argument(0)?) == "1" => {
                let text = String::from_utf8(text(argument(1)?)?)?;
                self.calls.extend(text.lines().map(|line| Call::Said(line.to_owned())));
            }
            "write" => {
                let Some(file) = self.opened(argument(0)?)? else { return Ok(()) };
                let written: usize = result.parse()?;
                let mut bytes = text(argument(1)?)?;
                bytes.truncate(written);
                let offset = self.offsets.entry(descriptor(argument(0)?).to_owned()).or_default();
                let at = *offset;
                *offset += written;
                self.calls.push(Call::Write { file, at, bytes });
            }
            "lseek" => {
                if self.opened(argument(0)?)?.is_some() {
                    self.offsets.insert(descriptor(argument(0)?).to_owned(), result.parse()?);
                }
            }
            "fsync" | "fdatasync" => {
                self.calls.extend(self.opened(argument(0)?)?.map(|path| Call::Sync { path }));
            }
            _ => {
                // Whatever it is, it is not about our files.
                let touched = arguments.iter().any(|text| {
                    let opened = self.opened(text).is_ok_and(|path| path.is_some());
                    opened || self.path(text).is_ok_and(|path| path.is_some())
                });
                anyhow::ensure!(!touched, "a call that is not understood");
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) -> Result<()> {
        match (from, to) {
            (None, None) => {}
            (Some(from), Some(to)) => self.calls.push(Call::Rename { from, to }),
            (from, to) => bail!("{from:?} and {to:?} are not on one disk"),
        }
        Ok(())
    }

    /// A path under the folder, and none elsewhere.
    fn path(&self, quoted: &str) -> Result<Option<PathBuf>> {
        Ok(self.under(Path::new(std::str::from_utf8(&text(quoted)?)?)))
    }

    /// A name beside the folder that it is relative to, unless it is absolute.
    fn named(&self, folder: &str, quoted: &str) -> Result<Option<PathBuf>> {
        let name = text(quoted)?;
        Ok(self.under(&annotation(folder)?.join(std::str::from_utf8(&name)?)))
    }

    /// The path of a file descriptor.
    fn opened(&self, argument: &str) -> Result<Option<PathBuf>> {
        Ok(self.under(&annotation(argument)?))
    }

    fn under(&self, path: &Path) -> Option<PathBuf> {
        let rest = path.strip_prefix(&self.base).ok()?;
        assert!(rest.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
        Some(rest.to_owned())
    }
}

/// `3<\x2f\x74>`: the number.
fn descriptor(argument: &str) -> &str {
    argument.split('<').next().unwrap_or_default()
}

/// `3<\x2f\x74>`: the path.
fn annotation(argument: &str) -> Result<PathBuf> {
    let path = argument.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
    Ok(PathBuf::from(String::from_utf8(bytes(path)?)?))
}

/// `"\x2f\x74"`: the bytes.
fn text(quoted: &str) -> Result<Vec<u8>> {
    bytes(quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).context("no text, or one that is cut")?)
}

fn bytes(escaped: &str) -> Result<Vec<u8>> {
    let digits = escaped.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).context("no hexadecimal digits")).collect()
}
