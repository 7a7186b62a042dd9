//! What happens while records flow: watched until each has its outcome and its label, and swapped half-way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use indicatif::HumanCount;

use super::broker::PARTITIONS;
use super::malformed::Malformed;
use super::models::Model;
use super::summary::scored;
use super::traffic::Traffic;
use super::view::View;
use crate::api::status::{PipelineStatus, WorkerStatus};
use crate::control::command::Outcome;
use crate::control::controller::{Change, PluginRequest, StageRequest};
use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;
use crate::stream::report::WorkerState;

/// Without any progress for so long, it is given up. At the start a new broker makes its own topics first.
const START: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the status is looked at.
const TICK: Duration = Duration::from_millis(100);

/// A running daemon with one pipeline, and what it has to do with.
pub struct Scene<'a> {
    pub daemon: &'a Daemon,
    pub traffic: &'a Traffic<'a>,
    /// What takes over half-way.
    pub better: &'a Model,
    /// Somebody wants to end it.
    pub stop: &'a AtomicBool,
}

impl Scene<'_> {
    /// Answers the pipeline's last status.
    ///
    /// # Errors
    /// When a worker fails, the broker does not take the records, nothing moves any more, or somebody ends it.
    pub fn play(&self, view: &mut View) -> Result<PipelineStatus> {
        let pipeline = self.daemon.pipelines.first().context("the daemon has no pipeline")?;
        self.watch(pipeline, START, "the pipeline does not start", |status| {
            let workers = || status.workers.iter().chain(status.feedback.iter().map(|feedback| &feedback.worker));
            Ok(workers().all(|worker| worker.state == WorkerState::Running && assigned(worker)))
        })?;
        view.say("pipeline  flowers are measured and classified; a botanist names them later");
        let failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let send = || self.traffic.run().inspect_err(|_| failed.store(true, Ordering::Relaxed));
            let traffic = std::thread::Builder::new().spawn_scoped(scope, send).context("no thread for the traffic")?;
            let ended = self.follow(pipeline, view, &failed);
            self.traffic.stop.store(true, Ordering::Relaxed);
            // What the broker says of the records tells more than that their outcomes are missing.
            traffic.join().map_err(|_| anyhow!("the thread of the traffic panicked"))??;
            ended
        })
    }

    fn follow(&self, pipeline: &RunningPipeline, view: &mut View, failed: &AtomicBool) -> Result<PipelineStatus> {
        let predictions = self.traffic.records - Malformed::count(self.traffic.records);
        self.watch(pipeline, PATIENCE, "records stay without an outcome or predictions without a label", |status| {
            view.show(status);
            ensure!(!failed.load(Ordering::Relaxed), "the flowers stay away");
            if status.emitted >= predictions / 2 && !self.traffic.swapped.load(Ordering::Relaxed) {
                view.say(&self.swap(pipeline)?);
                self.traffic.swapped.store(true, Ordering::Relaxed);
            }
            Ok(status.records >= self.traffic.records && scored(status) >= predictions)
        })
    }

    /// Deploys the better model as `sandpiper deploy` would.
    fn swap(&self, pipeline: &RunningPipeline) -> Result<String> {
        let classifier = StageRequest {
            plugin: Some(PluginRequest::Stock(self.better.plugin.to_owned())),
            model: Some(self.daemon.directory.keep_artifact(&self.better.bytes)?),
            ..StageRequest::default()
        };
        let change = Change {
            stages: [("classify".to_owned(), classifier)].into(),
            reason: "a model that sees the petals too".into(),
            ..Change::default()
        };
        let outcome = pipeline.controller.deploy(&change, None)?;
        let Outcome::Activated { deployment, .. } = outcome else {
            bail!("the swap came to something else: {outcome:?}")
        };
        Ok(format!("swap      revision {} runs: {} on all columns", deployment.revision, self.better.plugin))
    }

    /// Looks at the status until it is as wanted.
    fn watch(
        &self,
        pipeline: &RunningPipeline,
        patience: Duration,
        otherwise: &str,
        mut is_done: impl FnMut(&PipelineStatus) -> Result<bool>,
    ) -> Result<PipelineStatus> {
        let mut moved = (Instant::now(), (0, 0));
        loop {
            let status = PipelineStatus::of(pipeline);
            if is_done(&status)? {
                return Ok(status);
            }
            let done = (status.records, scored(&status));
            if done != moved.1 {
                moved = (Instant::now(), done);
            }
            if self.stop.load(Ordering::Relaxed) {
                bail!(
                    "ended before its time, after {} records; what it made is not complete",
                    HumanCount(status.records)
                );
            }
            let error = last_error(&status);
            if status.state == WorkerState::Failed {
                bail!("{otherwise}: {error}");
            }
            if moved.0.elapsed() >= patience {
                bail!(
                    "{otherwise}: for {} s nothing has moved; {} of {} records have an outcome, {} of {} predictions a label; {error}",
                    patience.as_secs(),
                    HumanCount(status.records),
                    HumanCount(self.traffic.records),
                    HumanCount(scored(&status)),
                    HumanCount(status.emitted),
                );
            }
            std::thread::sleep(TICK);
        }
    }
}

/// Whether a worker has its partitions, and knows where to go on.
fn assigned(worker: &WorkerStatus) -> bool {
    worker.partitions.len() >= PARTITIONS as usize
}

fn last_error(status: &PipelineStatus) -> &str {
    let workers = status.workers.iter().chain(status.feedback.iter().map(|feedback| &feedback.worker));
    workers.filter_map(|worker| worker.last_error.as_deref()).next().unwrap_or("no worker reports an error")
}
