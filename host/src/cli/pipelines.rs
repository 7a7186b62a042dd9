//! The files that a verb is given: pipeline files, and a daemon's own that names more of them. Every mistake in all of them
//! is told at once.

use std::path::{Path, PathBuf};

use sandpiper_sandbox::stock;

use super::Failure;
use crate::config::daemon::{self, Daemon, is_same_file};
use crate::config::plan::Plan;
use crate::config::{self, Mistake};

/// What the files say.
#[derive(Default)]
pub struct Files {
    /// Present where a daemon's file was named and has no mistake of its own.
    pub daemon: Option<Daemon>,
    /// Pipeline files, each once: first those that the daemon's file names.
    pub pipelines: Vec<PathBuf>,
    /// Those of the files without a mistake of their own.
    pub plans: Vec<Plan>,
    pub mistakes: Vec<Mistake>,
}

impl Files {
    /// Reads a daemon's file and pipeline files, as one daemon would run them.
    pub fn read(daemon: Option<&Path>, pipelines: &[PathBuf]) -> Self {
        let mut files = Self::default();
        match daemon.map(daemon::load) {
            Some(Ok(daemon)) => {
                files.pipelines.clone_from(&daemon.pipelines);
                files.daemon = Some(daemon);
            }
            Some(Err(found)) => files.mistakes = found,
            None => {}
        }
        for file in pipelines {
            files.add(file);
        }
        if let Some(daemon) = files.daemon.as_ref().filter(|_| files.pipelines.is_empty()) {
            let message = "no pipeline is named here or on the command line: write pipelines = [\"iris.toml\"], or name its file there";
            files.mistakes.push(daemon.mistake(daemon::PIPELINES, message));
        }
        let stock = stock::names();
        for file in &files.pipelines {
            match config::load(file, &stock) {
                Ok(plan) => files.plans.push(plan),
                Err(found) => files.mistakes.extend(found),
            }
        }
        files.mistakes.extend(config::check_together(&files.plans));
        if let Some(daemon) = &files.daemon {
            files.mistakes.extend(config::check_control(daemon, &files.plans));
        }
        files
    }

    /// A pipeline file of the command line, unless it was named before.
    fn add(&mut self, file: &Path) {
        if !self.pipelines.iter().any(|other| is_same_file(other, file)) {
            self.pipelines.push(file.to_path_buf());
            return;
        }
        let of_daemon =
            self.daemon.as_ref().filter(|daemon| daemon.pipelines.iter().any(|other| is_same_file(other, file)));
        self.mistakes.push(match of_daemon {
            Some(daemon) => {
                let message = format!("{} is named here and on the command line: name it once", file.display());
                daemon.mistake(daemon::PIPELINES, message)
            }
            None => Mistake {
                file: file.to_path_buf(),
                line: 1,
                column: 1,
                key: String::new(),
                message: "the file is named twice on the command line: name it once".to_owned(),
            },
        });
    }

    /// The files' mistakes as a failure, one a line.
    ///
    /// # Errors
    /// When there are any.
    pub fn valid(self) -> Result<Self, Failure> {
        if self.mistakes.is_empty() {
            return Ok(self);
        }
        let lines: Vec<String> = self.mistakes.iter().map(ToString::to_string).collect();
        Err(Failure::Usage(lines.join("\n")))
    }
}

/// Pipeline files, for a verb that knows nothing of a daemon's.
pub fn load(files: &[PathBuf]) -> Result<Vec<Plan>, Failure> {
    Ok(Files::read(None, files).valid()?.plans)
}
