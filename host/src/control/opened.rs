//! A deployment opened for all workers that a daemon has of a pipeline, and the places from which they take it.

use std::sync::Arc;

use super::command::Action;
use crate::feedback::Scorer;
use crate::stream::hold::Hold;
use crate::stream::process::Probation;
use crate::stream::slot::Slot;

/// One process for each worker of the main loop, and the scorer where the pipeline has feedback.
pub struct Opened<P> {
    pub workers: Vec<P>,
    pub scorer: Option<Scorer>,
}

/// How much a deployment is trusted that is to be opened: what processes records, and the scorer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    pub path: Probation,
    pub scorer: Probation,
}

/// Where the workers look for what they run next.
pub struct Slots<P> {
    pub workers: Vec<Arc<Slot<P>>>,
    pub feedback: Option<Arc<Slot<Scorer>>>,
}

impl<P: Send + 'static> Slots<P> {
    pub(super) fn put(&self, opened: Opened<P>) {
        for (slot, process) in self.workers.iter().zip(opened.workers) {
            slot.put(process);
        }
        for (slot, scorer) in self.feedback.iter().zip(opened.scorer) {
            slot.put(scorer);
        }
    }

    /// Has what is not to run be dropped where old processes are.
    pub(super) fn discard(&self, opened: Opened<P>) {
        for (slot, process) in self.workers.iter().zip(opened.workers) {
            slot.discard(process);
        }
        for (slot, scorer) in self.feedback.iter().zip(opened.scorer) {
            slot.discard(scorer);
        }
    }
}

/// What holds the workers of a pipeline: those of the main loop, and the feedback's.
#[derive(Clone)]
pub struct Holds {
    pub main: Arc<Hold>,
    pub feedback: Arc<Hold>,
}

/// Whose workers stand still until it is decided what they reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StandsStill {
    Main,
    Feedback,
}

impl StandsStill {
    pub(super) fn for_action(action: &Action) -> Option<Self> {
        match action {
            Action::Failed { .. } | Action::Paused { .. } => Some(Self::Main),
            Action::ScorerFailed { .. } => Some(Self::Feedback),
            _ => None,
        }
    }
}
