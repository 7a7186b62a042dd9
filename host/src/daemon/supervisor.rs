//! Starts loops, starts them again after what passes, and stops them.

use std::any::Any;
use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::loop_spec::LoopSpec;
use crate::kafka::{KafkaSink, KafkaSource, group_offsets, members};
use crate::stream::backoff::Backoff;
use crate::stream::clock::SystemClock;
use crate::stream::fault::Fault;
use crate::stream::process::Process;
use crate::stream::report::WorkerState;
use crate::stream::stop::{self, Stop};
use crate::stream::transaction::Deployed;
use crate::stream::worker::Worker;

/// Between two attempts to start a worker.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
/// The same where a right, an account or another application is in the way: people are slower than brokers.
const DENIED: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// What ran for longer was not kept out: when it is, that begins anew.
const LASTED: Duration = Duration::from_secs(60);

/// How many loops run, and whether one failed for good.
#[derive(Clone, Default)]
struct Loops(Arc<Mutex<LoopCount>>);

#[derive(Default)]
struct LoopCount {
    running: usize,
    failed: bool,
}

impl Loops {
    fn begin(&self) -> Counted {
        self.lock().running += 1;
        Counted { loops: self.clone(), failed: true }
    }

    fn have_failed(&self) -> bool {
        let count = self.lock();
        count.running == 0 && count.failed
    }

    fn lock(&self) -> MutexGuard<'_, LoopCount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running loop. Unless it says that it ended well it has failed, as by a panic.
struct Counted {
    loops: Loops,
    failed: bool,
}

impl Counted {
    fn ended(mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = self.loops.lock();
        count.running -= 1;
        count.failed |= self.failed;
    }
}

/// A daemon's threads.
#[derive(Default)]
pub struct Supervisor {
    stop: Stop,
    loops: Loops,
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
        let counted = self.loops.begin();
        self.keep(thread.spawn(move || run(spec, counted))?);
        Ok(())
    }

    /// As `start`, for a loop that keeps no daemon alive of which nothing else runs.
    ///
    /// # Errors
    /// As `start`'s.
    pub fn start_beside<P: Process>(&self, spec: LoopSpec<P>) -> Result<()> {
        let thread = std::thread::Builder::new().name(spec.name.clone());
        let counted = Loops::default().begin();
        self.keep(thread.spawn(move || run(spec, counted))?);
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

    /// Whether a loop failed for good and no other runs.
    pub fn has_failed(&self) -> bool {
        self.loops.have_failed()
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

/// One loop from its start to its end, which everybody is told of who reads its report or waits for it, also when it is a panic.
fn run<P: Process>(mut spec: LoopSpec<P>, counted: Counted) {
    let (name, handles, is_awaited) = (spec.name.clone(), spec.handles.clone(), spec.ends_when_denied);
    let ended = std::mem::replace(&mut spec.ended, Box::new(|_| {}));
    // What it shares is published whole, so a panic leaves none of it in halves.
    let fault = catch_unwind(AssertUnwindSafe(|| supervise(spec))).unwrap_or_else(|panic| {
        let why = panicked(&*panic);
        tracing::error!(worker = name, why, "the worker stops");
        handles.hold.runs(handles.worker, None);
        handles.report.amend(|report| {
            report.state = WorkerState::Failed;
            report.partitions.clear();
            report.last_error = Some(why.clone());
        });
        Some(Fault::Configuration(why))
    });
    ended(fault.as_ref());
    // Who waits for it is told; the daemon has not failed with a replay that another took over.
    counted.ended(fault.is_some() && !is_awaited);
}

/// What a panic is called where only its thread's name would tell it from others.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "it panicked, which is a mistake of Sandpiper's own ({}); the log says where; start the daemon anew",
        said.unwrap_or("it does not say why")
    )
}

/// Keeps one worker running: connects, runs, and after a fault that the worker cannot mend tries again, unless only
/// a person can help. Answers the fault that ended it; none where it was told to stop.
fn supervise<P: Process>(mut spec: LoopSpec<P>) -> Option<Fault> {
    let (mut backoff, mut denied) = (BACKOFF, DENIED);
    let mut last = None;
    while !spec.handles.stop.is_set() {
        // Health looks at how long ago that was.
        spec.handles.report.amend(|_| {});
        // Deployed while nothing ran here.
        spec.handles.slot.exchange(|next| spec.process.exchange(next));
        let began = Instant::now();
        let fault = match connect(&spec, matches!(last, Some(Fault::Denied(_)))) {
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
        let is_denied = matches!(fault, Fault::Denied(_));
        let is_misconfigured = matches!(fault, Fault::Configuration(_)) && !spec.persists;
        let is_final = is_misconfigured || (is_denied && spec.ends_when_denied);
        spec.handles.hold.runs(spec.handles.worker, None);
        spec.handles.report.amend(|report| {
            report.state = if is_final { WorkerState::Failed } else { WorkerState::Starting };
            report.revision = spec.process.revision();
            report.partitions.clear();
            report.last_error = Some(fault.to_string());
        });
        if is_final {
            tracing::error!(worker = spec.name, %fault, "the worker stops; mend the cause and start the daemon anew");
        } else {
            tracing::warn!(worker = spec.name, %fault, "the worker cannot run; trying again");
        }
        if is_final {
            return Some(fault);
        }
        last = Some(fault);
        if !is_denied || began.elapsed() >= LASTED {
            denied.reset();
        }
        let time = if is_denied { denied.failed() } else { backoff.failed() };
        stop::wait(time, || spec.handles.stop.is_set() || spec.handles.slot.is_waiting());
    }
    None
}

/// Producer first: when it is there, no transaction of an earlier holder of its id is open any more.
fn connect<P: Process>(spec: &LoopSpec<P>, stays_out: bool) -> Result<(KafkaSource, KafkaSink), Fault> {
    if let Some(why) = spec.handles.hold.stays_out() {
        return Err(Fault::Denied(why.to_string()));
    }
    let problems = (spec.lacks)()?;
    if !problems.is_empty() {
        // Topics may still be made: this is waited for, and said.
        return Err(Fault::Unknown(problems.join("; ")));
    }
    fit_into_group(spec, stays_out)?;
    let sink = KafkaSink::new(spec.sink.clone())?;
    let source = KafkaSource::new(&spec.source.properties, spec.source.topics.clone(), spec.source.start, spec.batch)?;
    Ok((source, sink))
}

/// Compares what is to run with what the group has committed by, which is further where this daemon lost its state or came
/// late. The same releases take the group's number. Others go above it where nobody in the group can have them; else their
/// partitions wait, and a worker that has waited in vain stays out. One whose own number stands for something else there stays
/// out at once: on a partition that nothing was processed of yet it would not notice.
fn fit_into_group<P: Process>(spec: &LoopSpec<P>, stays_out: bool) -> Result<(), Fault> {
    let Some(ours) = spec.process.deployed() else { return Ok(()) };
    let consumer = &spec.source.properties;
    let newest = group_offsets::newest(consumer, &spec.source.topics)?;
    let Some(theirs) = newest.first() else { return Ok(()) };
    match Standing::of(ours, &newest) {
        Standing::Current => Ok(()),
        Standing::Renumbered => {
            spec.handles.hold.adopt(Deployed { releases: ours.releases, ..*theirs });
            Ok(())
        }
        standing @ (Standing::Tied | Standing::Behind) => {
            let others = members::others(consumer)?;
            if others.is_empty() {
                spec.handles.hold.outrun(*theirs);
            } else if stays_out || standing == Standing::Tied {
                let which = if standing == Standing::Tied { "of the same number" } else { "which is newer" };
                return Err(Fault::Denied(format!(
                    "the group has processed records by revision {}, {which}, which runs something else than this daemon, \
                     and {others} may have it: deploy the same here, or stop them",
                    theirs.revision
                )));
            }
            Ok(())
        }
    }
}

/// A deployment beside the newest that its group has committed by, which are several where one number stands for different
/// releases.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    /// Nothing is to be done.
    Current,
    /// The group runs the same under a higher number.
    Renumbered,
    /// Two different ones have one number.
    Tied,
    /// The group was further.
    Behind,
}

impl Standing {
    fn of(ours: Deployed, newest: &[Deployed]) -> Self {
        let Some(theirs) = newest.first() else { return Self::Current };
        let is_ours = |theirs: &Deployed| theirs.releases.is_none() || ours.runs_the_same(theirs);
        match ours.revision.cmp(&theirs.revision) {
            Ordering::Less if newest.iter().any(|theirs| ours.runs_the_same(theirs)) && newest.iter().all(is_ours) => {
                Self::Renumbered
            }
            Ordering::Less => Self::Behind,
            Ordering::Equal if newest.iter().any(|theirs| ours.is_tied_with(theirs)) => Self::Tied,
            Ordering::Equal | Ordering::Greater => Self::Current,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::loop_spec::{SourceSettings, lacks};
    use super::*;
    use crate::config::plan::Start;
    use crate::control::staging::sink_topics;
    use crate::kafka::sink::{Holder, PartitionCounts, SinkSettings};
    use crate::record::output::Outputs;
    use crate::record::{Batch, Revision, Topics};
    use crate::stream::hold::{Hold, WorkerEvent};
    use crate::stream::process::Forced;
    use crate::stream::report::Publisher;
    use crate::stream::slot::Slot;
    use crate::stream::worker::Handles;
    use sandpiper_sandbox::Digest;

    fn deployed(number: u64, runs: Option<&str>) -> Deployed {
        Deployed { revision: Revision::new(number).unwrap(), releases: runs.map(|runs| Digest::of(runs.as_bytes())) }
    }

    #[test]
    fn a_daemon_that_comes_late_knows_its_own_releases_by_their_digest() {
        let ours = deployed(1, Some("a"));
        for (theirs, standing) in [
            (deployed(1, Some("a")), Standing::Current),
            (deployed(1, None), Standing::Current),
            (deployed(2, Some("a")), Standing::Renumbered),
            (deployed(1, Some("b")), Standing::Tied),
            (deployed(2, Some("b")), Standing::Behind),
            (deployed(2, None), Standing::Behind),
        ] {
            assert_eq!(Standing::of(ours, &[theirs]), standing, "{theirs:?}");
        }
        assert_eq!(Standing::of(deployed(3, Some("a")), &[deployed(2, Some("b"))]), Standing::Current);
        assert_eq!(Standing::of(ours, &[]), Standing::Current);
    }

    #[test]
    fn where_one_number_stands_for_several_it_is_nobodys() {
        for (number, standing) in [(1, Standing::Tied), (2, Standing::Behind)] {
            for (one, other) in [("a", "b"), ("b", "a")] {
                let newest = [deployed(number, Some(one)), deployed(number, Some(other))];
                assert_eq!(Standing::of(deployed(1, Some("a")), &newest), standing, "{newest:?}");
            }
        }
        let some_unknown = [deployed(2, None), deployed(2, Some("a"))];
        assert_eq!(Standing::of(deployed(1, Some("a")), &some_unknown), Standing::Renumbered);
    }

    /// A process with a mistake that is met as soon as anything goes wrong.
    struct Mistaken;

    impl Process for Mistaken {
        type Next = Self;

        fn exchange(&mut self, next: Self) -> Self {
            std::mem::replace(self, next)
        }

        fn process(&mut self, _: &Batch, _: &Forced, _: i64, _: &mut Outputs) {}

        fn revision(&self) -> Option<Revision> {
            panic!("a mistake of ours")
        }
    }

    #[test]
    fn a_loop_that_panics_has_failed_says_so_and_tells_whoever_waits_for_it() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.toml");
        let mut plan = crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap();
        // Refused before a broker is looked for.
        plan.kafka.0.insert("no.such.property".into(), "1".into());
        let supervisor = Supervisor::default();
        let (tell, events) = mpsc::channel();
        let (tell_end, end) = mpsc::channel();
        let handles = Handles {
            worker: 0,
            slot: Arc::new(Slot::new().unwrap()),
            stop: supervisor.stop_of_one(),
            hold: Arc::new(Hold::new(false, move |event| drop(tell.send(event)))),
            report: Publisher::default(),
        };
        let report = handles.report.clone();
        let topics = Topics::new(&plan.input.topics);
        let properties = plan.kafka.clone();
        let spec = LoopSpec {
            name: "iris/0".into(),
            source: SourceSettings { properties: properties.clone(), topics: topics.clone(), start: Start::Earliest },
            sink: SinkSettings {
                properties,
                transactional_id: None,
                holder: Holder::Worker,
                topics: sink_topics(&plan),
                inputs: topics,
                group: "iris".into(),
                counts: PartitionCounts::default(),
            },
            bounds: (&plan).into(),
            batch: (&plan.limits).into(),
            lacks: lacks(&Arc::new(plan)),
            process: Mistaken,
            handles,
            ends_when_denied: false,
            persists: false,
            ended: Box::new(move |fault| drop(tell_end.send(fault.map(ToString::to_string)))),
        };
        supervisor.start(spec).unwrap();
        let why = end.recv().unwrap().unwrap();
        supervisor.join();
        let report = report.latest();
        assert_eq!((report.state, report.last_error.as_deref()), (WorkerState::Failed, Some(&*why)));
        assert!(why.contains("panicked") && why.contains("a mistake of ours"), "{why}");
        assert!(events.into_iter().all(|event| event == WorkerEvent::Runs { worker: 0, revision: None }));
        assert!(supervisor.has_failed());
    }

    #[test]
    fn what_failed_is_seen_once_nothing_else_runs() {
        let loops = Loops::default();
        let (one, other) = (loops.begin(), loops.begin());
        one.ended(true);
        assert!(!loops.have_failed(), "another runs on");
        other.ended(false);
        assert!(loops.have_failed());
        let later = loops.begin();
        assert!(!loops.have_failed());
        later.ended(false);
        assert!(loops.have_failed());
    }

    #[test]
    fn loops_that_were_stopped_have_not_failed_and_one_that_panicked_has() {
        let loops = Loops::default();
        assert!(!loops.have_failed());
        loops.begin().ended(false);
        assert!(!loops.have_failed());
        let of_thread = loops.clone();
        let thread = std::thread::spawn(move || {
            let _counted = of_thread.begin();
            panic!("a mistake of ours");
        });
        assert!(thread.join().is_err() && loops.have_failed());
    }
}
