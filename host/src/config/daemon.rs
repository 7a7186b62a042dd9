//! A daemon's own file: the pipelines that it runs, where it keeps what it remembers, and who reaches it.
//!
//! It is read as a pipeline's file is, every mistake at once. What the command line says besides is not known here.

mod admin;
pub(super) mod control;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::File;
use super::mistake::Mistake;
use super::section::Section;
use super::value::Setting;
use super::{name, read_text, unit};

pub use admin::{Admin, Listen};
pub use control::Control;

/// A daemon's file as read; `None` stands for what the file leaves to the command line and to the defaults.
#[derive(Debug, Default)]
pub struct Daemon {
    pub file: PathBuf,
    /// Pipeline files, each once.
    pub pipelines: Vec<PathBuf>,
    /// This daemon's name in transactional ids.
    pub instance: Option<String>,
    /// The state directory.
    pub state: Option<PathBuf>,
    /// Present where the daemon is controlled through Kafka.
    pub control: Option<Control>,
    pub admin: Admin,
    pub compile: Compile,
    /// Line and column of keys that may yet turn out to be wrong beside pipelines or flags.
    places: BTreeMap<&'static str, (usize, usize)>,
}

/// `[compile]`: what compiling one plugin may take.
#[derive(Debug, Default)]
pub struct Compile {
    pub time: Option<Duration>,
    /// Bytes.
    pub memory: Option<usize>,
}

/// Keys as `Daemon::mistake` takes them.
pub const PIPELINES: &str = "pipelines";
pub const LISTEN: &str = "[admin] listen";
pub const CERTIFICATE: &str = "[admin] certificate";
pub const CONTROL: &str = "[control.kafka]";
pub(super) const CONTROL_TOPICS: &str = "[control] topics";

impl Daemon {
    /// A mistake that only shows beside pipelines or flags, at its key where the file has it.
    pub fn mistake(&self, key: &str, message: impl Into<String>) -> Mistake {
        let (line, column) = self.places.get(key).copied().unwrap_or((1, 1));
        Mistake { file: self.file.clone(), line, column, key: key.to_owned(), message: message.into() }
    }
}

/// Reads a daemon's file. One that cannot be read is a mistake too.
pub fn load(path: &Path) -> Result<Daemon, Vec<Mistake>> {
    let env = |name: &str| std::env::var(name).ok();
    parse(path, &read_text(path, "the daemon's file")?, &env)
}

/// Reads the text of a daemon's file. Relative paths in it are relative to the folder of `path`.
pub fn parse(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Daemon, Vec<Mistake>> {
    super::parse_with(File::new(path, text, &[], env), daemon)
}

/// `None` when something is wrong. All sections are read before any is given up.
fn daemon(top: &Section<'_>) -> Option<Daemon> {
    let pipelines = top.list("pipelines", "[\"iris.toml\"]", |text| top.file.existing(text));
    let instance = top.text("instance", name::instance).optional();
    let state = top.text("state", |text| Ok(top.file.resolve(text))).optional();
    let control = top.section("control", "topics = \"sandpiper\"");
    let admin = top.section("admin", "listen = \"127.0.0.1:8642\"");
    let compile = top.section("compile", "time = \"120s\"");
    top.finish();

    let pipelines = pipelines.or(Vec::new(), "none");
    if let Some(pipelines) = &pipelines {
        check_once(top, &pipelines.value);
    }
    let mut places = BTreeMap::new();
    for (name, section, key) in [
        (PIPELINES, Some(top), "pipelines"),
        (CONTROL, control.as_ref(), "kafka"),
        // By default they are not named: then what asks for them is.
        (CONTROL_TOPICS, control.as_ref(), "kafka"),
        (CONTROL_TOPICS, control.as_ref(), "topics"),
        (LISTEN, admin.as_ref(), "listen"),
        (CERTIFICATE, admin.as_ref(), "certificate"),
    ] {
        if let Some(value) = section.and_then(|section| section.get(key)) {
            places.insert(name, top.file.place(&value.span()));
        }
    }
    let control = control.and_then(|section| super::optional(&section, control::read));
    let admin = admin.and_then(|section| admin::read(&section));
    let compile = compile.and_then(|section| compile_bounds(&section));
    Some(Daemon {
        file: top.file.path.to_path_buf(),
        pipelines: pipelines?.value.into_iter().map(|file| file.value).collect(),
        instance: instance?,
        state: state?,
        control: control?,
        admin: admin?,
        compile: compile?,
        places,
    })
}

/// Whoever names a file twice means another one, or forgot the first.
fn check_once(top: &Section<'_>, files: &[Setting<PathBuf>]) {
    for (number, file) in files.iter().enumerate() {
        let is_same = |other: &&Setting<PathBuf>| is_same_file(&other.value, &file.value);
        let earlier = files.iter().take(number).find(is_same);
        if let (Some(earlier), Some(at)) = (earlier.and_then(|earlier| earlier.at.as_ref()), &file.at) {
            let message = format!("{} is named twice (line {} too): name it once", file.shown, top.file.line(earlier));
            top.file.mistake(at, PIPELINES, message);
        }
    }
}

/// Whether two paths lead to one file, whatever links and dots are on the way.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole(one) == whole(other)
}

fn compile_bounds(section: &Section<'_>) -> Option<Compile> {
    let time = section.text("time", unit::duration).optional();
    let memory = section.number("memory", unit::size).optional();
    section.finish();
    Some(Compile { time: time?, memory: memory? })
}
