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
        let untaken = self.next.lock().unwrap_or_else(PoisonError::into_inner).replace(next);
        self.waiting.store(true, Ordering::Release);
        untaken.into_iter().for_each(|untaken| self.discard(untaken));
    }

    /// Has one that is not to run be dropped where old ones are: that takes a while.
    pub fn discard(&self, process: P) {
        // The receiver ends only with the slot; without it the process is dropped here.
        let _ = self.old.send(process);
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// What waits, for a worker that runs nothing yet.
    pub fn take(&self) -> Option<P> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.waiting.store(false, Ordering::Release);
        next
    }

    /// Has what waits run, by an exchange that gives back what ran; whether there was something.
    pub fn exchange(&self, exchange: impl FnOnce(P) -> P) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(false, Ordering::Release);
        let Some(next) = next.take() else { return false };
        self.discard(exchange(next));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::mem::replace;
    use std::sync::Arc;
    use std::thread::{self, ThreadId};

    use super::*;

    #[test]
    fn an_empty_slot_leaves_what_runs() {
        let slot = Slot::new().unwrap();
        let mut running = 1;
        assert!(!slot.is_waiting());
        assert!(!slot.exchange(|next| replace(&mut running, next)));
        assert_eq!(running, 1);
    }

    #[test]
    fn what_was_put_runs_once() {
        let slot = Slot::new().unwrap();
        let mut running = 1;
        slot.put(2);
        assert!(slot.is_waiting());
        assert!(slot.exchange(|next| replace(&mut running, next)));
        assert_eq!((running, slot.is_waiting()), (2, false));
        assert!(!slot.exchange(|next| replace(&mut running, next)));
        assert_eq!(running, 2);
    }

    #[test]
    fn of_two_the_later_is_taken() {
        let slot = Slot::new().unwrap();
        let mut running = 1;
        slot.put(2);
        slot.put(3);
        assert!(slot.exchange(|next| replace(&mut running, next)));
        assert_eq!((running, slot.is_waiting()), (3, false));
    }

    #[test]
    fn what_is_put_on_one_thread_is_taken_on_another() {
        let slot = Arc::new(Slot::new().unwrap());
        let mut running = 0;
        for next in 1..100 {
            let control = slot.clone();
            thread::spawn(move || control.put(next)).join().unwrap();
            assert!(slot.is_waiting() && slot.exchange(|next| replace(&mut running, next)));
            assert_eq!(running, next);
        }
    }

    /// Says on which thread it is dropped.
    struct Old(mpsc::Sender<ThreadId>);

    impl Drop for Old {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn what_ran_is_dropped_on_a_thread_of_its_own() {
        let (tell, dropped) = mpsc::channel();
        let slot = Slot::new().unwrap();
        let mut running = Old(tell.clone());
        slot.put(Old(tell));
        assert!(slot.exchange(|next| replace(&mut running, next)));
        assert_ne!(dropped.recv().unwrap(), thread::current().id());
    }

    #[test]
    fn what_never_ran_is_dropped_on_that_thread_too() {
        let (tell, dropped) = mpsc::channel();
        let slot = Slot::new().unwrap();
        slot.put(Old(tell.clone()));
        slot.put(Old(tell.clone()));
        slot.discard(Old(tell));
        for _ in 0..2 {
            assert_ne!(dropped.recv().unwrap(), thread::current().id());
        }
        assert!(dropped.try_recv().is_err(), "what was put last waits");
    }

    #[test]
    fn a_slot_that_is_dropped_drops_what_nobody_took() {
        let (tell, dropped) = mpsc::channel();
        let slot = Slot::new().unwrap();
        slot.put(Old(tell));
        drop(slot);
        assert!(dropped.recv().is_ok());
    }
}
