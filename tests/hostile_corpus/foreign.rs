//! Plugins that the tools for Python and JavaScript make, tens of megabytes with their interpreters: they are no harm, and
//! must fit into every bound. They are made here, as those tools' manuals say, and not kept in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::case::{Case, Expected, Source};
use crate::harness::Place;
use crate::jars::target;
use crate::root;

/// A language's tool, and a plugin made by it.
#[derive(Clone, Copy)]
pub struct Foreign {
    pub place: Place,
    pub name: &'static str,
    /// Without these there is no such plugin.
    pub programs: &'static [&'static str],
    /// A shell's commands that have the tool, in a directory of its own. They ask a registry, which may be out of reach.
    install: &'static str,
    /// A shell's commands in the same directory; `$SOURCE` is `tests/foreign`, `$WIT` is `wit`. They leave `plugin.wasm`.
    make: &'static str,
}

pub const ALL: [Foreign; 2] = [
    Foreign {
        place: Place::Transform,
        name: "is_python_by_componentize_py",
        programs: &["python3"],
        install: "python3 -m venv tool && tool/bin/pip install --quiet componentize-py==0.25.1",
        make: "cp $SOURCE/app.py . && tool/bin/componentize-py -d $WIT -w transform-plugin componentize app -o plugin.wasm",
    },
    Foreign {
        place: Place::Classifier,
        name: "is_javascript_by_componentize_js",
        programs: &["node", "npm"],
        install: "npm install --no-save --no-fund --prefix . @bytecodealliance/componentize-js@0.23.0",
        make: "cp $SOURCE/classifier.js $SOURCE/build.mjs . && node build.mjs $WIT",
    },
];

impl Foreign {
    /// Why there is no such plugin here, where that is no fault of ours; `None` once its tool can be used, or it is made already.
    pub fn lacks(&self) -> Result<Option<String>> {
        let missing: Vec<&str> = self.programs.iter().copied().filter(|program| !starts(program)).collect();
        if !missing.is_empty() {
            return Ok(Some(format!("needs {}", missing.join(" and "))));
        }
        if self.is_made()? {
            return Ok(None);
        }
        let output = self.shell(self.install)?.output().context("sh")?;
        if output.status.success() {
            return Ok(None);
        }
        // An install tells the same in many ways; what it came to stands in the first line that says so.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let why = said.lines().find(|line| line.to_ascii_lowercase().contains("err")).or(said.lines().last());
        Ok(Some(format!("its tool cannot be installed: {}", why.unwrap_or("nothing is said of it").trim())))
    }

    pub fn case(self) -> Result<Case> {
        let plugin = std::fs::read(self.plugin()?)?;
        let source = Source::Bytes(Box::new(move || plugin.clone()));
        Ok(Case::new(self.place, self.name, source, Expected::Unaffected).deadline(Duration::from_secs(30)))
    }

    fn directory(&self) -> Result<PathBuf> {
        Ok(target()?.join("foreign").join(self.name))
    }

    fn is_made(&self) -> Result<bool> {
        let directory = self.directory()?;
        let recipe = self.recipe()?;
        let made_by = std::fs::read_to_string(directory.join("made-by"));
        Ok(directory.join("plugin.wasm").exists() && made_by.is_ok_and(|kept| kept == recipe))
    }

    fn shell(&self, script: &str) -> Result<Command> {
        let directory = self.directory()?;
        std::fs::create_dir_all(&directory)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&directory);
        shell
            .env("SOURCE", root().join("tests/foreign").canonicalize()?)
            .env("WIT", root().join("wit").canonicalize()?);
        Ok(shell)
    }

    /// Made once for these sources.
    fn plugin(&self) -> Result<PathBuf> {
        if !self.is_made()? {
            let output = self.shell(self.make)?.output().context("sh")?;
            ensure!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
            std::fs::write(self.directory()?.join("made-by"), self.recipe()?)?;
        }
        Ok(self.directory()?.join("plugin.wasm"))
    }

    /// What it is made of: when that changes, it is made anew.
    fn recipe(&self) -> Result<String> {
        let mut recipe = format!("{}\n{}\n", self.install, self.make);
        for folder in [root().join("tests/foreign"), root().join("wit")] {
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            files.sort();
            for file in files {
                recipe += &read(&file)?;
            }
        }
        Ok(recipe)
    }
}

fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}
