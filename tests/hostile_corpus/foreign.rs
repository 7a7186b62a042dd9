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
    /// A shell's commands, in a directory of its own; `$SOURCE` is `tests/foreign`, `$WIT` is `wit`. They leave `plugin.wasm`.
    script: &'static str,
}

pub const ALL: [Foreign; 2] = [
    Foreign {
        place: Place::Transform,
        name: "is_python_by_componentize_py",
        programs: &["python3"],
        script: "python3 -m venv tool && tool/bin/pip install --quiet componentize-py==0.25.1 && cp $SOURCE/app.py . && \
            tool/bin/componentize-py -d $WIT -w transform-plugin componentize app -o plugin.wasm",
    },
    Foreign {
        place: Place::Classifier,
        name: "is_javascript_by_componentize_js",
        programs: &["node", "npm"],
        script: "npm install --silent --no-save --prefix . @bytecodealliance/componentize-js@0.23.0 && \
            cp $SOURCE/classifier.js $SOURCE/build.mjs . && node build.mjs $WIT",
    },
];

impl Foreign {
    pub fn is_possible(&self) -> bool {
        self.programs.iter().all(|program| Command::new(program).arg("--version").output().is_ok())
    }

    pub fn case(self) -> Result<Case> {
        let plugin = std::fs::read(self.plugin()?)?;
        let source = Source::Bytes(Box::new(move || plugin.clone()));
        Ok(Case::new(self.place, self.name, source, Expected::Unaffected).deadline(Duration::from_secs(30)))
    }

    /// Made once for these sources.
    fn plugin(&self) -> Result<PathBuf> {
        let directory = target()?.join("foreign").join(self.name);
        let (plugin, made_by) = (directory.join("plugin.wasm"), directory.join("made-by"));
        let (sources, recipe) = (root().join("tests/foreign"), self.recipe()?);
        if plugin.exists() && std::fs::read_to_string(&made_by).is_ok_and(|kept| kept == recipe) {
            return Ok(plugin);
        }
        std::fs::create_dir_all(&directory)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", self.script]).current_dir(&directory);
        shell.env("SOURCE", sources.canonicalize()?).env("WIT", root().join("wit").canonicalize()?);
        let output = shell.output().context("sh")?;
        ensure!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        std::fs::write(made_by, recipe)?;
        Ok(plugin)
    }

    /// What it is made of: when that changes, it is made anew.
    fn recipe(&self) -> Result<String> {
        let mut recipe = self.script.to_owned();
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

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}
