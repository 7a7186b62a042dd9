//! What holds a pipeline's workers between two transactions, and what they report to whoever decides about them.
//!
//! A worker that meets a reason to stop holds all workers of its pipeline at once, before it aborts, and reports the
//! reason; control decides what runs next and lets them go. While they are held they keep their membership and their
//! positions, and process nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

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
    Outrun { revision: Revision, releases: Option<Digest> },
    /// What that worker runs from now on; nothing while it is connecting, recovering or held.
    Runs { worker: usize, revision: Option<Revision> },
}

/// One pipeline's hold, shared by its workers and its control.
pub struct Hold {
    /// Mirrors `reasons`, so that the hot path takes no lock.
    is_on: AtomicBool,
    reasons: Mutex<Reasons>,
    /// Why the workers are to leave their group, and to stay out of it.
    out: ArcSwapOption<String>,
    /// Why this daemon cannot run what is current; it may be before the workers are to leave.
    trouble: ArcSwapOption<String>,
    /// The last revision that has passed its probation, at one of the workers or at another daemon; 0 for none.
    passed: AtomicU64,
    /// Called on the worker's thread.
    report: Box<dyn Fn(WorkerEvent) + Send + Sync>,
}

#[derive(Default)]
struct Reasons {
    /// Control wants it.
    wanted: bool,
    /// What workers have reported that is not decided yet.
    undecided: u32,
}

impl Hold {
    /// `report` hears of every event; it must not wait for a worker.
    pub fn new(is_on: bool, report: impl Fn(WorkerEvent) + Send + Sync + 'static) -> Self {
        Self {
            is_on: AtomicBool::new(is_on),
            reasons: Mutex::new(Reasons { wanted: is_on, undecided: 0 }),
            out: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
            passed: AtomicU64::new(0),
            report: Box::new(report),
        }
    }

    /// Looked at between two records: takes no lock.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Control holds the workers, or lets them go on: whatever runs next is in their slots by then. They are held as long as
    /// what one of them has reported is not decided.
    pub fn set(&self, wanted: bool) {
        self.change(|reasons| reasons.wanted = wanted);
    }

    /// One report of a worker that stopped has been decided.
    pub fn decided(&self) {
        self.change(|reasons| reasons.undecided = reasons.undecided.saturating_sub(1));
    }

    /// A worker has stopped, and what follows from that is to be decided.
    fn stop(&self) {
        self.change(|reasons| reasons.undecided += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Reasons)) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut reasons);
        self.is_on.store(reasons.wanted || reasons.undecided > 0, Ordering::Release);
    }

    /// Control has the workers leave their group, with the reason, or lets them join again.
    pub fn stay_out(&self, why: Option<String>) {
        self.out.store(why.map(Arc::new));
    }

    /// Why the workers are to be in no group.
    pub fn stays_out(&self) -> Option<Arc<String>> {
        self.out.load_full()
    }

    /// Control says why what is current cannot be run here, or that it can.
    pub fn note_trouble(&self, why: Option<String>) {
        self.trouble.store(why.map(Arc::new));
    }

    /// Why what is current cannot be run here, for whoever asks how this daemon does.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// A worker pauses the pipeline.
    pub fn pause(&self, pause: Pause) {
        self.stop();
        (self.report)(WorkerEvent::Paused(pause));
    }

    /// A worker holds the others until it is decided what runs instead of a revision that failed.
    pub fn fail(&self, revision: Option<Revision>, why: String) {
        self.stop();
        (self.report)(WorkerEvent::Failed { revision, why });
    }

    /// What one worker has tried enough is on probation at none.
    pub fn pass(&self, revision: Revision) {
        self.note_passed(revision);
        (self.report)(WorkerEvent::Passed { revision });
    }

    /// It has passed, perhaps at another daemon.
    pub fn note_passed(&self, revision: Revision) {
        self.passed.store(revision.get(), Ordering::Relaxed);
    }

    pub fn has_passed(&self, revision: Revision) -> bool {
        self.passed.load(Ordering::Relaxed) == revision.get()
    }

    /// A worker has met offsets of the same releases under a higher number.
    pub fn adopt(&self, deployed: Deployed) {
        if let Deployed { revision, releases: Some(releases) } = deployed {
            (self.report)(WorkerEvent::Adopt { revision, releases });
        }
    }

    /// A worker has met offsets of a revision that nobody runs any more.
    pub fn outrun(&self, deployed: Deployed) {
        let Deployed { revision, releases } = deployed;
        (self.report)(WorkerEvent::Outrun { revision, releases });
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
        hold.set(false);
        assert!(hold.is_on(), "what it has reported is not decided yet");
        hold.decided();
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
    fn what_has_passed_at_one_worker_has_passed_at_all_and_no_other_with_it() {
        let (hold, _events) = reporting();
        let second = Revision::FIRST.next();
        assert!(!hold.has_passed(Revision::FIRST));
        hold.pass(Revision::FIRST);
        assert!(hold.has_passed(Revision::FIRST) && !hold.has_passed(second));
        // What takes over from one that fails has passed, and a worker may run the one that fails a moment longer.
        hold.note_passed(second);
        assert!(hold.has_passed(second) && !hold.has_passed(Revision::FIRST));
    }

    #[test]
    fn a_pipeline_that_was_paused_holds_from_the_start() {
        assert!(Hold::new(true, |_| {}).is_on());
    }
}
