//! The command line: arguments as typed, resolved once, run. How an error is printed and which exit code it has is decided
//! here and nowhere else.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or a configuration is wrong.

mod check;
mod client;
mod compile_component;
mod completions;
mod demo;
mod deploy;
mod dlq;
mod history;
mod model;
mod pause;
mod plugin;
mod run;
mod status;
mod table;
mod tap;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// WebAssembly-plugin pipelines on Apache Kafka: exactly once, swapped while records flow.
#[derive(Parser)]
#[command(name = "sandpiper", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone)]
pub struct Global {
    /// The daemon's admin API: `run` serves it there, the other verbs look for it there.
    #[arg(long, global = true, value_name = "URL", env = "SANDPIPER_ADMIN", default_value = "http://127.0.0.1:8642")]
    pub admin: String,
    /// How data is printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Run(run::Run),
    Check(check::Check),
    Status(status::Status),
    History(history::History),
    Tap(tap::Tap),
    Dlq(dlq::Dlq),
    Deploy(deploy::Deploy),
    Rollout(deploy::Rollout),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Model(model::Model),
    Plugin(plugin::Plugin),
    Completions(completions::Completions),
    #[command(name = crate::control::compiler::VERB, hide = true)]
    CompileComponent(compile_component::CompileComponent),
}

/// A failure with its exit code.
pub enum Failure {
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 2.
    Usage(String),
    /// That exit code; what is wrong has been printed already.
    Reported(u8),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

pub type Outcome = Result<(), Failure>;

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.verb {
        Verb::Demo(verb) => verb.run(&cli.global),
        Verb::Run(verb) => verb.run(&cli.global),
        Verb::Check(verb) => verb.run(&cli.global),
        Verb::Status(verb) => verb.run(&cli.global),
        Verb::History(verb) => verb.run(&cli.global),
        Verb::Tap(verb) => verb.run(&cli.global),
        Verb::Dlq(verb) => verb.run(&cli.global),
        Verb::Deploy(verb) => verb.run(&cli.global),
        Verb::Rollout(verb) => verb.run(&cli.global),
        Verb::Pause(verb) => verb.run(&cli.global),
        Verb::Resume(verb) => verb.run(&cli.global),
        Verb::Model(verb) => verb.run(&cli.global),
        Verb::Plugin(verb) => verb.run(&cli.global),
        Verb::Completions(verb) => verb.run(),
        Verb::CompileComponent(verb) => verb.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
        Err(Failure::Reported(code)) => ExitCode::from(code),
    }
}

/// Prints to stdout. False when its reader has gone, which ends a verb and is no failure.
///
/// # Errors
/// When stdout cannot be written.
fn print(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::from(error).context("stdout cannot be written")),
    }
}

/// Prints one line of JSON.
///
/// # Errors
/// As `print`.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<bool> {
    print(&(serde_json::to_string(value)? + "\n"))
}

/// A flag that Ctrl-C or SIGTERM sets, for verbs that go on until they are interrupted.
///
/// # Errors
/// When the signals cannot be caught.
fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let flag = Arc::new(AtomicBool::new(false));
    let setter = flag.clone();
    let wait = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        setter.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait))?;
    Ok(flag)
}

/// The state directory when none is named: systemd's, or else the user's.
pub fn default_state() -> PathBuf {
    if let Some(directory) = std::env::var_os("STATE_DIRECTORY") {
        return PathBuf::from(directory);
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(home).unwrap_or_else(std::env::temp_dir).join("sandpiper")
}

/// Log lines go to stderr. `RUST_LOG` filters them; `SANDPIPER_LOG=json` writes them as JSON.
pub fn logging() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    if std::env::var("SANDPIPER_LOG").is_ok_and(|form| form == "json") {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
