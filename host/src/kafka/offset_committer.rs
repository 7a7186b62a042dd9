//! A transaction's offsets, sent from a thread beside the worker's.
//!
//! librdkafka (2.12.1; its issues 5456 and 5511) can wait in this one call without end, whatever its deadline, when the
//! group coordinator's broker leaves the cluster. A worker must not wait with it: where no answer comes in time, its
//! producer is given up, and the thread keeps the client for as long as the call lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::raw::{CallError, Group, List, millis_until, outcome};
use super::retransmits::Link;
use crate::stream::failpoint::hangpoint;
use crate::stream::fault::Fault;

/// How much longer than its deadline a call is waited for, since one that keeps its deadline answers just behind it.
const GRACE: Duration = Duration::from_millis(500);

/// What is committed, and by which member of the group.
pub(super) struct Offsets {
    pub(super) list: List,
    pub(super) group: Group,
}

// SAFETY: nobody changes list or group once they stand here, and neither is bound to a thread.
unsafe impl Send for Offsets {}
// SAFETY: nobody changes list or group once they stand here.
unsafe impl Sync for Offsets {}

struct Job {
    offsets: Arc<Offsets>,
    deadline: Instant,
}

/// The thread that makes the call, one a producer.
pub(super) struct OffsetCommitter {
    jobs: Option<Sender<Job>>,
    answers: Receiver<Result<(), CallError>>,
    thread: Option<JoinHandle<()>>,
    /// A call was given up: nothing may be asked of this producer any more.
    stuck: AtomicBool,
}

impl OffsetCommitter {
    /// # Errors
    /// `Unknown` when the system gives no thread.
    pub(super) fn start(link: Arc<Link>) -> Result<Self, Fault> {
        Self::calling(move |job| {
            hangpoint!(NO_ANSWER);
            // SAFETY: client, list and group are alive.
            outcome(unsafe {
                rd::rd_kafka_send_offsets_to_transaction(
                    link.client.ptr(),
                    job.offsets.list.ptr(),
                    job.offsets.group.ptr(),
                    millis_until(job.deadline),
                )
            })
        })
    }

    fn calling(call: impl Fn(&Job) -> Result<(), CallError> + Send + 'static) -> Result<Self, Fault> {
        let (jobs, asked) = channel::<Job>();
        let (answer, answers) = channel();
        let work = move || {
            for job in asked {
                if answer.send(call(&job)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("offsets".into()).spawn(work);
        let thread = thread.map_err(|error| Fault::Unknown(format!("no thread for the offsets: {error}")))?;
        Ok(Self { jobs: Some(jobs), answers, thread: Some(thread), stuck: AtomicBool::new(false) })
    }

    /// Sends them, and waits for the answer as long as the deadline allows.
    pub(super) fn send(&self, offsets: &Arc<Offsets>, deadline: Instant) -> Result<(), CallError> {
        let gone = || Err(CallError::Fault(Fault::Unknown("the thread that sends the offsets is gone".into())));
        let Some(jobs) = &self.jobs else { return gone() };
        if self.stuck.load(Ordering::Relaxed) || jobs.send(Job { offsets: offsets.clone(), deadline }).is_err() {
            return gone();
        }
        let wait = deadline.saturating_duration_since(Instant::now()) + GRACE;
        self.answers.recv_timeout(wait).unwrap_or_else(|_| {
            self.stuck.store(true, Ordering::Relaxed);
            Err(CallError::Fault(Fault::Unknown(
                "the client does not come back from sending the offsets: its producer is given up".into(),
            )))
        })
    }
}

impl Drop for OffsetCommitter {
    fn drop(&mut self) {
        self.jobs = None;
        // A call that was given up may never end: the thread has its own hold on the client.
        if !self.stuck.load(Ordering::Relaxed)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn offsets() -> Arc<Offsets> {
        Arc::new(Offsets { list: List::default(), group: Group::none() })
    }

    #[test]
    fn an_answer_is_the_callers() {
        let committer = OffsetCommitter::calling(|_| Err(CallError::Retry("not yet".into()))).unwrap();
        let answer = committer.send(&offsets(), Instant::now() + Duration::from_secs(60));
        assert!(matches!(answer, Err(CallError::Retry(message)) if message == "not yet"));
    }

    #[test]
    fn a_call_without_end_is_given_up_and_what_it_holds_lives_until_it_ends() {
        let held = Arc::new(());
        let (end, ended) = channel::<()>();
        let (end, ended) = (Some(end), Mutex::new(ended));
        let hold = held.clone();
        let committer = OffsetCommitter::calling(move |_| {
            let _ = ended.lock().unwrap().recv();
            assert_eq!(*hold, ());
            Ok(())
        })
        .unwrap();
        let unknown = |answer| matches!(answer, Err(CallError::Fault(Fault::Unknown(_))));
        assert!(unknown(committer.send(&offsets(), Instant::now())));
        assert!(unknown(committer.send(&offsets(), Instant::now() + Duration::from_secs(60))), "at once from now on");
        drop(committer);
        assert_eq!(Arc::strong_count(&held), 2, "the thread has it still");
        drop(end);
        while Arc::strong_count(&held) > 1 {
            std::thread::yield_now();
        }
    }
}
