//! The command line: arguments as typed, resolved once, run. How an error is printed and which exit code it has is decided
//! here and nowhere else.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or a configuration is wrong, 3 `run` ended because every loop failed.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "`print` and `say` escape what commands a terminal")]

mod backtest;
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
mod pipelines;
mod plain;
mod plugin;
mod rollout;
mod run;
mod status;
mod table;
mod tap;
mod watch;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    /// The daemon's admin API: `run` serves it there, the other verbs look for it there. [default: http://127.0.0.1:8642]
    #[arg(long, global = true, value_name = "URL", env = "SANDPIPER_ADMIN")]
    admin: Option<String>,
    /// The daemon's directory for deployments, their files, compiled code and the admin API's tokens; one daemon at a time.
    /// [default: $STATE_DIRECTORY, $XDG_STATE_HOME/sandpiper or ~/.local/state/sandpiper]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The token to show to the admin API, and for `run` the admin's. [default: admin.token in the state directory]
    #[arg(long, global = true, value_name = "FILE", env = "SANDPIPER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates that an admin API at https:// is trusted by, PEM.
    #[arg(long, global = true, value_name = "FILE", env = "SANDPIPER_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// How data is printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Where the admin API is unless it is said otherwise.
const ADMIN: &str = "http://127.0.0.1:8642";

impl Global {
    pub fn admin(&self) -> &str {
        self.admin.as_deref().unwrap_or(ADMIN)
    }

    /// The state directory: what is named, else systemd's, else the user's.
    pub fn state(&self) -> PathBuf {
        self.state_or(None)
    }

    /// As `state`, where a daemon's file may name one: the flag comes before it.
    fn state_or(&self, file: Option<PathBuf>) -> PathBuf {
        let named = self.state.clone().or(file);
        if let Some(directory) = named.or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from)) {
            return directory;
        }
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        state.or_else(home).unwrap_or_else(std::env::temp_dir).join("sandpiper")
    }
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
    Backtest(backtest::Backtest),
    Deploy(deploy::Deploy),
    Rollout(rollout::Rollout),
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
        Verb::Backtest(verb) => verb.run(&cli.global),
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
            say(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            say(&message);
            ExitCode::from(2)
        }
        Err(Failure::Reported(code)) => ExitCode::from(code),
    }
}

/// Prints to stdout, with nothing that commands a terminal. False when its reader has gone, which ends a verb and is no failure.
///
/// # Errors
/// When stdout cannot be written.
fn print(text: &str) -> anyhow::Result<bool> {
    write(&plain::plain(text))
}

/// Says something on stderr, with nothing that commands a terminal. Nobody who has gone away is missed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain::plain(text));
}

fn write(text: &str) -> anyhow::Result<bool> {
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
    write(&(serde_json::to_string(value)? + "\n"))
}

/// What tells a process to end: SIGTERM, Ctrl-C, or that its terminal has gone.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where whoever started the process had it ignored, as `nohup` does: it goes on then.
    hangup: Option<Signal>,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    /// When the signals cannot be caught.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: (!is_ignored(libc::SIGHUP)?).then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for one, also one that came before; its name.
    async fn next(mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "interrupt",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Whether this process takes no notice of a signal.
fn is_ignored(number: libc::c_int) -> std::io::Result<bool> {
    // SAFETY: all zeros are a valid `sigaction`, and it outlives the call, which changes nothing but it.
    let (done, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(number, std::ptr::null(), &raw mut action), action)
    };
    if done == 0 { Ok(action.sa_sigaction == libc::SIG_IGN) } else { Err(std::io::Error::last_os_error()) }
}

/// A flag that Ctrl-C, SIGTERM or SIGHUP sets, for verbs that go on until they are interrupted.
///
/// # Errors
/// When the signals cannot be caught.
fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let flag = Arc::new(AtomicBool::new(false));
    let setter = flag.clone();
    let wait = async move {
        signals.next().await;
        setter.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait))?;
    Ok(flag)
}

/// What `RUST_LOG` asks for. A level that names no target is ours alone below `info`: compiler and HTTP write thousands of lines
/// a second then, and whoever wants them names them.
fn directives(wanted: &str) -> String {
    let directive = |one: &str| match one.trim().to_ascii_lowercase().as_str() {
        "" => "info".to_owned(),
        level @ ("debug" | "trace") => format!("info,sandpiper={level},sandpiper_sandbox={level}"),
        _ => one.to_owned(),
    };
    wanted.split(',').map(directive).collect::<Vec<_>>().join(",")
}

/// Log lines go to stderr. `RUST_LOG` filters them, but not those of the audit log; `SANDPIPER_LOG=json` writes them as JSON.
pub fn logging() {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::field::MakeExt as _;
    use tracing_subscriber::fmt::format::debug_fn;
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(directives(&wanted)).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match "audit=info".parse() {
        Ok(audit) => filter.add_directive(audit),
        Err(_) => filter,
    };
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    if std::env::var("SANDPIPER_LOG").is_ok_and(|form| form == "json") {
        builder.json().init();
    } else {
        // A plugin, a broker or a caller chooses what stands in a line, but not what it does to the terminal or where it ends.
        let fields = debug_fn(|writer, field, value| {
            let value = plain::one_line(&format!("{value:?}"));
            match field.name() {
                "message" => write!(writer, "{value}"),
                name => write!(writer, "{name}={value}"),
            }
        });
        builder.with_target(false).fmt_fields(fields.delimited(" ")).init();
    }
}

#[cfg(test)]
mod tests {
    use super::{directives, is_ignored};

    #[test]
    fn a_signal_that_was_ignored_at_the_start_is_known() {
        // Nothing else in these tests looks at it.
        let handle = |how| {
            // SAFETY: neither of the two is a function.
            unsafe { libc::signal(libc::SIGURG, how) }
        };
        assert!(!is_ignored(libc::SIGURG).unwrap());
        handle(libc::SIG_IGN);
        assert!(is_ignored(libc::SIGURG).unwrap());
        handle(libc::SIG_DFL);
        assert!(!is_ignored(libc::SIGURG).unwrap());
    }

    #[test]
    fn a_level_alone_is_ours_and_a_named_target_is_what_was_asked_for() {
        assert_eq!(directives(""), "info");
        assert_eq!(directives("debug"), "info,sandpiper=debug,sandpiper_sandbox=debug");
        assert_eq!(directives("warn"), "warn");
        assert_eq!(directives("TRACE,wasmtime=debug"), "info,sandpiper=trace,sandpiper_sandbox=trace,wasmtime=debug");
        assert_eq!(directives("librdkafka=debug"), "librdkafka=debug");
    }
}
