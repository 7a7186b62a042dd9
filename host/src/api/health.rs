//! Whether a daemon is well, for those who ask every few seconds: the loops' last reports, and nothing that costs more the
//! longer the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;
use crate::record::Revision;
use crate::stream::report::{PartitionReport, WorkerReport, WorkerState};

/// A worker in its group renews its report twice a second; a plugin's failing batch may keep it for a few seconds.
const SILENT: Duration = Duration::from_secs(30);
/// One that connects or recovers reports each attempt, which the waits for brokers and the pause before the next one make
/// longer: 40 s and 30 s at most.
const SILENT_BETWEEN_ATTEMPTS: Duration = Duration::from_secs(120);

/// One pipeline, as it is now.
pub struct Health {
    name: String,
    /// Why, where it is.
    paused: Option<String>,
    /// Why this daemon cannot run what is deployed.
    trouble: Option<Arc<String>>,
    /// That is deployed.
    revision: Option<Revision>,
    /// Of the main loop, by worker.
    workers: Vec<Arc<WorkerReport>>,
    feedback: Option<Arc<WorkerReport>>,
}

impl Health {
    /// Of all pipelines.
    pub fn of(daemon: &Daemon) -> Vec<Self> {
        daemon.pipelines.iter().map(|pipeline| Self::of_pipeline(pipeline)).collect()
    }

    fn of_pipeline(pipeline: &RunningPipeline) -> Self {
        let history = pipeline.controller.history();
        Self {
            name: pipeline.name().to_owned(),
            paused: history.paused.as_ref().map(|pause| pause.why.clone()),
            trouble: pipeline.controller.holds.main.trouble(),
            revision: history.revision(),
            workers: pipeline.workers.iter().map(|worker| worker.report.latest()).collect(),
            feedback: pipeline.feedback.as_ref().map(|feedback| feedback.handles.report.latest()),
        }
    }

    /// Which loop has stopped reporting, though it has not ended.
    pub fn stuck(&self) -> Option<String> {
        let (worker, report) = self.loops().find(|(_, report)| is_stuck(report.state, report.silence()))?;
        Some(format!("pipeline {}, {worker} has not reported for {} s", self.name, report.silence().as_secs()))
    }

    /// Why it is not ready, when it is not: paused, or a loop does not run, or not what is deployed, or waits for something.
    pub fn not_ready(&self) -> Option<String> {
        let name = &self.name;
        if let Some(why) = &self.paused {
            return Some(format!("pipeline {name} is paused: {why}"));
        }
        if let Some(why) = &self.trouble {
            return Some(format!("pipeline {name}: {why}"));
        }
        if WorkerState::worst(self.loops().map(|(_, report)| report.state)) != WorkerState::Running {
            let errors = self.loops().filter(|(_, report)| report.state != WorkerState::Running);
            let why = errors.filter_map(|(_, report)| report.last_error.as_deref()).next().unwrap_or("connecting");
            return Some(format!("pipeline {name} is not running: {why}"));
        }
        if let Some(stuck) = self.stuck() {
            return Some(stuck);
        }
        if let Some(revision) = self.revision
            && let Some(worker) = self.behind(revision)
        {
            return Some(format!("pipeline {name}, {worker} has yet to take revision {revision}"));
        }
        if let Some((waits, revision)) = self.partitions().find_map(|each| Some((each, each.waits_for_revision?))) {
            let by = if self.revision == Some(revision) { "has run for something else" } else { "has run" };
            return Some(format!(
                "pipeline {name}: {} {} waits for revision {revision}, which another daemon {by}: deploy the same here",
                waits.topic, waits.partition
            ));
        }
        let restores = self.partitions().find(|each| each.restoring.is_some())?;
        Some(format!("pipeline {name} restores what it remembers of {} {}", restores.topic, restores.partition))
    }

    /// Which loop runs something older.
    fn behind(&self, revision: Revision) -> Option<String> {
        self.loops().find(|(_, report)| report.revision < Some(revision)).map(|(worker, _)| worker)
    }

    /// All loops, by name.
    fn loops(&self) -> impl Iterator<Item = (String, &WorkerReport)> {
        let workers = self.workers.iter().enumerate().map(|(slot, report)| (format!("worker {slot}"), &**report));
        workers.chain(self.feedback.iter().map(|report| ("the feedback worker".to_owned(), &**report)))
    }

    fn partitions(&self) -> impl Iterator<Item = &PartitionReport> {
        self.workers.iter().chain(&self.feedback).flat_map(|report| &report.partitions)
    }
}

fn is_stuck(state: WorkerState, silence: Duration) -> bool {
    match state {
        WorkerState::Running | WorkerState::Paused => silence > SILENT,
        WorkerState::Starting | WorkerState::Recovering => silence > SILENT_BETWEEN_ATTEMPTS,
        WorkerState::Failed | WorkerState::Stopped => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stream::state::Progress;

    fn revision(number: u64) -> Option<Revision> {
        Revision::new(number)
    }

    fn reported(state: WorkerState, silence: u64) -> WorkerReport {
        let published = Instant::now().checked_sub(Duration::from_secs(silence));
        let partition = PartitionReport {
            topic: "in".into(),
            partition: 2,
            position: Some(9),
            lag: Some(0),
            waits_for_revision: None,
            restoring: None,
        };
        WorkerReport { state, revision: revision(3), partitions: vec![partition], published, ..WorkerReport::default() }
    }

    fn pipeline(worker: WorkerReport) -> Health {
        let feedback = Some(Arc::new(reported(WorkerState::Running, 0)));
        Health {
            name: "iris".into(),
            paused: None,
            trouble: None,
            revision: revision(3),
            workers: vec![Arc::new(worker)],
            feedback,
        }
    }

    #[track_caller]
    fn says(why: Option<String>, what: &str) {
        let why = why.unwrap();
        assert!(why.contains("pipeline iris") && why.contains(what), "{why}");
    }

    #[test]
    fn whoever_waits_fails_or_is_paused_is_not_ready_and_says_why() {
        let running = || reported(WorkerState::Running, 0);
        assert_eq!(pipeline(running()).not_ready(), None);
        let mut waits = running();
        waits.partitions[0].waits_for_revision = revision(5);
        says(pipeline(waits).not_ready(), "in 2 waits for revision 5");
        let mut tied = running();
        tied.partitions[0].waits_for_revision = revision(3);
        says(pipeline(tied).not_ready(), "revision 3, which another daemon has run for something else");
        let mut restores = running();
        restores.partitions[0].restoring = Some(Progress { done: 1, of: 2 });
        says(pipeline(restores).not_ready(), "restores what it remembers of in 2");
        let late = Health { revision: revision(4), ..pipeline(running()) };
        says(late.not_ready(), "worker 0 has yet to take revision 4");
        let feedback = Some(Arc::new(WorkerReport { revision: revision(2), ..running() }));
        let late = Health { feedback, ..pipeline(running()) };
        says(late.not_ready(), "the feedback worker has yet to take revision 3");
        says(pipeline(reported(WorkerState::Starting, 0)).not_ready(), "connecting");
        for state in [WorkerState::Starting, WorkerState::Recovering, WorkerState::Failed, WorkerState::Stopped] {
            let last_error = Some("topic out does not exist".to_owned());
            says(pipeline(WorkerReport { last_error, ..reported(state, 0) }).not_ready(), "topic out does not exist");
        }
        let unable = Health { trouble: Some(Arc::new("no such model".into())), ..pipeline(running()) };
        says(unable.not_ready(), "no such model");
        let paused = Health { paused: Some("too many".into()), ..pipeline(reported(WorkerState::Paused, 0)) };
        says(paused.not_ready(), "is paused: too many");
    }

    #[test]
    fn a_loop_that_says_nothing_is_stuck_in_whatever_state_it_hangs_and_is_not_ready() {
        for (state, patience) in [
            (WorkerState::Running, SILENT),
            (WorkerState::Paused, SILENT),
            (WorkerState::Starting, SILENT_BETWEEN_ATTEMPTS),
            (WorkerState::Recovering, SILENT_BETWEEN_ATTEMPTS),
        ] {
            let patience = patience.as_secs();
            assert_eq!(pipeline(reported(state, patience - 5)).stuck(), None, "{state:?}");
            says(pipeline(reported(state, patience + 5)).stuck(), "worker 0 has not reported for ");
        }
        for state in [WorkerState::Failed, WorkerState::Stopped] {
            assert_eq!(
                pipeline(reported(state, 86_400)).stuck(),
                None,
                "{state:?} has ended, and says nothing any more"
            );
        }
        says(pipeline(reported(WorkerState::Running, 35)).not_ready(), "worker 0 has not reported for 35 s");
    }

    #[test]
    fn a_feedback_loop_that_hangs_is_seen_too() {
        let feedback = Some(Arc::new(WorkerReport { revision: None, ..reported(WorkerState::Running, 35) }));
        let health = Health { feedback, ..pipeline(reported(WorkerState::Running, 0)) };
        says(health.stuck(), "the feedback worker has not reported for 35 s");
        says(health.not_ready(), "the feedback worker has not reported for 35 s");
    }
}
