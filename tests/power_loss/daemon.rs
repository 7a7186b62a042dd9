//! What a daemon does to its state directory in its life, and what it must find there whenever the power goes.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use sandpiper::api::tokens::{self, Tokens};
use sandpiper::control::StateDirectory;
use sandpiper::control::command::{Action, Command, CommandId};
use sandpiper::control::deployment::{Deployment, Release, Releases};
use sandpiper::control::history::History;
use sandpiper::control::journal::{Entry, Journal as _};
use sandpiper::record::Revision;
use sandpiper_sandbox::{Compiler, Digest, Engine, Plugin};

pub const DEPLOYMENTS: usize = 4;
const PIPELINE: &str = "iris";
/// Deployments that the pipeline remembers here, so that an artifact is needed no more.
const REMEMBERED: usize = 2;

/// How the daemon has its name.
#[derive(Clone, Copy, PartialEq)]
pub enum Start {
    /// It makes one and keeps it.
    Fresh,
    /// By `--instance`.
    Named,
}

impl Start {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Named => "named",
        }
    }

    pub fn named(name: &str) -> Self {
        if name == "fresh" { Self::Fresh } else { Self::Named }
    }

    fn instance(self) -> Option<&'static str> {
        (self == Self::Named).then_some("fixed")
    }
}

/// The life that is recorded: it says what others may rely on from then on.
pub fn live(path: &Path, start: Start) -> Result<()> {
    for first in [1, 3] {
        let state = StateDirectory::open(path, start.instance())?;
        say(&format!("instance {}", state.instance()))?;
        Tokens::open(path, None)?;
        for file in [tokens::ADMIN_FILE, tokens::VIEWER_FILE] {
            say(&format!("{file} {}", tokens::read(&path.join(file), tokens::Kept::InState)?))?;
        }
        let engine = Engine::new(Some(&path.join("code")), Compiler::InProcess)?;
        for number in first..first + 2 {
            let plugin = component(number);
            let (kept, model) = (state.keep_artifact(&plugin)?, state.keep_artifact(&model(number))?);
            say(&format!("artifact {kept}"))?;
            say(&format!("artifact {model}"))?;
            Plugin::load(&engine, "p", &plugin)?;
            say(&format!("code {}", kept.hex()))?;
            // Files that nothing needs go only when they are old.
            for entry in std::fs::read_dir(path.join("artifacts"))? {
                let file = std::fs::File::options().write(true).open(entry?.path())?;
                file.set_modified(SystemTime::now() - Duration::from_secs(7_200))?;
            }
            let command = Command {
                from: String::new(),
                id: CommandId(number as u64),
                by: None,
                against: None,
                action: Action::Staged { of: CommandId(0), owns: true },
            };
            state.keep(PIPELINE, &Entry { command, at: 0 }, &history(number))?;
            say(&format!("kept {number}"))?;
        }
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// A component of its own for each deployment.
fn component(number: usize) -> Vec<u8> {
    wat::parse_str(format!(r#"(component (core module (func (export "f") (result i32) i32.const {number})))"#))
        .expect("a component")
}

fn model(number: usize) -> Vec<u8> {
    format!("model {number}").repeat(100).into_bytes()
}

/// What is kept when that deployment is current.
fn history(number: usize) -> History {
    let deployment = |number: usize| Deployment {
        revision: Revision::new(number as u64).expect("a revision"),
        releases: Releases {
            parse: Some(Release {
                name: "p".into(),
                plugin: Digest::of(&component(number)),
                model: Some(Digest::of(&model(number))),
                config: serde_json::json!({ "number": number }),
            }),
            ..Releases::default()
        },
        reason: "power".into(),
        by: None,
        at: 0,
        on_probation: false,
        scorer_on_probation: false,
        failed: None,
        challenger: None,
    };
    let oldest = number.saturating_sub(REMEMBERED - 1).max(1);
    History { applied: None, deployments: (oldest..=number).map(deployment).collect(), ..History::default() }
}

/// A daemon starts, and finds all that the one before has said, or what it was about to say.
pub fn check(path: &Path, start: Start, said: &[String]) -> Result<()> {
    let said: Vec<(&str, &str)> = said.iter().filter_map(|text| text.split_once(' ')).collect();
    let last: HashMap<&str, &str> = said.iter().copied().collect();
    let state = StateDirectory::open(path, start.instance())?;
    if let Some(instance) = last.get("instance") {
        ensure!(state.instance() == *instance, "it is {} now, and was {instance}", state.instance());
    }

    let kept = state.read(PIPELINE)?;
    let current = kept.last.map_or(0, |id| id.0 as usize);
    let expected = if current == 0 { History::default() } else { history(current) };
    ensure!(kept.history == expected, "a history that nobody kept: {:?}", kept.history);
    let told: usize = last.get("kept").map_or(Ok(0), |number| number.parse())?;
    ensure!(current == told || current == told + 1, "deployment {told} was kept, and {current} is found");
    for (_, release) in kept.history.deployments.iter().flat_map(|deployment| deployment.releases.iter()) {
        for digest in [Some(release.plugin), release.model].into_iter().flatten() {
            state.artifact(digest).with_context(|| format!("deployment {current} needs it"))?;
        }
    }
    // What was sent for the next deployment is there for it.
    for digest in [Digest::of(&component(told + 1)), Digest::of(&model(told + 1))] {
        if said.contains(&("artifact", &digest.to_string())) {
            state.check_artifact(digest)?;
        }
    }

    Tokens::open(path, None)?;
    for file in [tokens::ADMIN_FILE, tokens::VIEWER_FILE] {
        if let Some(token) = last.get(file) {
            ensure!(tokens::read(&path.join(file), tokens::Kept::InState)? == **token, "{file} holds another token");
        }
    }

    let code = path.join("code");
    let compiled = compiled(&code)?;
    for (_, component) in said.iter().filter(|(what, _)| *what == "code") {
        ensure!(compiled.iter().any(|name| name.starts_with(component)), "{component} is to be compiled again");
    }
    if compiled.is_empty() {
        return Ok(());
    }
    let engine = Engine::new(Some(&code), Compiler::InProcess)?;
    let before = modified(&code, &compiled)?;
    for number in 1..=DEPLOYMENTS {
        let plugin = component(number);
        if compiled.iter().any(|name| name.starts_with(&Digest::of(&plugin).hex())) {
            Plugin::load(&engine, "p", &plugin)?;
        }
    }
    ensure!(modified(&code, &compiled)? == before, "compiled code was of no use");
    Ok(())
}

/// The names of compiled code, each of which says what it holds.
fn compiled(code: &Path) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(code) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(digest) = name.strip_suffix(".cwasm").and_then(|name| name.rsplit('.').next()) else { continue };
        if Digest::of(&std::fs::read(entry.path())?).hex() != digest {
            bail!("{name} does not hold what it is called after");
        }
        names.push(name);
    }
    Ok(names)
}

fn modified(code: &Path, names: &[String]) -> Result<Vec<SystemTime>> {
    names.iter().map(|name| Ok(std::fs::metadata(code.join(name))?.modified()?)).collect()
}
