//! A pipeline that runs, as the rest of the daemon sees it: its control, and what its loops report.

use crate::control::Controller;
use crate::control::rollout::StepFigures;
use crate::feedback::{Figures, NextScorer};
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
    pub report: Publisher,
    pub figures: Figures,
    pub next_scorer: NextScorer,
}

/// What the step of a rollout that is that revision has come to here: the workers' reports and the feedback loop's figures.
pub(super) fn step_figures(reports: &[Publisher], figures: &Figures, revision: Revision) -> StepFigures {
    let labels = figures.latest().pairs.get(&revision).copied().unwrap_or_default();
    let mut step = StepFigures { labels, ..StepFigures::default() };
    for report in reports {
        if let Some(worker) = report.latest().steps.get(&revision) {
            step.records += worker.records;
            step.dead_letters += worker.dead_letters;
            step.comparison.add(&worker.comparison);
        }
    }
    step
}

impl RunningPipeline {
    pub fn step_figures(&self, revision: Revision) -> StepFigures {
        let reports: Vec<Publisher> = self.workers.iter().map(|worker| worker.report.clone()).collect();
        let figures = self.feedback.as_ref().map(|feedback| feedback.figures.clone()).unwrap_or_default();
        step_figures(&reports, &figures, revision)
    }

    pub fn name(&self) -> &str {
        &self.controller.plan.name
    }
}
