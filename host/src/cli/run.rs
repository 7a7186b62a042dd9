//! `run`: the daemon in the foreground.

mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::compile_component::Compilation;
use super::{Failure, Global, Outcome, Signals};
use crate::api::access::Access;
use crate::api::server::Listener;
use crate::api::tokens::Tokens;
use crate::api::{routes, server};
use crate::daemon::Daemon;
use settings::Settings;

/// The exit code when every loop has stopped for a reason that only a person can mend: whatever supervises the process sees
/// it, and need not start it anew at once.
const ALL_FAILED: u8 = 3;
/// Between two looks at whether anything runs.
const LOOK: Duration = Duration::from_millis(500);

/// Every loop has stopped for a reason that only a person can mend; the log says which.
#[derive(Debug, thiserror::Error)]
#[error("every loop has failed")]
struct AllFailed;

/// Run pipelines until SIGTERM, SIGHUP or Ctrl-C.
#[derive(Args)]
#[command(after_help = "Example:\n  sandpiper run data/iris.toml\n  sandpiper run data/iris.toml --dev\n  \
    sandpiper run --daemon /etc/sandpiper/daemon.toml\n  \
    sandpiper run data/iris.toml --admin https://0.0.0.0:8642 --admin-cert cert.pem --admin-key key.pem\n\n\
    On SIGTERM, SIGHUP or Ctrl-C each worker finishes its transaction and leaves its group; the exit code is then 0.\n\
    It is 3 when every loop has stopped for a reason that only a person can mend.")]
pub struct Run {
    /// Pipeline files.
    #[arg(required_unless_present = "daemon", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The daemon's own file: more pipelines, and what flags say otherwise. A flag comes before it.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Deploy anew whenever a plugin or model file of the pipelines changes. No release is on probation then: one that fails
    /// stays, and its records are dead letters.
    #[arg(long)]
    dev: bool,
    /// Keep answering on the admin API when every loop has failed, instead of ending with exit code 3.
    #[arg(long)]
    stay: bool,
    /// This daemon's name in transactional ids; kept in the state directory by default.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// The admin API's certificate, and those between it and its issuer's, PEM: it then speaks TLS.
    #[arg(long, value_name = "FILE", env = "SANDPIPER_ADMIN_CERT", requires = "admin_key")]
    admin_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE", env = "SANDPIPER_ADMIN_KEY", requires = "admin_cert")]
    admin_key: Option<PathBuf>,
    /// A name that the admin API is reached by, beside its addresses and `localhost`; may be repeated.
    #[arg(long, value_name = "NAME", env = "SANDPIPER_ADMIN_HOST", value_delimiter = ',')]
    admin_host: Vec<String>,
    #[command(flatten)]
    compilation: Compilation,
}

impl Run {
    pub fn run(self, global: &Global) -> Outcome {
        super::logging();
        crate::stream::failpoint::set_up().map_err(Failure::Usage)?;
        let (dev, stay) = (self.dev, self.stay);
        let settings = Settings::resolve(self, global)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
        let ended = runtime.block_on(serve(settings, dev, stay));
        // What is still compiled or looked for is for nobody any more, and is not waited for.
        runtime.shutdown_background();
        ended.map_err(
            |error| if error.is::<AllFailed>() { Failure::Reported(ALL_FAILED) } else { Failure::Failed(error) },
        )
    }
}

async fn serve(settings: Settings, dev: bool, stay: bool) -> Result<()> {
    let Settings { plans, address, tls, hosts, token_file, options } = settings;
    let signals = Signals::listen()?;
    let listener = Listener::bind(address, tls).await?;
    let bound = listener.address()?;
    let daemon = Arc::new(spawn_blocking(move || Daemon::open(plans, &options)).await??);
    let tokens = Tokens::open(daemon.directory.path(), token_file.as_deref())?;
    let access = Access::new(tokens, bound, hosts);
    std::fs::write(daemon.directory.path().join("admin"), bound.to_string()).context("writing STATE/admin")?;
    tracing::info!(address = %bound, instance = daemon.directory.instance(), "the admin API listens");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(listener, routes::router(daemon.clone(), access), async {
        let _ = stopped.await;
    }));
    let ended = until_told(daemon.clone(), signals, dev, stay).await;
    spawn_blocking(move || daemon.stop()).await?;
    let _ = stop.send(());
    serving.await?;
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    ended
}

/// Starts the pipelines, and waits until the process is told to end: that is heard while they are compiled, too.
async fn until_told(daemon: Arc<Daemon>, signals: Signals, dev: bool, stay: bool) -> Result<()> {
    let looked_at = daemon.clone();
    let starting = daemon.clone();
    let start = async {
        spawn_blocking(move || starting.start()).await??;
        let watcher = dev.then(|| crate::authoring::dev::watch(&daemon)).transpose()?;
        std::future::pending::<()>().await;
        drop(watcher);
        Ok(())
    };
    tokio::select! {
        failed = start => failed,
        () = failed(&looked_at), if !stay => {
            tracing::error!("nothing runs any more, and only a person can help: the process ends");
            Err(AllFailed.into())
        }
        signal = signals.next() => {
            tracing::info!("{signal}: finishing transactions");
            Ok(())
        }
    }
}

/// Waits until nothing runs any more because it failed.
async fn failed(daemon: &Daemon) {
    while !daemon.has_failed() {
        tokio::time::sleep(LOOK).await;
    }
}
