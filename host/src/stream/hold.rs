//! What holds a pipeline's workers between two transactions, and what they report to whoever decides about them.
//!
//! A worker that meets a reason to stop holds all workers of its pipeline at once, before it aborts, and reports the
//! reason; control decides what runs next and lets them go. While they are held they keep their membership and their
//! positions, and process nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::pause::Pause;
use crate::record::Revision;
use crate::stream::transaction::Deployed;
use sandpiper_sandbox::Digest;

/// What a worker reports.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerEvent {
    /// What runs failed: its transaction is aborted, and the workers are held until it is decided what runs next. A loop
    /// that has no deployment names no revision.
    Failed { revision: Option<Revision>, why: String },
    /// The revision has passed its probation.
    Passed { revision: Revision },
    /// The workers are held until somebody resumes the pipeline.
    Paused(Pause),
    /// The group runs what this daemon does, by a higher number: that of the committed offsets.
    Adopt { revision: Revision, releases: Digest },
    /// The committed offsets name a revision that no member of the group runs, and its number is ours or above it.
    Outrun { revision: Revision },
    /// What that worker runs from now on; nothing while it is connecting, recovering or held.
    Runs { worker: usize, revision: Option<Revision> },
}

/// One pipeline's hold, shared by its workers and its control.
pub struct Hold {
    is_on: AtomicBool,
    /// The newest revision that has passed its probation at one of the workers; 0 for none.
    passed: AtomicU64,
    /// Called on the worker's thread.
    report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
}

impl Hold {
    /// `report` hears of every event; it must not wait for a worker.
    pub fn new(is_on: bool, report: impl Fn(WorkerEvent) + Send + Sync + 'static) -> Self {
        Self { is_on: AtomicBool::new(is_on), passed: AtomicU64::new(0), report: Box::new(report) }
    }

    /// Looked at between two records: takes no lock.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Control holds the workers.
    pub fn hold(&self) {
        self.is_on.store(true, Ordering::Release);
    }

    /// Control lets them go on. Whatever runs next is in their slots by now.
    pub fn release(&self) {
        self.is_on.store(false, Ordering::Release);
    }

    /// A worker pauses the pipeline.
    pub fn pause(&self, pause: Pause) {
        self.hold();
        (self.report)(WorkerEvent::Paused(pause));
    }

    /// A worker holds the others until it is decided what runs instead of a revision that failed.
    pub fn fail(&self, revision: Option<Revision>, why: String) {
        self.hold();
        (self.report)(WorkerEvent::Failed { revision, why });
    }

    /// What one worker has tried enough is on probation at none.
    pub fn pass(&self, revision: Revision) {
        self.passed.fetch_max(revision.get(), Ordering::Relaxed);
        (self.report)(WorkerEvent::Passed { revision });
    }

    pub fn has_passed(&self, revision: Revision) -> bool {
        self.passed.load(Ordering::Relaxed) >= revision.get()
    }

    /// A worker has met offsets of the same releases under a higher number.
    pub fn adopt(&self, deployed: Deployed) {
        if let Deployed { revision, releases: Some(releases) } = deployed {
            (self.report)(WorkerEvent::Adopt { revision, releases });
        }
    }

    /// A worker has met offsets of a revision that nobody runs any more.
    pub fn outrun(&self, revision: Revision) {
        (self.report)(WorkerEvent::Outrun { revision });
    }

    pub fn runs(&self, worker: usize, revision: Option<Revision>) {
        (self.report)(WorkerEvent::Runs { worker, revision });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use super::*;
    use crate::stream::pause::Cause;

    fn reporting() -> (Hold, mpsc::Receiver<WorkerEvent>) {
        let (send, events) = mpsc::channel();
        (Hold::new(false, move |event| drop(send.send(event))), events)
    }

    #[test]
    fn a_worker_that_fails_holds_the_others_before_anybody_has_decided() {
        let (hold, events) = reporting();
        assert!(!hold.is_on());
        hold.fail(Some(Revision::FIRST), "it traps".into());
        assert!(hold.is_on());
        assert_eq!(
            events.try_recv(),
            Ok(WorkerEvent::Failed { revision: Some(Revision::FIRST), why: "it traps".into() })
        );
        hold.release();
        assert!(!hold.is_on());
    }

    #[test]
    fn a_worker_that_pauses_says_why() {
        let (hold, events) = reporting();
        let pause = Pause { at: 1, cause: Cause::Breaker, why: "too many".into(), reasons: BTreeMap::new() };
        hold.pause(pause.clone());
        assert!(hold.is_on());
        assert_eq!(events.try_recv(), Ok(WorkerEvent::Paused(pause)));
    }

    #[test]
    fn what_has_passed_at_one_worker_has_passed_at_all_and_older_ones_with_it() {
        let (hold, _events) = reporting();
        let second = Revision::FIRST.next();
        assert!(!hold.has_passed(Revision::FIRST));
        hold.pass(Revision::FIRST);
        assert!(hold.has_passed(Revision::FIRST) && !hold.has_passed(second));
    }

    #[test]
    fn a_pipeline_that_was_paused_holds_from_the_start() {
        assert!(Hold::new(true, |_| {}).is_on());
    }
}
