//! The program under test: as a daemon, and as its own command line.

use super::{PATIENCE, until, until_true};
use crate::kafka::{keeper, tail};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The program, without the settings for it that this environment may have.
pub fn sandpiper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpiper"));
    for name in ["SANDPIPER_ADMIN", "SANDPIPER_TOKEN_FILE", "SANDPIPER_CA_FILE", "RUST_LOG", "FAILPOINTS"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Printed {
    pub fn of(command: &mut Command) -> Result<Printed> {
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Printed {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The printed JSON of a command that succeeded.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.code == Some(0), "the command failed: {self:?}");
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// `sandpiper run`, killed when it goes out of scope.
pub struct Daemon {
    child: Child,
    ended: Option<ExitStatus>,
    /// Where it keeps its state; the file `admin` in it holds the address that it serves on.
    pub state: PathBuf,
    pub log: PathBuf,
}

impl Daemon {
    /// Starts the daemon. Its state, and its log, stand in `scene` under `name`, so a second start of the same name continues the first.
    pub fn spawn(scene: &Path, name: &str, pipelines: &[&Path], options: &[&str]) -> Result<Daemon> {
        Self::spawn_with(scene, name, pipelines, options, &[])
    }

    /// As `spawn`, with more in its environment.
    pub fn spawn_with(
        scene: &Path,
        name: &str,
        pipelines: &[&Path],
        options: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Result<Daemon> {
        let state = scene.join(name);
        fs::create_dir_all(&state)?;
        // An earlier run's address must not be taken for this run's.
        let _ = fs::remove_file(state.join("admin"));
        let path = scene.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path)?;
        let mut command = sandpiper();
        command.arg("run").args(pipelines).arg("--state").arg(&state).args(options);
        if !options.contains(&"--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        command.envs(environment.iter().copied()).stdout(log.try_clone()?).stderr(log);
        let child = keeper::spawn(command).context("cannot start the daemon")?;
        Ok(Daemon { child, ended: None, state, log: path })
    }

    /// Has a daemon that is to keep its state there find compiled what this one has compiled: that is not what is tested.
    #[allow(dead_code, reason = "for several daemons of one pipeline")]
    pub fn give_code(&self, state: &Path) -> Result<()> {
        let (from, to) = (self.state.join("code"), state.join("code"));
        fs::create_dir_all(&to)?;
        // Machine code is run from it.
        fs::set_permissions(&to, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// The admin API's address, once it is bound.
    pub fn address(&mut self) -> Result<String> {
        let file = self.state.join("admin");
        until("the daemon writes its admin address", || {
            self.check_alive()?;
            Ok(fs::read_to_string(&file).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
        })
    }

    /// Status code and body of a GET; `None` when the daemon does not answer.
    pub fn get(&mut self, path: &str) -> Result<Option<(u16, String)>> {
        let url = format!("http://{}{path}", self.address()?);
        let config =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).http_status_as_error(false);
        match ureq::Agent::from(config.build()).get(&url).call() {
            Ok(mut answer) => Ok(Some((answer.status().as_u16(), answer.body_mut().read_to_string()?))),
            Err(_) => Ok(None),
        }
    }

    pub fn is_ready(&mut self) -> Result<bool> {
        Ok(self.get("/readyz")?.is_some_and(|(code, _)| code == 200))
    }

    pub fn until_ready(&mut self) -> Result<()> {
        until_true("the daemon is ready", || {
            self.check_alive()?;
            self.is_ready()
        })
        .with_context(|| self.log_tail())
    }

    /// `GET /v1/status`.
    pub fn status(&mut self) -> Result<Value> {
        let (code, body) = self.get("/v1/status")?.context("the daemon does not answer")?;
        ensure!(code == 200, "/v1/status answers {code}: {body}");
        serde_json::from_str(&body).with_context(|| format!("not JSON: {body}"))
    }

    /// The status of one of its pipelines.
    pub fn pipeline(&mut self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let pipelines = status["pipelines"].as_array().cloned().unwrap_or_default();
        let found = pipelines.into_iter().find(|pipeline| pipeline["name"] == name);
        found.with_context(|| format!("no pipeline {name} in {status}"))
    }

    /// Waits until a pipeline's status is as wanted; returns it.
    pub fn until_status(&mut self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = until(what, || {
            self.check_alive()?;
            last = self.pipeline(name)?;
            Ok(wanted(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("last status: {last:#}\n{}", self.log_tail()))
    }

    /// Runs a client verb against this daemon.
    pub fn cli(&mut self, arguments: &[&str]) -> Result<Printed> {
        let url = format!("http://{}", self.address()?);
        Printed::of(sandpiper().args(arguments).args(["--admin", &url, "--state"]).arg(&self.state))
    }

    /// A verb that goes on beside the test.
    #[allow(dead_code, reason = "not for every test")]
    pub fn start_cli(&mut self, arguments: &[&str]) -> Result<Child> {
        let url = format!("http://{}", self.address()?);
        let mut command = sandpiper();
        command.args(arguments).args(["--admin", &url, "--state"]).arg(&self.state);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        keeper::spawn(command).context("cannot start the verb")
    }

    /// Deploys; returns the new revision.
    pub fn deploy(&mut self, pipeline: &str, arguments: &[&str]) -> Result<u64> {
        let printed = self.cli(&[&["deploy", pipeline, "--reason", "a test", "-o", "json"], arguments].concat())?;
        printed.json()?["revision"].as_u64().with_context(|| format!("no revision in {printed:?}\n{}", self.log_tail()))
    }

    /// An error when the daemon has ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.poll_exit()? {
            Some(status) => bail!("the daemon ended ({status})\n{}", self.log_tail()),
            None => Ok(()),
        }
    }

    #[allow(dead_code, reason = "for the soak")]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub fn poll_exit(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    pub fn sigterm(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    pub fn signal(&mut self, signal: i32) -> Result<()> {
        self.check_alive()?;
        keeper::signal(&self.child, signal);
        Ok(())
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.check_alive()?;
        self.child.kill()?;
        self.wait_exit().map(drop)
    }

    pub fn wait_exit(&mut self) -> Result<ExitStatus> {
        until(&format!("the daemon ends (within {PATIENCE:?})"), || self.poll_exit()).with_context(|| self.log_tail())
    }

    pub fn log_tail(&self) -> String {
        tail(&self.log, 40)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a counter over a pipeline's workers.
pub fn sum(pipeline: &Value, counter: &str) -> u64 {
    let workers = pipeline["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    workers.iter().filter_map(|worker| worker[counter].as_u64()).sum()
}

/// The sum of one dead-letter code over a pipeline's workers.
pub fn dead_letters(pipeline: &Value, code: &str) -> u64 {
    let workers = pipeline["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    workers.iter().filter_map(|worker| worker["dead_letters"][code].as_u64()).sum()
}
