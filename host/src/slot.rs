//! Where the control plane leaves what a worker is to run next, and where it leaves what it ran.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

/// One worker's place for the next deployment. The worker looks between transactions only.
pub struct Slot<P> {
    next: Mutex<Option<P>>,
    /// Mirrors `next`, so that the hot path takes no lock.
    waiting: AtomicBool,
    /// Where old instances go to be dropped: not on the worker's time.
    old: mpsc::Sender<P>,
}

impl<P: Send + 'static> Slot<P> {
    /// # Errors
    /// When the thread that drops old instances cannot be started.
    pub fn new() -> std::io::Result<Self> {
        let (old, dropped) = mpsc::channel::<P>();
        std::thread::Builder::new().name("drop".into()).spawn(move || dropped.into_iter().for_each(drop))?;
        Ok(Self { next: Mutex::new(None), waiting: AtomicBool::new(false), old })
    }

    /// Offers the next; one that was not taken yet is replaced.
    pub fn put(&self, next: P) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        self.waiting.store(true, Ordering::Release);
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Exchanges what runs for what waits; whether there was something.
    pub fn exchange(&self, running: &mut P) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(false, Ordering::Release);
        let Some(next) = next.take() else { return false };
        // The receiver ends only with the slot; without it the old one is dropped here.
        let _ = self.old.send(std::mem::replace(running, next));
        true
    }
}
