//! The program as it is shipped, run as a child: its memory and its commands.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kafka::{keeper, tail};
use crate::support::daemon::{Printed, sandpiper};
use crate::support::{process, until};

/// `sandpiper run`, killed when it goes out of scope.
pub struct Daemon {
    child: Child,
    state: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it on that pipeline, with a state directory of its own beside the file.
    pub fn start(file: &Path) -> Result<Daemon> {
        Self::spawn(file, &[])
    }

    /// Starts it by a file of its own, likewise.
    pub fn start_by_file(file: &Path) -> Result<Daemon> {
        Self::spawn(file, &["--daemon"])
    }

    fn spawn(file: &Path, before: &[&str]) -> Result<Daemon> {
        let (state, log) = (file.with_extension("state"), file.with_extension("log"));
        let mut command = sandpiper();
        command.arg("run").args(before).arg(file).args(["--admin", "127.0.0.1:0", "--state"]).arg(&state);
        let output = File::create(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Daemon { child: keeper::spawn(command)?, state, log })
    }

    /// Resident memory, shared pages too, in megabytes.
    pub fn resident(&self) -> Result<f64> {
        Ok(process::status(self.child.id()).with_context(|| self.ended())?.0)
    }

    /// A verb of the command line against this daemon; answers the JSON that it prints.
    pub fn command(&self, arguments: &[&str]) -> Result<Value> {
        let admin = self.admin()?;
        Printed::of(sandpiper().args(arguments).args(["-o", "json", "--admin", &admin, "--state"]).arg(&self.state))?
            .json()
            .with_context(|| self.ended())
    }

    /// The status of its only pipeline.
    pub fn status(&self) -> Result<Value> {
        Ok(self.all_status()?.into_iter().next().unwrap_or_default())
    }

    /// The status of each of its pipelines.
    pub fn all_status(&self) -> Result<Vec<Value>> {
        let status: Value = serde_json::from_str(&self.status_text()?)?;
        Ok(status["pipelines"].as_array().cloned().unwrap_or_default())
    }

    pub fn status_text(&self) -> Result<String> {
        let url = format!("{}/v1/status", self.admin()?);
        Ok(ureq::get(url).call().with_context(|| self.ended())?.body_mut().read_to_string()?)
    }

    fn admin(&self) -> Result<String> {
        let file = self.state.join("admin");
        let address = until("the daemon writes its admin address", || {
            Ok(fs::read_to_string(&file).ok().filter(|text| !text.is_empty()))
        });
        Ok(format!("http://{}", address.with_context(|| self.ended())?))
    }

    fn ended(&self) -> String {
        format!("the daemon does not answer; its log:\n{}", tail(&self.log, 20))
    }

    /// SIGTERM, and waits until it has ended well.
    pub fn stop(mut self) -> Result<()> {
        keeper::signal(&self.child, libc::SIGTERM);
        for _ in 0..1_000 {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the daemon ended with {status}\n{}", tail(&self.log, 20));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the daemon does not stop\n{}", tail(&self.log, 20))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
