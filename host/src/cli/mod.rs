//! The command line: arguments as typed, resolved once, run. Errors and exit codes are decided here.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or a configuration is wrong.

mod client;
mod deploy;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

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

/// For every verb.
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
    Run(run::Run),
    Deploy(deploy::Deploy),
    Rollout(deploy::Rollout),
}

/// A failure with its exit code.
pub enum Failure {
    /// Exit code 1.
    Failed(anyhow::Error),
    /// Exit code 2: everything is said already or stands in the message.
    Usage(String),
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
        Verb::Run(verb) => verb.run(&cli.global),
        Verb::Deploy(verb) => verb.run(&cli.global),
        Verb::Rollout(verb) => verb.run(&cli.global),
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
    }
}

/// The state directory when none is named: systemd's, else the user's.
pub fn default_state() -> PathBuf {
    if let Some(directory) = std::env::var_os("STATE_DIRECTORY") {
        return PathBuf::from(directory);
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(home).unwrap_or_else(std::env::temp_dir).join("sandpiper")
}

/// Log lines on stderr; `RUST_LOG` chooses which, `SANDPIPER_LOG=json` their form.
pub fn logging() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var("SANDPIPER_LOG").is_ok_and(|form| form == "json") {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
