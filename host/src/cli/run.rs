//! `run`: the daemon in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::compile_component::Compilation;
use super::{Failure, Global, Outcome};
use crate::api::routes;
use crate::config;
use crate::config::plan::Plan;
use crate::daemon::{Daemon, Options};
use sandpiper_sandbox::stock;

/// Run pipelines until SIGTERM or Ctrl-C.
#[derive(Args)]
#[command(after_help = "Example:\n  sandpiper run data/iris.toml\n  sandpiper run data/iris.toml --dev\n\n\
    On SIGTERM or Ctrl-C each worker finishes its transaction and leaves its group; the exit code is then 0.")]
pub struct Run {
    /// Pipeline files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Deploy anew whenever a plugin or model file of the pipelines changes.
    #[arg(long)]
    dev: bool,
    /// Directory for deployments, their files and compiled code; one daemon at a time.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// This daemon's name in transactional ids; kept in the state directory by default.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    compilation: Compilation,
}

impl Run {
    pub fn run(self, global: &Global) -> Outcome {
        super::logging();
        crate::stream::failpoint::set_up().map_err(Failure::Usage)?;
        let listen = listen_address(&global.admin)?;
        let plans = load(&self.files)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
        runtime.block_on(self.serve(plans, listen)).map_err(Failure::Failed)
    }

    async fn serve(self, plans: Vec<Plan>, listen: SocketAddr) -> Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listener = routes::bind(listen).await?;
        let address = listener.local_addr()?;
        let state = self.state.unwrap_or_else(super::default_state);
        let options = Options { state, instance: self.instance, compiler: self.compilation.compiler() };
        let daemon = tokio::task::spawn_blocking(move || Daemon::start(plans, &options)).await??;
        std::fs::write(daemon.directory.path().join("admin"), address.to_string()).context("writing STATE/admin")?;
        tracing::info!(%address, instance = daemon.directory.instance(), "the admin API listens");
        let daemon = Arc::new(daemon);
        let watcher = self.dev.then(|| crate::authoring::dev::watch(&daemon)).transpose()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(routes::serve(listener, daemon.clone(), async {
            let _ = stopped.await;
        }));
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing transactions"),
            _ = interrupt.recv() => tracing::info!("interrupt: finishing transactions"),
        }
        drop(watcher);
        tokio::task::spawn_blocking(move || daemon.stop()).await?;
        let _ = stop.send(());
        serving.await??;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Where to serve what others reach by `--admin`; port 0 is a free one, written to STATE/admin.
fn listen_address(admin: &str) -> Result<SocketAddr, Failure> {
    let address = admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/');
    let address = address.replace("localhost:", "127.0.0.1:");
    address.parse().map_err(|_| {
        Failure::Usage(format!(
            "--admin {admin:?} is no address to listen on: IP:PORT is needed, such as 127.0.0.1:8642"
        ))
    })
}

/// All mistakes of all files at once.
pub fn load(files: &[PathBuf]) -> Result<Vec<Plan>, Failure> {
    let stock = stock::names();
    let (mut plans, mut mistakes) = (Vec::new(), Vec::new());
    for file in files {
        match config::load(file, &stock) {
            Ok(plan) => plans.push(plan),
            Err(found) => mistakes.extend(found),
        }
    }
    mistakes.extend(config::check_together(&plans));
    if mistakes.is_empty() {
        return Ok(plans);
    }
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    Err(Failure::Usage(lines.join("\n")))
}
