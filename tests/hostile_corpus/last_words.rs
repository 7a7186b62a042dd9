//! What a failure says: its cause first, then the frames, and the plugin's own last words.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandpiper_sandbox::stage::{Parse as _, WasmParser};
use sandpiper_sandbox::{Failure, Limits, Opening};

use crate::harness::{Place, batch, hostile_plugin};

const DEADLINE: Duration = Duration::from_millis(100);
const FRAMES: &str = "\nframes, the innermost first:\n";

fn open(what: &str) -> Result<WasmParser> {
    let opening = Opening { config: format!(r#"{{"do":"{what}"}}"#), ..Opening::default() };
    let limits = Limits { deadline: DEADLINE, ..Limits::default() };
    Ok(WasmParser::open(hostile_plugin(Place::Parser)?, limits, opening)?.0)
}

fn failure(what: &str, deadline: Duration) -> Result<Failure> {
    open(what)?.parse(&batch(0, 4, false), deadline).err().with_context(|| format!("{what} does not fail"))
}

/// The cause, and the frames behind it.
fn parts(failure: &Failure) -> Result<(&str, &str)> {
    failure.message.split_once(FRAMES).with_context(|| format!("no frames: {}", failure.message))
}

pub fn run() -> Result<String> {
    let trap = failure("trap", DEADLINE)?;
    let (cause, frames) = parts(&trap)?;
    ensure!(cause.contains("unreachable") && !cause.contains("backtrace"), "{cause}");
    ensure!(frames.contains("sandpiper_hostile_parser"), "{frames}");

    let (whole, share) = (failure("loop", DEADLINE)?, failure("loop", DEADLINE / 2)?);
    let (cause, frames) = parts(&whole)?;
    ensure!(cause == "it was still running when its time was up: limits.deadline = 100ms", "{cause}");
    ensure!(frames.contains("sandpiper_hostile_parser"), "{frames}");
    let (cause, _) = parts(&share)?;
    ensure!(cause.ends_with("this call had 50ms of limits.deadline = 100ms"), "{cause}");

    let asked = failure("unknown-row", Duration::from_secs(30))?;
    ensure!(parts(&asked)?.0.starts_with("record-context was asked for row 4"), "{}", asked.message);

    let panicked = failure("panic", Duration::from_secs(30))?;
    ensure!(panicked.log.contains("panics as it was told to"), "{panicked:?}");
    for what in ["panic-in-open", "trap-in-open"] {
        let error = format!("{:#}", open(what).err().context("it opened")?);
        ensure!(error.contains("failed in open: ") && error.contains(FRAMES), "{error}");
        let has_words = error.contains("\nits last log lines:\n") && error.contains("panics as it was told to");
        ensure!(has_words == (what == "panic-in-open"), "{error}");
    }
    Ok("cause, frames and last words".into())
}
