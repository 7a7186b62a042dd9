//! `run --dev`: a file that a pipeline names is deployed again whenever it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::config::plan::{PluginRef, Stage};
use crate::control::Controller;
use crate::control::command::{NamedPlugin, Outcome};
use crate::control::controller::{Change, PluginRequest, StageRequest};
use crate::daemon::Daemon;

/// How often files are looked at: editors and linkers write in several steps, so a change counts when it is as old.
const LOOK: Duration = Duration::from_millis(300);

/// Watches until it is dropped.
pub struct Watcher(Arc<AtomicBool>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file's length and time; `None` while it is not there.
type Seen = Option<(u64, SystemTime)>;

/// # Errors
/// When the thread cannot be started.
pub fn watch(daemon: &Daemon) -> Result<Watcher> {
    let stopped = Arc::new(AtomicBool::new(false));
    let (flag, pipelines) = (stopped.clone(), daemon.pipelines.clone());
    let stager = daemon.stager.clone();
    let look = move || {
        let mut deployed: BTreeMap<PathBuf, Seen> = BTreeMap::new();
        for file in
            pipelines.iter().flat_map(|pipeline| stages(&pipeline.controller)).flat_map(|(_, stage)| files(&stage))
        {
            deployed.insert(file.clone(), seen(&file));
        }
        let mut last = deployed.clone();
        while !flag.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            let now: BTreeMap<PathBuf, Seen> = deployed.keys().map(|file| (file.clone(), seen(file))).collect();
            let changed = |file: &PathBuf| {
                now.get(file) != deployed.get(file) && now.get(file) == last.get(file) && seen(file).is_some()
            };
            for controller in pipelines.iter().map(|pipeline| &pipeline.controller) {
                let changed: Vec<(String, Stage)> =
                    stages(controller).into_iter().filter(|(_, stage)| files(stage).iter().any(&changed)).collect();
                if !changed.is_empty() {
                    redeploy(&stager, controller, &changed);
                }
            }
            let settled: Vec<PathBuf> = deployed.keys().filter(|file| changed(file)).cloned().collect();
            for file in settled {
                deployed.insert(file.clone(), now.get(&file).copied().flatten());
            }
            last = now;
        }
    };
    std::thread::Builder::new().name("dev".into()).spawn(look).context("starting the watcher")?;
    Ok(Watcher(stopped))
}

fn redeploy(stager: &crate::control::staging::Stager, controller: &Controller, changed: &[(String, Stage)]) {
    let change = || -> Result<Change> {
        let mut stages = BTreeMap::new();
        for (name, stage) in changed {
            let release = stager.release(stage)?;
            let plugin = PluginRequest::Artifact(NamedPlugin { name: release.name, digest: release.plugin });
            stages.insert(
                name.clone(),
                StageRequest { plugin: Some(plugin), model: release.model, ..StageRequest::default() },
            );
        }
        Ok(Change { stages, reason: "a file changed".into(), expected_revision: None })
    };
    match change().and_then(|change| Ok(controller.deploy(&change, None)?)) {
        Ok(Outcome::Activated { deployment, .. }) => {
            tracing::info!(pipeline = controller.plan.name, revision = %deployment.revision, "redeployed")
        }
        Ok(outcome) => {
            tracing::warn!(pipeline = controller.plan.name, ?outcome, "a file changed, and something else runs")
        }
        Err(error) => tracing::error!(pipeline = controller.plan.name, "not redeployed; what runs goes on: {error:#}"),
    }
}

fn stages(controller: &Controller) -> Vec<(String, Stage)> {
    let plan = &controller.plan;
    let transforms =
        plan.transforms.iter().enumerate().map(|(at, transform)| (format!("transform[{at}]"), transform.stage.clone()));
    let parse = plan.parse.iter().map(|stage| ("parse".to_owned(), stage.clone()));
    let classify = plan.classify.iter().map(|stage| ("classify".to_owned(), stage.clone()));
    transforms.chain(parse).chain(classify).collect()
}

fn files(stage: &Stage) -> Vec<PathBuf> {
    let plugin = match &stage.plugin {
        PluginRef::Path(path) => Some(path.clone()),
        PluginRef::Stock(_) => None,
    };
    plugin.into_iter().chain(stage.model.clone()).collect()
}

fn seen(file: &PathBuf) -> Seen {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
