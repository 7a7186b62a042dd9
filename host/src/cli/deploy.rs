//! `deploy`: what a running pipeline runs next.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use super::client::Client;
use super::plain::one_line;
use super::{Global, Outcome, Output, print_json};
use crate::api::routes::Kept;
use crate::config::plan::PluginRef;
use crate::control::command::{NamedPlugin, Outcome as Came};
use crate::control::controller::{Answered, Change, PluginRequest, StageRequest};
use crate::control::fold::SCORE;
use crate::control::staging::component;
use crate::record::Revision;
use sandpiper_sandbox::Digest;

/// Swap a plugin, a model or a configuration of a running pipeline.
#[derive(Args)]
#[command(after_help = "Examples:\n  sandpiper deploy iris --model models/iris-v2.json --reason 'trained on May'\n  \
    sandpiper deploy iris --classify tree --model models/tree.json --reason 'try a tree'\n  \
    sandpiper deploy iris --config parse.delimiter='\";\"' --reason 'new export format'\n  \
    sandpiper deploy iris --score loss --config score.metric=brier --reason 'judge probabilities'\n\n\
    The new release is compiled, checked and opened beside the running one and exchanged between two transactions. \
    An unfit one is refused, and what runs never stops. Where the pipeline's \
    file has [rollout] steps it runs beside what runs, and `sandpiper rollout` says how it does.")]
pub struct Deploy {
    pipeline: String,
    #[command(flatten)]
    stages: Stages,
    /// What judges predictions by their labels: a stock name, or a component file. At once, also where the file has [rollout] steps.
    #[arg(long, value_name = "PLUGIN")]
    score: Option<String>,
    /// Refuse unless this revision runs.
    #[arg(long, value_name = "REVISION")]
    expect: Option<Revision>,
    /// At once, although the pipeline's file has [rollout] steps.
    #[arg(long)]
    now: bool,
    /// A challenger may have other classes than what runs.
    #[arg(long)]
    allow_new_classes: bool,
    /// Why: it stands in the history.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What stages are to run, as it is typed.
#[derive(Args)]
pub(super) struct Stages {
    /// A stock name, or a component file.
    #[arg(long, value_name = "PLUGIN")]
    pub parse: Option<String>,
    /// A stock name, or a component file.
    #[arg(long, value_name = "PLUGIN")]
    pub classify: Option<String>,
    /// For a pipeline of transforms: the stage's number, from 0, and a stock name or a component file.
    #[arg(long, value_name = "N=PLUGIN")]
    pub transform: Vec<String>,
    /// A model file for the classifier.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// A configuration key of a stage: `parse.K=V`, V being JSON or a plain string; an empty V removes the key.
    #[arg(long, value_name = "STAGE.K=V")]
    pub config: Vec<String>,
}

impl Deploy {
    pub fn run(self, global: &Global) -> Outcome {
        let client = Client::new(global)?;
        let mut change = Change {
            reason: self.reason,
            expected_revision: self.expect,
            now: self.now,
            allow_new_classes: self.allow_new_classes,
            ..Change::default()
        };
        let mut unfit = Vec::new();
        let mut transforms = Vec::new();
        for transform in &self.stages.transform {
            let (at, plugin) = transform.split_once('=').context("--transform takes N=PLUGIN, such as 0=route")?;
            transforms.push((format!("transform[{at}]"), plugin));
        }
        let parse = self.stages.parse.iter().map(|plugin| ("parse".to_owned(), plugin.as_str()));
        let classify = self.stages.classify.iter().map(|plugin| ("classify".to_owned(), plugin.as_str()));
        let score = self.score.iter().map(|plugin| (SCORE.to_owned(), plugin.as_str()));
        for (stage, plugin) in transforms.into_iter().chain(parse).chain(classify).chain(score) {
            match plugin_request(&client, plugin) {
                Ok(plugin) => change.stages.entry(stage).or_default().plugin = Some(plugin),
                Err(error) => unfit.push(format!("stage {stage}: {error:#}")),
            }
        }
        if let Some(model) = &self.stages.model {
            match upload(&client, model) {
                Ok(model) => change.stages.entry("classify".into()).or_default().model = Some(model),
                Err(error) => unfit.push(format!("stage classify: {error:#}")),
            }
        }
        if !unfit.is_empty() {
            return Err(anyhow!(unfit.join("\n")).into());
        }
        for setting in &self.stages.config {
            set(&mut change, setting)?;
        }
        let answered: Answered = client.post(&format!("/v1/pipelines/{}/deploy", self.pipeline), &change)?;
        print(global, &answered)
    }
}

/// What runs now, or why it is not what was asked for.
pub(super) fn print(global: &Global, answered: &Answered) -> Outcome {
    if global.output == Output::Json {
        print_json(answered)?;
    }
    let pipeline = &answered.pipeline;
    let (deployment, late) = match &answered.outcome {
        Came::Activated { deployment, not_yet_taken_by } => (deployment, not_yet_taken_by),
        Came::RolledBack { deployment, failed_revision } => {
            return Err(anyhow!(
                "revision {failed_revision} was taken back; pipeline {pipeline} runs revision {}: {}",
                deployment.revision,
                deployment.reason
            )
            .into());
        }
        Came::Superseded { by } => {
            return Err(anyhow!(
                "pipeline {pipeline} runs revision {by}, which became current while this one was on its way: look at \
                 `sandpiper history {pipeline}`, and deploy again"
            )
            .into());
        }
        Came::Rollout { rollout } => {
            if global.output == Output::Text {
                super::print(&format!("pipeline {pipeline}: {}\n", rollout.describe()))?;
            }
            return Ok(());
        }
        other => return Err(anyhow!("the daemon answered {other:?}: it is of another version").into()),
    };
    if global.output == Output::Json {
        return Ok(());
    }
    let mut text = format!("pipeline {pipeline} runs revision {}\n", deployment.revision);
    for (stage, release) in deployment.releases.iter() {
        text.push_str(&format!("  {stage:<12} {}\n", one_line(&release.label())));
    }
    if let Some(challenger) = &deployment.challenger {
        let candidate = one_line(&challenger.releases.differing_from(&deployment.releases));
        text.push_str(&format!("  challenger   {candidate}\n  {}\n", one_line(&deployment.reason)));
        text.push_str(&format!("  `sandpiper rollout status {pipeline} --watch` shows how it does\n"));
    }
    if !late.is_empty() {
        text.push_str(&format!("  a worker has yet to take it: `sandpiper status {pipeline}` says which\n"));
    }
    super::print(&text)?;
    Ok(())
}

fn plugin_request(client: &Client, plugin: &str) -> Result<PluginRequest> {
    let plugin = super::plugin::named(plugin)?;
    let (name, component) = component(&plugin)?;
    Ok(match plugin {
        PluginRef::Stock(name) => PluginRequest::Stock(name),
        PluginRef::Path(_) => {
            let kept: Kept = client.put("/v1/artifacts", &component)?;
            PluginRequest::Artifact(NamedPlugin { name, digest: kept.digest })
        }
    })
}

fn upload(client: &Client, path: &Path) -> Result<Digest> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let kept: Kept = client.put("/v1/artifacts", &bytes)?;
    Ok(kept.digest)
}

fn set(change: &mut Change, setting: &str) -> Result<()> {
    let (stage, key, value) = configured(setting)?;
    let stage: &mut StageRequest = change.stages.entry(stage).or_default();
    stage.config.insert(key, value);
    Ok(())
}

/// Stage, key and value of `STAGE.K=V`; null removes the key.
///
/// # Errors
/// When it is none.
pub(super) fn configured(setting: &str) -> Result<(String, String, serde_json::Value)> {
    let parts = setting.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
    let Some(((stage, key), value)) = parts else {
        bail!("--config takes STAGE.K=V, such as classify.alpha=0.5, and not {setting:?}");
    };
    let value = match value {
        "" => serde_json::Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    };
    Ok((stage.to_owned(), key.to_owned(), value))
}
