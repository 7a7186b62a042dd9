//! What a daemon runs with: a flag, or its environment variable, comes before the daemon's file, and that before the default.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio_rustls::TlsAcceptor;

use super::Run;
use crate::api::tls;
use crate::cli::pipelines::Files;
use crate::cli::{Failure, Global};
use crate::config::daemon::{self, Daemon, Listen};
use crate::config::plan::Plan;
use crate::daemon::Options;

/// Everything, resolved.
pub(super) struct Settings {
    pub(super) plans: Vec<Plan>,
    /// Where the admin API listens; port 0 is a free one.
    pub(super) address: SocketAddr,
    /// `None`: plain HTTP, for this machine alone.
    pub(super) tls: Option<TlsAcceptor>,
    /// Names that the admin API is reached by, beside its addresses and `localhost`.
    pub(super) hosts: Vec<String>,
    /// The admin's token, in place of that in the state directory.
    pub(super) token_file: Option<PathBuf>,
    pub(super) options: Options,
}

impl Settings {
    /// Reads the daemon's file and the pipelines'.
    ///
    /// # Errors
    /// Every mistake in the files, or that the admin API cannot listen as it is asked to.
    pub(super) fn resolve(run: Run, global: &Global) -> Result<Self, Failure> {
        let Files { daemon, plans, .. } = Files::read(run.daemon.as_deref(), &run.files).valid()?;
        let file = daemon.unwrap_or_default();
        let certificate = run.admin_cert.zip(run.admin_key).or_else(|| file.admin.tls.clone());
        let (address, tls) = listening(global, &file, certificate.as_ref()).map_err(Failure::Usage)?;
        let options = Options {
            state: global.state_or(file.state),
            instance: run.instance.or(file.instance),
            dev: run.dev,
            compiler: run.compilation.or(&file.compile).compiler(),
            control: file.control,
        };
        Ok(Self {
            plans,
            address,
            tls,
            hosts: if run.admin_host.is_empty() { file.admin.hosts } else { run.admin_host },
            token_file: global.token_file.clone().or(file.admin.token_file),
            options,
        })
    }
}

/// Where to serve what others reach by `--admin`; port 0 is a free one, written to STATE/admin.
fn listening(
    global: &Global,
    file: &Daemon,
    certificate: Option<&(PathBuf, PathBuf)>,
) -> Result<(SocketAddr, Option<TlsAcceptor>), String> {
    let checked = |listen: &Listen| listen.check(certificate.is_some());
    let address = match (&global.admin, &file.admin.listen) {
        (None, Some(listen)) => {
            checked(listen).map_err(|why| file.mistake(daemon::LISTEN, why).to_string())?;
            listen.address
        }
        _ => {
            let admin = global.admin();
            let listen = Listen::parse(admin).map_err(|why| format!("--admin {admin:?} {why}"))?;
            checked(&listen).map_err(|why| format!("--admin {admin}: {why}"))?;
            listen.address
        }
    };
    let acceptor = certificate.map(|(certificate, key)| tls::acceptor(certificate, key)).transpose();
    Ok((address, acceptor.map_err(|error| format!("{error:#}"))?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    /// The command line of `run` alone.
    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        global: Global,
        #[command(flatten)]
        run: Run,
    }

    fn data() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../data")
    }

    fn pem(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/tls").join(name)
    }

    /// What comes of these arguments, beside a daemon's file with that text in a folder of its own.
    fn resolve(text: &str, arguments: &[&str]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("daemon.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("token"), "").unwrap();
        let arguments = ["run", "--daemon", file.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
        let line = CommandLine::try_parse_from(arguments).map_err(|error| error.to_string())?;
        match Settings::resolve(line.run, &line.global) {
            Ok(settings) => Ok(settings),
            Err(Failure::Usage(why)) => Err(why.replace(&format!("{}/", folder.path().display()), "")),
            Err(_) => Err("another failure".to_owned()),
        }
    }

    /// A whole daemon's file, which names the Iris example.
    fn whole() -> String {
        format!(
            "pipelines = [{:?}]\n\
             instance = \"eu-1\"\n\
             state = \"state\"\n\
             [control.kafka]\n\
             bootstrap.servers = \"127.0.0.1:9\"\n\
             [admin]\n\
             listen = \"0.0.0.0:9000\"\n\
             certificate = {:?}\n\
             key = {:?}\n\
             hosts = [\"sandpiper.example.com\"]\n\
             token_file = \"token\"\n\
             [compile]\n\
             time = \"7s\"\n",
            data().join("iris.toml"),
            pem("certificate.pem"),
            pem("key.pem"),
        )
    }

    #[test]
    fn a_daemon_runs_with_what_its_file_says() {
        let settings = resolve(&whole(), &[]).unwrap();
        assert_eq!(settings.plans.len(), 1);
        assert_eq!(settings.address.to_string(), "0.0.0.0:9000");
        assert!(settings.tls.is_some());
        assert_eq!(settings.hosts, ["sandpiper.example.com"]);
        assert!(settings.token_file.unwrap().is_absolute());
        let options = &settings.options;
        assert_eq!(options.instance.as_deref(), Some("eu-1"));
        assert!(options.state.is_absolute() && options.state.ends_with("state"), "beside the file");
        assert_eq!(options.control.as_ref().unwrap().commands(), "sandpiper.commands");
    }

    #[test]
    fn a_flag_comes_before_the_file() {
        let flags = [
            "--admin",
            "127.0.0.1:0",
            "--admin-host",
            "other.example.com",
            "--instance",
            "eu-2",
            "--state",
            "/elsewhere",
            "--token-file",
            "/token",
        ];
        let settings = resolve(&whole(), &flags).unwrap();
        assert_eq!(settings.address.to_string(), "127.0.0.1:0");
        assert_eq!(settings.hosts, ["other.example.com"]);
        assert_eq!(settings.token_file, Some("/token".into()));
        assert_eq!(settings.options.instance.as_deref(), Some("eu-2"));
        assert_eq!(settings.options.state, Path::new("/elsewhere"));
    }

    #[test]
    fn what_neither_says_is_as_without_a_file() {
        let settings = resolve(&format!("pipelines = [{:?}]\n", data().join("iris.toml")), &["--state", "/x"]).unwrap();
        assert_eq!(settings.address.to_string(), "127.0.0.1:8642");
        assert!(settings.tls.is_none() && settings.hosts.is_empty() && settings.options.control.is_none());
    }

    #[test]
    fn pipelines_of_the_command_line_come_beside_the_files() {
        let iris = data().join("iris.toml");
        let route = data().join("route.toml");
        let text = format!("pipelines = [{iris:?}]\n");
        let names: Vec<String> =
            resolve(&text, &[route.to_str().unwrap()]).unwrap().plans.into_iter().map(|plan| plan.name).collect();
        assert_eq!(names, ["iris", "route"]);
        let twice = resolve(&text, &[iris.to_str().unwrap()]).err().unwrap();
        assert!(twice.starts_with("daemon.toml:1:13: pipelines: ") && twice.contains("name it once"), "{twice}");
        assert_eq!(twice.lines().count(), 1, "nothing follows from it: {twice}");
        let none = resolve("", &[]).err().unwrap();
        assert!(none.starts_with("daemon.toml:1:1: pipelines: no pipeline is named"), "{none}");
        let empty = resolve("instance = \"a\"\npipelines = []\n", &[]).err().unwrap();
        assert!(empty.starts_with("daemon.toml:2:13: pipelines: no pipeline is named"), "{empty}");
    }

    #[test]
    fn a_file_that_is_named_twice_on_the_command_line_is_refused_once() {
        let iris = data().join("iris.toml");
        let twice = resolve("", &[iris.to_str().unwrap(), iris.to_str().unwrap()]).err().unwrap();
        assert!(twice.ends_with("the file is named twice on the command line: name it once"), "{twice}");
        assert_eq!(twice.lines().count(), 1, "{twice}");
    }

    #[test]
    fn control_topics_are_none_that_a_pipeline_reads_or_writes() {
        let text = whole().replace("[control.kafka]", "[control]\ntopics = \"a\"\n[control.kafka]");
        let iris = std::fs::read_to_string(data().join("iris.toml")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("mine.toml");
        let models = format!("\"{}/", data().join("models").display());
        let named = iris.replace("\"iris.predictions\"", "\"a.commands\"").replace("\"models/", &models);
        std::fs::write(&pipeline, named.replace("name = \"iris\"", "name = \"mine\"")).unwrap();
        let plan = crate::cli::pipelines::load(std::slice::from_ref(&pipeline)).ok().unwrap().remove(0);
        let text = text.replace("127.0.0.1:9\"", &format!("{}\"", plan.kafka.0["bootstrap.servers"]));
        let text = text.replace(&format!("{:?}", data().join("iris.toml")), &format!("{pipeline:?}"));
        let refused = resolve(&text, &[]).err().unwrap();
        assert!(
            refused.starts_with("daemon.toml:5:10: [control] topics: \"a.commands\" is [output] topic of "),
            "{refused}"
        );
        assert!(refused.contains("mine.toml too"), "{refused}");
        let elsewhere = text.replace(plan.kafka.0["bootstrap.servers"].as_str(), "other:9");
        assert!(resolve(&elsewhere, &[]).is_ok(), "of another cluster");
    }

    fn refused(admin: &str, arguments: &[&str]) -> String {
        let text = format!("pipelines = [{:?}]\n", data().join("iris.toml"));
        resolve(&text, &[&["--state", "/x", "--admin", admin], arguments].concat()).err().unwrap()
    }

    #[test]
    fn an_address_that_others_reach_needs_tls() {
        let text = format!("pipelines = [{:?}]\n", data().join("iris.toml"));
        let with = |admin: &str, tls: &[&str]| resolve(&text, &[&["--state", "/x", "--admin", admin], tls].concat());
        let (certificate, key) = (pem("certificate.pem"), pem("key.pem"));
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let tls = ["--admin-cert", certificate, "--admin-key", key];
        for admin in ["127.0.0.1:0", "http://localhost:8642", "[::1]:8642/", "http://127.0.0.2:1"] {
            assert!(with(admin, &[]).is_ok_and(|to| to.tls.is_none() && to.address.ip().is_loopback()), "{admin}");
        }
        for admin in ["0.0.0.0:8642", "http://192.0.2.1:8642", "[::]:8642"] {
            let why = refused(admin, &[]);
            assert!(why.contains("--admin-cert") && why.contains("127.0.0.1"), "{why}");
        }
        for admin in ["0.0.0.0:8642", "https://0.0.0.0:8642", "https://127.0.0.1:8642"] {
            assert!(with(admin, &tls).is_ok_and(|to| to.tls.is_some()), "{admin}");
        }
        assert!(refused("https://127.0.0.1:8642", &[]).contains("--admin-cert"));
        assert!(refused("http://127.0.0.1:8642", &tls).contains("https://"));
        let wrong_key = ["--admin-cert", certificate, "--admin-key", certificate];
        assert!(refused("https://127.0.0.1:8642", &wrong_key).contains("key"));
        assert!(refused("ftp://127.0.0.1:8642", &[]).contains("no address"));
        let in_file = whole().replace("certificate = ", "# ").replace("key = ", "# ");
        let why = resolve(&in_file, &[]).err().unwrap();
        assert!(why.starts_with("daemon.toml:7:10: [admin] listen: others than this machine"), "{why}");
    }
}
