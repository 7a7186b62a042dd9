//! What is compared with what: found in the state directory, in the pipeline's file and on the command line, and gathered in a
//! temporary directory, since a daemon holds its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use super::super::compile_component::Compilation;
use super::super::deploy::{Stages, configured};
use super::super::{Failure, Global, plugin};
use crate::config::plan::Plan;
use crate::config::secret;
use crate::control::StateDirectory;
use crate::control::command::{NamedPlugin, StageChange};
use crate::control::deployment::{Deployment, Releases};
use crate::control::fold::change_stage;
use crate::control::history::History;
use crate::control::remembered::Remembered;
use crate::control::staging::{Stager, component};
use crate::record::Revision;
use crate::replay::backtest::Side;
use sandpiper_sandbox::Engine;

/// What the candidate is, as `deploy` would be told.
#[derive(Args)]
pub struct Candidate {
    #[command(flatten)]
    stages: Stages,
    /// What that revision ran.
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["parse", "classify", "transform", "model", "config"])]
    revision: Option<Revision>,
}

/// One side.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub revision: Option<Revision>,
    pub releases: Releases,
}

impl Chosen {
    fn of(deployment: &Deployment) -> Self {
        Self { revision: Some(deployment.revision), releases: deployment.releases.clone() }
    }

    /// For people.
    pub fn told(&self) -> Side {
        let releases: BTreeMap<_, _> = self.releases.iter().map(|(stage, release)| (stage, release.label())).collect();
        Side { revision: self.revision, releases }
    }

    /// What names it in what is published, as it would in the pipeline's own predictions.
    pub fn release(&self) -> String {
        self.releases.digest().short()
    }
}

/// What is compared with what.
pub struct Sides {
    pub champion: Chosen,
    pub candidate: Chosen,
    /// Where the stager finds their plugins and models; gone with this.
    _directory: tempfile::TempDir,
}

impl Sides {
    /// Finds both, and a stager that can open them.
    ///
    /// # Errors
    /// When one of them is not known, or not there any more, or both are the same.
    pub fn find(
        global: &Global,
        plan: &Plan,
        against: Option<Revision>,
        wanted: &Candidate,
        compilation: &Compilation,
    ) -> Result<(Self, Stager), Failure> {
        let directory = tempfile::tempdir().context("a temporary directory is needed")?;
        let state = Arc::new(StateDirectory::open(directory.path(), Some("backtest"))?);
        let stager = Stager::new(Engine::new(None, compilation.compiler())?, state.clone());
        let remembered = Remembered::at(global.state());
        let history = remembered.history(&plan.name)?;
        let find = |revision: Revision| -> Result<Chosen> {
            let deployment =
                history.deployment(revision).ok_or_else(|| unknown(plan, &remembered, &history, revision))?;
            remembered.copy(&deployment.releases, &state)?;
            Ok(Chosen::of(deployment))
        };
        let champion = match against.or(history.revision()) {
            Some(revision) => find(revision)?,
            None => Chosen { revision: None, releases: stager.releases(plan).map_err(anyhow::Error::from)? },
        };
        let candidate = match wanted.revision {
            Some(revision) => find(revision)?,
            None => {
                let changes = wanted.changes(&state)?;
                let releases = if changes.is_empty() {
                    stager.releases(plan).map_err(anyhow::Error::from)?
                } else {
                    champion.releases.clone()
                };
                let mut chosen = Chosen { revision: None, releases };
                for (stage, change) in &changes {
                    change_stage(&plan.name, &mut chosen.releases, stage, change).map_err(anyhow::Error::from)?;
                }
                chosen
            }
        };
        if candidate.releases.digest() == champion.releases.digest() {
            let runs = match champion.revision {
                Some(revision) => format!("revision {revision} in {}", remembered.path().display()),
                None => format!("what {} asks for", plan.file.display()),
            };
            return Err(Failure::Usage(format!(
                "pipeline {}: the candidate is what it is compared with, {runs}: name another one by --model, --classify, --parse, \
                 --transform, --config or --revision",
                plan.name
            )));
        }
        Ok((Self { champion, candidate, _directory: directory }, stager))
    }
}

fn unknown(plan: &Plan, remembered: &Remembered, history: &History, revision: Revision) -> anyhow::Error {
    let (name, path) = (&plan.name, remembered.path().display());
    let known: Vec<String> = history.deployments.iter().map(|deployment| deployment.revision.to_string()).collect();
    match known.as_slice() {
        [] => anyhow!("{path} knows of no revision of pipeline {name}: name the daemon's state directory with --state"),
        [one] => anyhow!("pipeline {name} has no revision {revision}: {path} knows of revision {one}"),
        [first, .., last] => {
            anyhow!("pipeline {name} has no revision {revision}: {path} knows of revisions {first} to {last}")
        }
    }
}

impl Candidate {
    /// By stage, with plugins and models kept in that directory.
    fn changes(&self, state: &StateDirectory) -> Result<BTreeMap<String, StageChange>> {
        let mut changes: BTreeMap<String, StageChange> = BTreeMap::new();
        let mut plugin = |stage: &str, plugin: &str| -> Result<()> {
            let (name, component) = component(&plugin::named(plugin)?)?;
            let digest = state.keep_artifact(&component)?;
            changes.entry(stage.to_owned()).or_default().plugin = Some(NamedPlugin { name, digest });
            Ok(())
        };
        if let Some(parse) = &self.stages.parse {
            plugin("parse", parse)?;
        }
        if let Some(classify) = &self.stages.classify {
            plugin("classify", classify)?;
        }
        for transform in &self.stages.transform {
            let Some((at, component)) = transform.split_once('=') else {
                bail!("--transform takes N=PLUGIN, such as 0=route, and not {transform:?}");
            };
            plugin(&format!("transform[{at}]"), component)?;
        }
        if let Some(model) = &self.stages.model {
            let bytes =
                std::fs::read(model).with_context(|| format!("the model {} cannot be read", model.display()))?;
            changes.entry("classify".into()).or_default().model = Some(state.keep_artifact(&bytes)?);
        }
        for setting in &self.stages.config {
            let (stage, key, value) = configured(setting)?;
            changes.entry(stage).or_default().config.insert(key, value);
        }
        for change in changes.values() {
            secret::refuse_references(&change.config).map_err(anyhow::Error::msg)?;
        }
        Ok(changes)
    }
}
