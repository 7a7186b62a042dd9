//! A pipeline that runs, as the rest of the daemon sees it: its control, and what its loops report.

use crate::control::Controller;
use crate::feedback::Figures;
use crate::pipeline::Pipeline;
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
}

impl RunningPipeline {
    pub fn name(&self) -> &str {
        &self.controller.plan.name
    }
}
