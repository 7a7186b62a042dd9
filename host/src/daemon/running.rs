//! A pipeline that runs, as the rest of the daemon sees it: its control, and what its loops report.

use crate::control::Controller;
use crate::control::rollout::StepFigures;
use crate::control::runner::Observed;
use crate::feedback::{Feedback, Figures};
use crate::pipeline::Pipeline;
use crate::record::Revision;
use crate::replay::process::Shared;
use crate::stream::report::Publisher;
use crate::stream::worker::Handles;

pub struct RunningPipeline {
    pub controller: Controller,
    /// Of the main loop, by worker.
    pub workers: Vec<Handles<Pipeline>>,
    pub feedback: Option<RunningFeedback>,
    /// The last replay of dead letters, running or done.
    pub replay: Shared,
}

pub struct RunningFeedback {
    pub handles: Handles<Feedback>,
    pub figures: Figures,
}

/// What this daemon's loops of one pipeline report.
pub(super) struct Observer {
    /// Of the main loop's workers.
    pub reports: Vec<Publisher>,
    pub figures: Figures,
}

impl Observed for Observer {
    fn measured(&self, revision: Revision) -> StepFigures {
        let labels = self.figures.latest().pairs.get(&revision).copied().unwrap_or_default();
        let mut step = StepFigures { labels, ..StepFigures::default() };
        for report in &self.reports {
            if let Some(worker) = report.latest().steps.get(&revision) {
                step.records += worker.records;
                step.dead_letters += worker.dead_letters;
                step.comparison.add(&worker.comparison);
            }
        }
        step
    }

    fn owns_partitions(&self) -> bool {
        self.reports.iter().any(|report| !report.latest().partitions.is_empty())
    }
}

impl RunningPipeline {
    /// What the step of a rollout that is that revision has come to: at all daemons, as far as they have told, where one decides
    /// for several.
    pub fn step_figures(&self, revision: Revision) -> StepFigures {
        let control = self.controller.snapshot();
        if control.is_shared {
            return control.measured(revision);
        }
        let reports = self.workers.iter().map(|worker| worker.report.clone()).collect();
        let figures = self.feedback.as_ref().map(|feedback| feedback.figures.clone()).unwrap_or_default();
        Observer { reports, figures }.measured(revision)
    }

    pub fn name(&self) -> &str {
        &self.controller.plan.name
    }
}
