//! `run`: the daemon in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;

use super::compile_component::Compilation;
use super::{Failure, Global, Outcome, Signals};
use crate::api::access::Access;
use crate::api::server::Listener;
use crate::api::tokens::Tokens;
use crate::api::{routes, server, tls};
use crate::config;
use crate::config::plan::Plan;
use crate::daemon::{Daemon, Options};
use sandpiper_sandbox::stock;

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
    sandpiper run data/iris.toml --admin https://0.0.0.0:8642 --admin-cert cert.pem --admin-key key.pem\n\n\
    On SIGTERM, SIGHUP or Ctrl-C each worker finishes its transaction and leaves its group; the exit code is then 0.\n\
    It is 3 when every loop has stopped for a reason that only a person can mend.")]
pub struct Run {
    /// Pipeline files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
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
        let files = self.admin_cert.as_deref().zip(self.admin_key.as_deref());
        let (address, acceptor) = listen_address(&global.admin, files)?;
        let plans = load(&self.files)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
        let ended = runtime.block_on(self.serve(plans, address, acceptor, global));
        // What is still compiled or looked for is for nobody any more, and is not waited for.
        runtime.shutdown_background();
        ended.map_err(
            |error| if error.is::<AllFailed>() { Failure::Reported(ALL_FAILED) } else { Failure::Failed(error) },
        )
    }

    async fn serve(
        self,
        plans: Vec<Plan>,
        address: SocketAddr,
        acceptor: Option<TlsAcceptor>,
        global: &Global,
    ) -> Result<()> {
        let signals = Signals::listen()?;
        let listener = Listener::bind(address, acceptor).await?;
        let bound = listener.address()?;
        let (state, compiler) = (global.state(), self.compilation.compiler());
        let options = Options { state, instance: self.instance, dev: self.dev, compiler };
        let daemon = Arc::new(spawn_blocking(move || Daemon::open(plans, &options)).await??);
        let tokens = Tokens::open(daemon.directory.path(), global.token_file.as_deref())?;
        let access = Access::new(tokens, bound, self.admin_host);
        std::fs::write(daemon.directory.path().join("admin"), bound.to_string()).context("writing STATE/admin")?;
        tracing::info!(address = %bound, instance = daemon.directory.instance(), "the admin API listens");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server::serve(listener, routes::router(daemon.clone(), access), async {
            let _ = stopped.await;
        }));
        let ended = until_told(daemon.clone(), signals, self.dev, self.stay).await;
        spawn_blocking(move || daemon.stop()).await?;
        let _ = stop.send(());
        serving.await?;
        if ended.is_ok() {
            tracing::info!("stopped");
        }
        ended
    }
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

/// Where to serve what others reach by `--admin`; port 0 is a free one, written to STATE/admin.
fn listen_address(admin: &str, tls: Option<(&Path, &Path)>) -> Result<(SocketAddr, Option<TlsAcceptor>), Failure> {
    let (scheme, address) = match admin.split_once("://") {
        Some((scheme, address)) => (Some(scheme), address),
        None => (None, admin),
    };
    let address = address.trim_end_matches('/').replace("localhost:", "127.0.0.1:");
    let address: SocketAddr = match address.parse() {
        Ok(address) if scheme.is_none_or(|scheme| ["http", "https"].contains(&scheme)) => address,
        _ => {
            return Err(Failure::Usage(format!(
                "--admin {admin:?} is no address to listen on: IP:PORT is needed, such as 127.0.0.1:8642"
            )));
        }
    };
    let usage = |why: &str| Err(Failure::Usage(format!("--admin {admin}: {why}")));
    match (scheme, tls) {
        (Some("https"), None) => usage("TLS needs --admin-cert FILE and --admin-key FILE"),
        (Some("http"), Some(_)) => usage("with --admin-cert it is https://"),
        (_, None) if !address.ip().is_loopback() => usage(
            "others than this machine reach that address, so it needs TLS: --admin-cert FILE and --admin-key FILE, or \
             listen on 127.0.0.1",
        ),
        (_, None) => Ok((address, None)),
        (_, Some((certificate, key))) => match tls::acceptor(certificate, key) {
            Ok(acceptor) => Ok((address, Some(acceptor))),
            Err(error) => Err(Failure::Usage(format!("{error:#}"))),
        },
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(admin: &str, tls: Option<(&Path, &Path)>) -> String {
        match listen_address(admin, tls) {
            Err(Failure::Usage(why)) => why,
            _ => panic!("{admin} was not refused"),
        }
    }

    #[test]
    fn an_address_that_others_reach_needs_tls() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/tls");
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        let tls = Some((certificate.as_path(), key.as_path()));
        for admin in ["127.0.0.1:0", "http://localhost:8642", "[::1]:8642/", "http://127.0.0.2:1"] {
            assert!(
                matches!(listen_address(admin, None), Ok((address, None)) if address.ip().is_loopback()),
                "{admin}"
            );
        }
        for admin in ["0.0.0.0:8642", "http://192.0.2.1:8642", "[::]:8642"] {
            let why = refused(admin, None);
            assert!(why.contains("--admin-cert") && why.contains("127.0.0.1"), "{why}");
        }
        for admin in ["0.0.0.0:8642", "https://0.0.0.0:8642", "https://127.0.0.1:8642"] {
            assert!(matches!(listen_address(admin, tls), Ok((_, Some(_)))), "{admin}");
        }
        assert!(refused("https://127.0.0.1:8642", None).contains("--admin-cert"));
        assert!(refused("http://127.0.0.1:8642", tls).contains("https://"));
        assert!(refused("https://127.0.0.1:8642", Some((&certificate, &certificate))).contains("--admin-key"));
        assert!(refused("ftp://127.0.0.1:8642", None).contains("no address"));
    }
}
