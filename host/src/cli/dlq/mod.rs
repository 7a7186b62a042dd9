//! `dlq`: dead letters looked through, shown, and sent through their pipeline once more.

mod as_test;
mod ls;
mod replay;
mod show;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::compile_component::Compilation;
use super::table::grouped;
use super::{Failure, Global, Outcome, say};
use crate::config::plan::Plan;
use crate::kafka::reader::Progress;
use crate::replay::process::Request;
use crate::replay::{Range, Selection};
use crate::stream::clock::{Clock as _, SystemClock};

/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Dead letters: what is there, one of them, or all of them once more.
#[derive(Args)]
pub struct Dlq {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Subcommand)]
enum DlqVerb {
    /// Count dead letters by stage, reason and release.
    #[command(after_help = "Examples:\n  sandpiper dlq ls data/iris.toml\n  \
        sandpiper dlq ls data/iris.toml --reason not-a-number --since 1h --each")]
    Ls {
        /// A pipeline file.
        file: PathBuf,
        #[command(flatten)]
        filter: Filter,
        /// Each letter instead of their counts.
        #[arg(long)]
        each: bool,
    },
    /// Show one dead letter: the record as it was, and why it was not taken.
    #[command(after_help = "Examples:\n  sandpiper dlq show data/iris.toml 3@1842\n  \
        sandpiper dlq show data/iris.toml 3@1842 --as-test >> src/tests.rs")]
    Show {
        /// A pipeline file.
        file: PathBuf,
        /// Its place in the dead-letter topic: PARTITION@OFFSET.
        #[arg(value_name = "P@OFFSET")]
        place: Range,
        /// Print a Rust test of the plugin that did not take it, with what that release was given.
        #[arg(long)]
        as_test: bool,
        #[command(flatten)]
        compilation: Compilation,
    },
    /// Send dead letters through what the pipeline runs now, each once.
    #[command(after_help = "Examples:\n  sandpiper dlq replay iris --reason not-a-number --dry-run\n  \
        sandpiper dlq replay iris --release csv --rate 100\n\n\
        Runs in the daemon, also when this command is interrupted. Letters keep their record's id and origin; what fails again is \
        a new dead letter with one more attempt. Nothing is written into the pipeline's input.")]
    Replay {
        pipeline: String,
        #[command(flatten)]
        filter: Filter,
        /// Only say what would become of them.
        #[arg(long)]
        dry_run: bool,
        /// Letters a second, at most.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Leave letters alone that were tried as often.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        max_attempts: u32,
    },
}

#[derive(Args)]
struct Filter {
    /// `input`, `parse`, `classify`, `transform[0]`, `output` or `feedback`.
    #[arg(long)]
    stage: Option<String>,
    /// A reason's code.
    #[arg(long)]
    reason: Option<String>,
    /// A release, or a plugin's name for all its releases.
    #[arg(long)]
    release: Option<String>,
    /// Places in the dead-letter topic: PARTITION@OFFSET or PARTITION@FROM..TO.
    #[arg(long, value_name = "P@OFFSET")]
    at: Option<Range>,
    /// Written within this time, such as 1h or 30m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

impl Filter {
    fn selection(self) -> Selection {
        let since = self.since.map(|since| SystemClock.unix_ms().saturating_sub(since.as_millis() as i64));
        Selection { stage: self.stage, reason: self.reason, release: self.release, at: self.at, since }
    }
}

impl Dlq {
    pub fn run(self, global: &Global) -> Outcome {
        match self.verb {
            DlqVerb::Ls { file, filter, each } => ls::ls(global, &plan(file)?, &filter.selection(), each),
            DlqVerb::Show { file, place, as_test, compilation } => {
                show::show(global, &plan(file)?, place, as_test.then(|| compilation.compiler()))
            }
            DlqVerb::Replay { pipeline, filter, dry_run, rate, max_attempts } => replay::replay(
                global,
                &pipeline,
                &Request { selection: filter.selection(), dry_run, rate, max_attempts },
            ),
        }
    }
}

fn plan(file: PathBuf) -> Result<Plan, Failure> {
    let plans = super::pipelines::load(&[file])?;
    Ok(plans.into_iter().next().context("the file holds no pipeline")?)
}

/// Says on stderr what a command waits for.
pub(super) fn announce(wait: &str) {
    say(wait);
}

/// Says on stderr now and then how far a long scan is; it never ends one.
pub(super) fn reading() -> impl FnMut(Progress) -> bool {
    let mut last = Instant::now();
    move |progress| {
        if last.elapsed() >= PROGRESS_INTERVAL {
            last = Instant::now();
            say(&format!("read {} of {} offsets", grouped(progress.read), grouped(progress.whole)));
        }
        true
    }
}

fn place((partition, offset): (i32, i64)) -> String {
    format!("{partition}@{offset}")
}

#[cfg(test)]
mod fixture {
    use crate::replay::Facts;

    pub fn facts(reason: &str, time: i64) -> Facts {
        Facts {
            topic: "in".into(),
            offset: 7,
            stage: "parse".into(),
            release: Some("csv@0c1d".into()),
            reason: reason.into(),
            message: "column `x`\n\x1b[31m".into(),
            time,
            ..Facts::default()
        }
    }
}
