//! Starts loops, starts them again after what passes, and stops them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use super::loop_spec::LoopSpec;
use crate::kafka::source::{BatchLimits, HeaderLimits};
use crate::kafka::{KafkaSink, KafkaSource, topics};
use crate::stream::backoff::Backoff;
use crate::stream::clock::SystemClock;
use crate::stream::fault::Fault;
use crate::stream::process::Process;
use crate::stream::report::WorkerState;
use crate::stream::stop::Stop;
use crate::stream::worker::Worker;

/// Between two attempts to start a worker.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// A daemon's threads.
#[derive(Default)]
pub struct Supervisor {
    stop: Stop,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Supervisor {
    /// For a loop that is to be started: it stops with all others, and can be stopped alone.
    pub fn stop_of_one(&self) -> Stop {
        self.stop.child()
    }

    /// Runs a loop on a thread of its own until it is stopped, or only a person can help.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start<P: Process>(&self, spec: LoopSpec<P>) -> Result<()> {
        let thread = std::thread::Builder::new().name(spec.name.clone());
        self.keep(thread.spawn(move || supervise(spec))?);
        Ok(())
    }

    /// Waits for that thread too when the daemon stops.
    pub fn keep(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads();
        // Loops may come to an end of their own, and others follow them for as long as the daemon runs.
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Tells every loop to finish its transaction and to leave its group.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// Waits until all have.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the daemon panicked");
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one worker running: connects, runs, and after a fault that the worker cannot mend tries again, unless only
/// a person can help.
fn supervise<P: Process>(mut spec: LoopSpec<P>) {
    let mut backoff = BACKOFF;
    let mut last = None;
    while !spec.handles.stop.is_set() {
        let fault = match connect(&spec) {
            Ok((source, sink)) => {
                let (bounds, topics) = (spec.bounds, spec.source.topics.clone());
                let mut worker =
                    Worker::new(source, sink, SystemClock, spec.process, spec.handles.clone(), bounds, topics);
                let result = worker.run();
                spec.process = worker.into_process();
                backoff.reset();
                match result {
                    Ok(()) => break,
                    Err(fault) => fault,
                }
            }
            Err(fault) => fault,
        };
        let is_final = matches!(fault, Fault::Configuration(_));
        spec.handles.hold.runs(spec.handles.worker, None);
        spec.handles.report.amend(|report| {
            report.state = if is_final { WorkerState::Failed } else { WorkerState::Starting };
            report.revision = spec.process.revision();
            report.partitions.clear();
            report.last_error = Some(fault.to_string());
        });
        if is_final {
            tracing::error!(worker = spec.name, %fault, "the worker stops; mend the cause and start the daemon anew");
            last = Some(fault);
            break;
        }
        tracing::warn!(worker = spec.name, %fault, "the worker cannot start; trying again");
        wait(backoff.failed(), &spec.handles.stop);
    }
    (spec.ended)(last.as_ref());
}

/// Producer first: when it is there, no transaction of an earlier holder of its id is open any more.
fn connect<P>(spec: &LoopSpec<P>) -> Result<(KafkaSource, KafkaSink), Fault> {
    let problems = topics::problems(&spec.plan)?;
    if !problems.is_empty() {
        // Topics may still be made: this is waited for, and said.
        return Err(Fault::Unknown(problems.join("; ")));
    }
    let sink = KafkaSink::new(spec.sink.clone())?;
    let limits = &spec.plan.limits;
    let headers = HeaderLimits { count: limits.max_headers, bytes: limits.max_header_bytes };
    let batch = BatchLimits { records: limits.batch_records, bytes: limits.batch_bytes, headers };
    let source = KafkaSource::new(&spec.source.properties, spec.source.topics.clone(), spec.source.start, batch)?;
    Ok((source, sink))
}

/// Sleeps, but not through a stop.
fn wait(time: Duration, stop: &Stop) {
    let slice = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() && !stop.is_set() {
        std::thread::sleep(slice.min(left));
        left = left.saturating_sub(slice);
    }
}
