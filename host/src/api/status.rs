//! What a daemon says of itself: the workers' reports put together, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::plan::Guarantee;
use crate::control::deployment::Releases;
use crate::control::history::History;
use crate::control::rollout::{Rollout, StepFigures};
use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;
use crate::feedback::tally::{Clocks, Release, Tally, UnknownClasses};
use crate::record::Revision;
use crate::stream::clock::{Clock as _, SystemClock};
use crate::stream::pause::Pause;
use crate::stream::report::{Durations, PartitionReport, WorkerReport, WorkerState};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub instance: String,
    /// Where one daemon decides for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlStatus>,
    pub pipelines: Vec<PipelineStatus>,
}

/// How a daemon stands with the others that share its control topics.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlStatus {
    /// What the names of the topics begin with.
    pub topics: String,
    /// Whether this daemon decides for all at the moment.
    pub decides: bool,
    /// Whether it has heard what was decided before it started.
    pub has_caught_up: bool,
    /// Why what is decided cannot be read, or why this daemon could not decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl ControlStatus {
    fn of(daemon: &Daemon) -> Option<Self> {
        let fleet = daemon.fleet.as_ref()?;
        let report = daemon.controller.latest();
        let loops = report.last_error.clone().filter(|_| report.state != WorkerState::Running);
        Some(Self {
            topics: fleet.control.topics.clone(),
            decides: fleet.standing.decides_here(),
            has_caught_up: fleet.standing.has_caught_up(),
            trouble: fleet.standing.trouble().map(|why| why.to_string()).or(loops),
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PipelineStatus {
    pub name: String,
    pub state: WorkerState,
    pub delivery: Guarantee,
    /// The revision that is deployed; a worker may be about to take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Records whose outcome is committed, since the daemon started, all workers.
    pub records: u64,
    pub emitted: u64,
    pub dropped: u64,
    /// By reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Records behind the end of the partitions of this daemon, as last heard.
    pub lag: i64,
    pub releases: Vec<ReleaseStatus>,
    pub workers: Vec<WorkerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback: Option<FeedbackStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// What the pipeline's file asks for and does not run, since something else was deployed or what it asks for failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_asks_for: Option<String>,
    /// What the workers of each daemon run, where one decides for several; none for one that runs nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub daemons: BTreeMap<String, BTreeMap<usize, Option<Revision>>>,
}

/// A rollout that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutStatus {
    #[serde(flatten)]
    pub rollout: Rollout,
    /// The running step in words.
    pub now: String,
    /// What happens next, and when.
    pub next: String,
    /// Stage and release of what differs from what runs.
    pub candidate_releases: String,
    /// Share of the records whose answer is the candidate's.
    pub canary: f32,
    /// Of the running step, by this daemon since it started: what the guards are held against.
    pub step_figures: StepFigures,
    /// Of all its steps.
    pub all_figures: StepFigures,
    pub champion: ArmStatus,
    pub challenger: ArmStatus,
}

/// How an arm of a rollout does by the labels, since the daemon started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArmStatus {
    /// Its digest, as it stands in predictions and scores.
    pub release: String,
    pub scored: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl ArmStatus {
    fn of(releases: &Releases, tally: Option<&Tally>) -> Self {
        let release = releases.digest().short();
        let judged = tally.and_then(|tally| tally.by_release.get(release.as_str())).map(|judged| &**judged);
        Self {
            scored: judged.map_or(0, |judged| judged.scored),
            accuracy: judged.and_then(Release::accuracy),
            log_loss: judged.and_then(Release::log_loss),
            loss: judged.and_then(Release::loss),
            release,
        }
    }
}

impl RolloutStatus {
    fn of(pipeline: &RunningPipeline, history: &History, tally: Option<&Tally>) -> Option<Self> {
        let (rollout, current) = (history.rollout.clone()?, history.current()?);
        let step = pipeline.step_figures(current.revision);
        let mut whole = StepFigures::default();
        let steps = history.deployments.iter().filter(|deployment| {
            deployment.challenger.as_ref().is_some_and(|challenger| challenger.rollout == rollout.id)
        });
        steps.for_each(|deployment| whole.add(&pipeline.step_figures(deployment.revision)));
        Some(Self {
            now: rollout.describe(),
            next: rollout.describe_next(&step, &pipeline.controller.plan.name, SystemClock.unix_ms()),
            candidate_releases: rollout.candidate.differing_from(&current.releases),
            canary: rollout.canary(),
            champion: ArmStatus::of(&current.releases, tally),
            challenger: ArmStatus::of(&rollout.candidate, tally),
            step_figures: step,
            all_figures: whole,
            rollout,
        })
    }
}

/// Since when and why nothing is processed, and what to do about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PauseStatus {
    #[serde(flatten)]
    pub pause: Pause,
    pub advice: String,
}

/// A revision that processed records or was labelled since the daemon started, or is the current one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseStatus {
    pub revision: Revision,
    /// Stage → release.
    pub releases: BTreeMap<String, String>,
    pub records: u64,
    /// Whether it has yet to pass its first records; when it fails before, it is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_probation: bool,
    /// Why it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored: Option<u64>,
    /// Prequential: the share of correct predictions so far, each judged once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// Mean of the scorer's loss, weighted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Truth → predicted → count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confusion: BTreeMap<String, BTreeMap<String, u64>>,
    /// Whether outcomes are missing there, since there was no room for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confusion_is_partial: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub slot: usize,
    pub state: WorkerState,
    /// `None` before it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    pub partitions: Vec<PartitionReport>,
    pub records: u64,
    pub emitted: u64,
    pub dropped: u64,
    pub dead_letters: BTreeMap<String, u64>,
    pub transactions: u64,
    pub aborted: u64,
    pub recoveries: u64,
    /// Offsets of the input whose records were deleted before they were read.
    #[serde(default, skip_serializing_if = "is_none")]
    pub missed: u64,
    #[serde(default, skip_serializing_if = "Durations::is_empty")]
    pub commits: Durations,
    pub swap_pauses_us: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it said so, milliseconds since the Unix epoch.
    pub at: i64,
    /// How long ago that was, whatever was done to the machine's clock since.
    pub silent_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedbackStatus {
    /// Labels by what became of them.
    pub labels: BTreeMap<String, u64>,
    /// Ids that wait for their other half or are remembered against duplicates.
    pub waiting: u64,
    /// Memory of these, about, and `[feedback] max_bytes`.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub max_bytes: u64,
    /// Records whose time was not taken as it stands.
    #[serde(default, skip_serializing_if = "Clocks::is_right")]
    pub clocks: Clocks,
    /// Labels' classes that the model does not know.
    #[serde(default, skip_serializing_if = "UnknownClasses::is_empty")]
    pub unknown_classes: UnknownClasses,
    /// How labels and predictions come to stand on different partitions, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misplaced: Option<String>,
    pub worker: WorkerStatus,
}

impl Status {
    pub fn of(daemon: &Daemon) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: daemon.directory.instance().to_owned(),
            control: ControlStatus::of(daemon),
            pipelines: daemon.pipelines.iter().map(|pipeline| PipelineStatus::of(pipeline)).collect(),
        }
    }
}

impl PipelineStatus {
    pub fn of(pipeline: &RunningPipeline) -> Self {
        let (plan, control) = (&pipeline.controller.plan, pipeline.controller.snapshot());
        let history = control.history.clone();
        let reports: Vec<Arc<WorkerReport>> = pipeline.workers.iter().map(|worker| worker.report.latest()).collect();
        let workers: Vec<WorkerStatus> =
            reports.iter().enumerate().map(|(slot, report)| WorkerStatus::of(slot, report)).collect();
        let feedback =
            pipeline.feedback.as_ref().map(|feedback| (feedback.handles.report.latest(), feedback.figures.latest()));
        let all = || reports.iter().chain(feedback.iter().map(|(report, _)| report));
        let mut counts = crate::record::output::Counts::default();
        let mut by_revision: BTreeMap<Revision, u64> = BTreeMap::new();
        for report in &reports {
            counts.add(&report.counts);
            for (revision, records) in &report.records_by_revision {
                *by_revision.entry(*revision).or_default() += records;
            }
        }
        Self {
            name: plan.name.clone(),
            state: WorkerState::worst(all().map(|report| report.state)),
            delivery: plan.delivery.guarantee,
            revision: history.revision(),
            records: counts.records,
            emitted: counts.emitted,
            dropped: counts.dropped,
            dead_letters: counts.dead_letters,
            lag: workers.iter().flat_map(|worker| &worker.partitions).filter_map(|partition| partition.lag).sum(),
            releases: releases(&history, &by_revision, feedback.as_ref().map(|(_, tally)| &**tally)),
            rollout: RolloutStatus::of(pipeline, &history, feedback.as_ref().map(|(_, tally)| &**tally)),
            file_asks_for: pipeline.controller.file_asks_for(),
            daemons: (control.members.iter())
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, member)| (name.clone(), member.workers.clone()))
                .collect(),
            paused: history.paused.clone().map(|pause| PauseStatus { advice: pause.advice(&plan.name), pause }),
            last_error: (pipeline.controller.holds.main.trouble().map(|why| why.to_string())).or_else(|| {
                let troubled =
                    |report: &&Arc<WorkerReport>| !matches!(report.state, WorkerState::Running | WorkerState::Paused);
                all().filter(troubled).find_map(|report| report.last_error.clone())
            }),
            feedback: feedback.as_ref().map(|(report, tally)| FeedbackStatus {
                labels: tally.labels.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
                waiting: tally.waiting,
                bytes: tally.bytes,
                max_bytes: plan.feedback.as_ref().map_or(0, |feedback| feedback.max_bytes as u64),
                clocks: tally.clocks.clone(),
                unknown_classes: tally.unknown.clone(),
                misplaced: tally.misplaced.clone(),
                worker: WorkerStatus::of(0, report),
            }),
            workers,
        }
    }
}

fn releases(history: &History, records: &BTreeMap<Revision, u64>, tally: Option<&Tally>) -> Vec<ReleaseStatus> {
    let labelled = tally.iter().flat_map(|tally| tally.by_revision.keys());
    let revisions: BTreeSet<Revision> = records.keys().chain(labelled).copied().chain(history.revision()).collect();
    let status = |revision: Revision| {
        let deployment = history.deployments.iter().find(|deployment| deployment.revision == revision);
        let judged = tally.and_then(|tally| tally.by_revision.get(&revision)).map(|judged| &**judged);
        ReleaseStatus {
            revision,
            releases: deployment
                .map(|deployment| deployment.releases.iter().map(|(stage, release)| (stage, release.label())).collect())
                .unwrap_or_default(),
            records: records.get(&revision).copied().unwrap_or_default(),
            on_probation: deployment.is_some_and(|deployment| deployment.on_probation),
            failed: deployment.and_then(|deployment| deployment.failed.clone()),
            scored: judged.map(|judged| judged.scored),
            accuracy: judged.and_then(Release::accuracy),
            log_loss: judged.and_then(Release::log_loss),
            loss: judged.and_then(Release::loss),
            confusion: judged.map(|judged| judged.confusion.clone()).unwrap_or_default(),
            confusion_is_partial: judged.is_some_and(|judged| judged.is_partial),
        }
    };
    revisions.into_iter().map(status).collect()
}

impl WorkerStatus {
    fn of(slot: usize, report: &WorkerReport) -> Self {
        Self {
            slot,
            state: report.state,
            revision: report.revision,
            partitions: report.partitions.clone(),
            records: report.counts.records,
            emitted: report.counts.emitted,
            dropped: report.counts.dropped,
            dead_letters: report.counts.dead_letters.clone(),
            transactions: report.transactions,
            aborted: report.aborted,
            recoveries: report.recoveries,
            missed: report.missed,
            commits: report.commits.clone(),
            swap_pauses_us: report.swap_pauses_us.clone(),
            last_error: report.last_error.clone(),
            at: report.at,
            silent_ms: report.silence().as_millis() as u64,
        }
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}
