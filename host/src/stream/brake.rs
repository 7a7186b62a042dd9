//! What holds a pipeline between two transactions: a pause, or a release that failed and is about to be replaced.
//!
//! Workers and people put it on; the control plane decides what runs next and takes it off. While it is on the workers
//! keep their membership and their positions, and process nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use serde::{Deserialize, Serialize};

/// Who paused a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// `sandpiper pause`.
    Operator,
    /// More dead letters than `[errors] pause_above`.
    Breaker,
    /// A record that `[errors]` says to stop at.
    Record,
    /// The release failed, and there is none to go back to.
    Release,
}

/// Since when and why a pipeline processes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    pub cause: Cause,
    pub why: String,
    /// Dead letters of the last minute, reason → records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
}

impl Pause {
    /// What to do about it.
    pub fn advice(&self, pipeline: &str) -> String {
        let resume = format!("`sandpiper resume {pipeline}`");
        match self.cause {
            Cause::Operator => format!("{resume} goes on where it stopped"),
            Cause::Breaker => format!(
                "mend what writes the input, deploy a release that takes it, or raise [errors] pause_above; then {resume}"
            ),
            Cause::Record => format!(
                "deploy a release that takes the record, or set [errors] to \"dead-letter\" or \"drop\"; then {resume}"
            ),
            Cause::Release => format!("deploy a release that works (`sandpiper deploy {pipeline}`); then {resume}"),
        }
    }
}

/// What a worker tells its controller.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// The revision failed: its transaction is aborted, and the brake is on until it is decided what runs next.
    Failed { revision: u64, why: String },
    /// The revision has passed its probation.
    Proven { revision: u64 },
    /// The pipeline was paused: it is still paused after a restart.
    Paused,
    /// Nothing more comes.
    End,
}

/// One pipeline's brake, shared by its workers and its controller.
pub struct Brake {
    /// Mirrors what is known below, so that the hot path takes no lock.
    on: AtomicBool,
    pause: Mutex<Option<Pause>>,
    /// The newest revision that has passed its probation at one of the workers.
    proven: AtomicU64,
    words: mpsc::Sender<Word>,
}

impl Brake {
    /// On from the start when there is a pause.
    pub fn new(pause: Option<Pause>) -> (Self, mpsc::Receiver<Word>) {
        let (words, heard) = mpsc::channel();
        let on = AtomicBool::new(pause.is_some());
        (Self { on, pause: Mutex::new(pause), proven: AtomicU64::new(0), words }, heard)
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    pub fn paused(&self) -> Option<Pause> {
        self.locked().clone()
    }

    /// Pauses; an earlier pause keeps its reason.
    pub fn pause(&self, pause: Pause) {
        self.locked().get_or_insert(pause);
        self.on.store(true, Ordering::Release);
        self.say(Word::Paused);
    }

    /// Holds the workers until the controller has decided.
    pub fn failed(&self, revision: u64, why: String) {
        self.on.store(true, Ordering::Release);
        self.say(Word::Failed { revision, why });
    }

    /// What one worker has tried enough is on probation at none.
    pub fn prove(&self, revision: u64) {
        self.proven.fetch_max(revision, Ordering::Relaxed);
        self.say(Word::Proven { revision });
    }

    pub fn is_proven(&self, revision: u64) -> bool {
        self.proven.load(Ordering::Relaxed) >= revision
    }

    pub fn say(&self, word: Word) {
        // Nobody listens to a feedback loop's, or when the daemon ends.
        let _ = self.words.send(word);
    }

    /// Whatever runs next is in the workers' slots by now.
    pub fn release(&self) {
        let mut pause = self.locked();
        *pause = None;
        self.on.store(false, Ordering::Release);
    }

    /// As `release`, but a pause stays.
    pub fn decided(&self) {
        let pause = self.locked();
        self.on.store(pause.is_some(), Ordering::Release);
    }

    fn locked(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(why: &str) -> Pause {
        Pause { at: 1, cause: Cause::Operator, why: why.into(), reasons: BTreeMap::new() }
    }

    #[test]
    fn the_first_pause_keeps_its_reason() {
        let (brake, heard) = Brake::new(None);
        assert!(!brake.is_on());
        brake.pause(pause("first"));
        brake.pause(pause("second"));
        assert!(brake.is_on());
        assert_eq!(brake.paused(), Some(pause("first")));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [Word::Paused, Word::Paused]);
        brake.release();
        assert!(!brake.is_on() && brake.paused().is_none());
    }

    #[test]
    fn a_decision_about_a_release_leaves_a_pause_on() {
        let (brake, _heard) = Brake::new(None);
        brake.failed(3, "it traps".into());
        assert!(brake.is_on() && brake.paused().is_none());
        brake.decided();
        assert!(!brake.is_on());
        brake.pause(pause("an operator was faster"));
        brake.failed(3, "it traps".into());
        brake.decided();
        assert!(brake.is_on());
    }

    #[test]
    fn a_pause_that_was_kept_holds_from_the_start() {
        let (brake, _heard) = Brake::new(Some(pause("before the restart")));
        assert!(brake.is_on());
    }
}
