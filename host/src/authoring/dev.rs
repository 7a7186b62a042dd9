//! `run --dev`: a file that a pipeline names is deployed again whenever its content changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandpiper_sandbox::Digest;

use crate::config::plan::{PluginRef, Stage};
use crate::control::Controller;
use crate::control::command::{NamedPlugin, Outcome, Refused};
use crate::control::controller::{Change, PluginRequest, StageRequest};
use crate::control::fold::SCORE;
use crate::control::staging::Stager;
use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;
use crate::stream::pause::Cause;

/// How often files are looked at: editors and linkers write in several steps, so a change counts when it is as old.
const LOOK: Duration = Duration::from_millis(300);

/// Watches until it is dropped.
pub struct Watcher(Arc<AtomicBool>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// # Errors
/// When the thread cannot be started.
pub fn watch(daemon: &Daemon) -> Result<Watcher> {
    let stopped = Arc::new(AtomicBool::new(false));
    let (flag, pipelines, stager) = (stopped.clone(), daemon.pipelines.clone(), daemon.stager.clone());
    let watched = pipelines.iter().flat_map(|pipeline| stages(pipeline)).flat_map(|(_, stage)| files(&stage));
    let mut files = Files::new(watched);
    let look = move || {
        while !flag.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            let changed = files.look();
            for pipeline in pipelines.iter().filter(|_| !changed.is_empty()) {
                redeploy(&stager, pipeline, &changed);
            }
        }
    };
    std::thread::Builder::new().name("dev".into()).spawn(look).context("starting the watcher")?;
    Ok(Watcher(stopped))
}

/// The contents of files: as they were last deployed, and as they were at the last look.
struct Files(BTreeMap<PathBuf, [Option<Digest>; 2]>);

impl Files {
    fn new(files: impl Iterator<Item = PathBuf>) -> Self {
        Self(files.map(|file| (file.clone(), [content(&file); 2])).collect())
    }

    /// The files whose content is another one than was deployed, and has been for a while: they count as deployed now.
    fn look(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (file, [deployed, last]) in &mut self.0 {
            let now = content(file);
            if now.is_some() && now != *deployed && now == *last {
                *deployed = now;
                changed.push(file.clone());
            }
            *last = now;
        }
        changed
    }
}

/// `None` while the file is not there.
fn content(file: &Path) -> Option<Digest> {
    std::fs::read(file).ok().map(|bytes| Digest::of(&bytes))
}

fn redeploy(stager: &Stager, pipeline: &RunningPipeline, files_changed: &[PathBuf]) {
    let is_changed = |stage: &Stage| files(stage).iter().any(|file| files_changed.contains(file));
    let mut stages = stages(pipeline);
    stages.retain(|(_, stage)| is_changed(stage));
    if !stages.is_empty() {
        deploy(stager, &pipeline.controller, &stages);
    }
}

fn deploy(stager: &Stager, controller: &Controller, changed: &[(String, Stage)]) {
    let name = &controller.plan.name;
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
        // What is being developed is to be seen at once.
        Ok(Change { stages, reason: "a file changed".into(), now: true, ..Change::default() })
    };
    let change = match change() {
        Ok(change) => change,
        Err(error) => return tracing::error!(pipeline = name, "not redeployed; what runs goes on: {error:#}"),
    };
    match controller.deploy(&change, None) {
        Ok(Outcome::Activated { deployment, .. }) => {
            tracing::info!(pipeline = name, revision = %deployment.revision, "redeployed");
            go_on(controller);
        }
        Ok(outcome) => tracing::warn!(pipeline = name, ?outcome, "a file changed, and something else runs"),
        Err(Refused::SameAsCurrent { current, .. }) => {
            tracing::info!(pipeline = name, revision = %current, "the files are what runs already")
        }
        Err(refused) => tracing::error!(pipeline = name, "not redeployed; what runs goes on: {refused}"),
    }
}

/// What failed has paused the pipeline, by its letters or by itself; the next one is to be seen at work.
fn go_on(controller: &Controller) {
    let history = controller.history();
    if history.paused.as_ref().is_some_and(|pause| pause.cause != Cause::Operator)
        && let Err(refused) = controller.resume(None)
    {
        tracing::warn!(pipeline = controller.plan.name, "still paused: {refused}");
    }
}

fn stages(pipeline: &RunningPipeline) -> Vec<(String, Stage)> {
    let plan = &pipeline.controller.plan;
    let transforms =
        plan.transforms.iter().enumerate().map(|(at, transform)| (format!("transform[{at}]"), transform.stage.clone()));
    let parse = plan.parse.iter().map(|stage| ("parse".to_owned(), stage.clone()));
    let classify = plan.classify.iter().map(|stage| ("classify".to_owned(), stage.clone()));
    let score = plan.feedback.iter().map(|feedback| (SCORE.to_owned(), feedback.score.clone()));
    transforms.chain(parse).chain(classify).chain(score).collect()
}

fn files(stage: &Stage) -> Vec<PathBuf> {
    let plugin = match &stage.plugin {
        PluginRef::Path(path) => Some(path.clone()),
        PluginRef::Stock(_) => None,
    };
    plugin.into_iter().chain(stage.model.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_noticed_by_content_alone_and_an_unchanged_file_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugin.wasm");
        let write = |text: &str| {
            std::fs::write(&file, text).unwrap();
            // Neither its length nor its time tells anything.
            let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
        };
        write("one");
        let mut files = Files::new([file.clone()].into_iter());
        assert!(files.look().is_empty());
        write("two");
        assert!(files.look().is_empty(), "it may still be written to");
        assert_eq!(files.look(), std::slice::from_ref(&file));
        assert!(files.look().is_empty());
        write("two");
        assert!((0..3).all(|_| files.look().is_empty()), "written anew, with the same content");
        std::fs::remove_file(&file).unwrap();
        assert!((0..3).all(|_| files.look().is_empty()), "a file that is gone is no swap");
        write("one");
        assert!(files.look().is_empty());
        assert_eq!(files.look(), std::slice::from_ref(&file));
    }
}
