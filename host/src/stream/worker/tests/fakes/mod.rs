//! A broker in memory, and a source, a sink and a clock on it: a test tells a worker's story step by step.
//!
//! The fakes are as strict as Kafka is. Outputs and offsets of a transaction become visible together or never; until
//! an unknown outcome is resolved the committed offsets are the old ones; a partition that is not assigned cannot be
//! sought; time stands still unless somebody waits for it.

mod broker;
mod journal;
mod memory;
mod sink;
mod source;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use broker::{Broker, Input, Open};
pub use broker::{Ending, Refusal, Written};
use journal::names;
pub use journal::{HandClock, Journal};
pub use memory::Rememberer;
use sink::Ledger;
use source::Scripted;

use super::super::{Handles, Step, Worker};
use super::above::pipeline::Pipeline;
use super::above::pipeline::fakes::{self, revision};
use crate::record::output::Outputs;
use crate::record::{Batch, Origin, Revision, Route, TopicIndex, Topics};
use crate::stream::fault::Fault;
use crate::stream::hold::{Hold, WorkerEvent};
use crate::stream::pause::Pause;
use crate::stream::process::{Forced, Process};
use crate::stream::report::{Publisher, WorkerReport};
use crate::stream::slot::Slot;
use crate::stream::source::{Event, TopicPartition};
use crate::stream::stop::Stop;
use crate::stream::transaction::Bounds;

/// Of the input topic `in`.
pub fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicIndex::FIRST, partition }
}

/// A record of the input topic `in`.
pub fn at(partition: i32, offset: i64) -> Origin {
    Origin { topic: TopicIndex::FIRST, partition, offset }
}

/// A process that only says what it is told, into the journal.
pub struct Diary {
    pub revision: Revision,
    pub journal: Journal,
    inner: Pipeline,
}

impl Diary {
    pub fn new(number: u64, journal: &Journal) -> Self {
        Self { revision: revision(number), journal: journal.clone(), inner: fakes::passing(number) }
    }
}

impl Process for Diary {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        self.journal.write(format!("process {}", batch.len()));
        self.inner.process(batch, forced, now, outputs);
    }

    fn committed(&mut self) {
        self.journal.write("effects applied");
    }

    fn aborted(&mut self) {
        self.journal.write("effects discarded");
    }

    fn unassigned(&mut self, partitions: &[TopicPartition]) {
        self.journal.write(format!("forget{}", names(partitions)));
    }

    fn revision(&self) -> Option<Revision> {
        Some(self.revision)
    }
}

/// One worker and the broker that it works on.
pub struct World<P: Process> {
    pub broker: Rc<RefCell<Broker>>,
    pub clock: HandClock,
    pub journal: Journal,
    pub worker: Worker<(Scripted, Ledger, HandClock, P)>,
    pub hold: Arc<Hold>,
    worker_events: mpsc::Receiver<WorkerEvent>,
    slot: Arc<Slot<P::Next>>,
    stop: Stop,
    report: Publisher,
}

/// Wide enough that only the interval closes a transaction.
pub const BOUNDS: Bounds = Bounds {
    interval: Duration::from_millis(100),
    records: 50_000,
    bytes: 16 << 20,
    budget: Duration::from_secs(3),
    pause_above: 1.0,
};

/// A world whose pipeline passes records on, at revision 7.
pub fn world() -> World<Pipeline> {
    World::of(fakes::passing(7), Journal::default(), BOUNDS)
}

/// A world whose process writes down what it is told, at revision 7.
pub fn diary() -> World<Diary> {
    let journal = Journal::default();
    World::of(Diary::new(7, &journal), journal, BOUNDS)
}

/// A world whose process remembers that many entries of each partition, at revision 7.
pub fn remembering<const N: usize>(entries: [(i32, u64); N]) -> World<Rememberer> {
    let journal = Journal::default();
    World::of(Rememberer::new(7, entries.into(), &journal), journal, BOUNDS)
}

impl<P: Process> World<P> {
    pub fn of(process: P, journal: Journal, bounds: Bounds) -> Self {
        let topics = Topics::new(["in", "labels"]);
        let broker = Rc::new(RefCell::new(Broker::default()));
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = HandClock { now, journal: journal.clone(), sleeps: Arc::default() };
        let (slot, stop, report) = (Arc::new(Slot::new().unwrap()), Stop::default(), Publisher::default());
        let source = Scripted {
            broker: broker.clone(),
            journal: journal.clone(),
            topics: topics.clone(),
            events: VecDeque::new(),
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            stalled: BTreeSet::new(),
            batch: 1_024,
            stop: stop.clone(),
            stops_when_idle: false,
        };
        let sink = Ledger { broker: broker.clone(), journal: journal.clone(), transactional: true, rests_until: None };
        let (send, events) = mpsc::channel();
        let hold = Arc::new(Hold::new(false, move |event| drop(send.send(event))));
        let handles =
            Handles { worker: 0, slot: slot.clone(), stop: stop.clone(), hold: hold.clone(), report: report.clone() };
        let worker = Worker::new(source, sink, clock.clone(), process, handles, bounds, topics);
        Self { broker, clock, journal, worker, hold, worker_events: events, slot, stop, report }
    }

    pub fn at_least_once(mut self) -> Self {
        self.worker.sink.transactional = false;
        self
    }

    /// Batches of at most that many records.
    pub fn in_batches_of(mut self, records: usize) -> Self {
        self.worker.source.batch = records;
        self
    }

    // What happens around the worker.

    /// Appends records whose values are their offsets.
    pub fn records(&mut self, of: i32, offsets: Range<i64>) {
        assert_eq!(self.broker.borrow().end(partition(of)), offsets.start);
        for offset in offsets {
            self.record(partition(of), None, &offset.to_string());
        }
    }

    pub fn record(&mut self, partition: TopicPartition, key: Option<&str>, value: &str) {
        let record = Input { key: key.map(Into::into), value: Some(value.into()) };
        self.broker.borrow_mut().inputs.entry(partition).or_default().push(record);
    }

    /// Deletes the records before that offset.
    pub fn delete_before(&mut self, of: i32, offset: i64) {
        self.broker.borrow_mut().first.insert(partition(of), offset);
    }

    /// Another owner committed that.
    pub fn committed_by_another(&mut self, of: i32, offset: i64, metadata: &str) {
        self.broker.borrow_mut().committed.insert(partition(of), (offset, metadata.into()));
    }

    pub fn refuses(&mut self, origin: Origin, refusal: Refusal) {
        self.broker.borrow_mut().refused.insert(origin, refusal);
    }

    pub fn next_commit_ends(&mut self, ending: Ending) {
        self.broker.borrow_mut().ending = Some(ending);
    }

    /// The next such call fails: `next`, `assign`, `unassign`, `seek`, `committed`, `start_of`, `offsets`, `check`,
    /// `begin`, `send`, `commit`, `abort` or `recover`.
    pub fn fails(&mut self, call: &'static str, fault: Fault) {
        self.broker.borrow_mut().faults.entry(call).or_default().push_back(fault);
    }

    /// Another producer with our id begins; what ours had open is aborted.
    pub fn fenced(&mut self) {
        let mut broker = self.broker.borrow_mut();
        broker.fenced = true;
        broker.open = Open::No;
    }

    pub fn sink_rests_until(&mut self, at: Instant) {
        self.worker.sink.rests_until = Some(at);
    }

    pub fn offer(&mut self, next: P::Next) {
        self.slot.put(next);
    }

    pub fn told_to_stop(&mut self) {
        self.stop.set();
    }

    pub fn told_to_stop_when_idle(&mut self) {
        self.worker.source.stops_when_idle = true;
    }

    // What the worker does. Every event is one step.

    pub fn assign(&mut self, of: i32) {
        self.assign_all(&[partition(of)]);
    }

    pub fn assign_all(&mut self, partitions: &[TopicPartition]) {
        self.event(Event::Assigned(partitions.to_vec()));
    }

    pub fn revoke(&mut self, of: i32) {
        self.event(Event::Revoked { partitions: vec![partition(of)], lost: false });
    }

    pub fn lose(&mut self, of: i32) {
        self.event(Event::Revoked { partitions: vec![partition(of)], lost: true });
    }

    pub fn event(&mut self, event: Event) {
        self.worker.source.queue(event);
        self.step();
    }

    /// One turn of `Worker::run`.
    pub fn try_step(&mut self) -> Result<Step, Fault> {
        self.worker.step().or_else(|fault| self.worker.recover(fault).map(|()| Step::Continue))
    }

    pub fn step(&mut self) -> Step {
        self.try_step().unwrap()
    }

    /// The open transaction's interval passes.
    pub fn interval(&mut self) {
        self.clock.advance(self.worker.bounds.interval);
        self.step();
    }

    /// Until everything is read and committed.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            self.interval();
            let read = self.worker.source.positions.iter().all(|(partition, position)| {
                self.worker.source.paused.contains(partition) || *position >= self.broker.borrow().end(*partition)
            });
            if read
                && !self.worker.transactions.is_open()
                && !self.worker.partitions.is_any_pending()
                && !self.worker.partitions.is_any_restoring()
            {
                return;
            }
        }
        panic!("the worker does not come to rest: {:?}", self.journal.lines());
    }

    /// Reads and commits until only a person can help.
    pub fn until_it_stops(&mut self) -> Fault {
        for _ in 0..100 {
            self.clock.advance(self.worker.bounds.interval);
            if let Err(fault) = self.try_step() {
                return fault;
            }
        }
        panic!("the worker does not stop: {:?}", self.journal.lines());
    }

    /// What a worker has reported is decided, and all go on.
    pub fn release(&self) {
        self.hold.decided();
        self.hold.set(false);
    }

    // What can be seen.

    /// What was asked of source and sink since this was last asked.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.journal.lines())
    }

    /// What the worker reported since this was last asked, besides what it runs.
    pub fn events(&self) -> Vec<WorkerEvent> {
        self.worker_events.try_iter().filter(|event| !matches!(event, WorkerEvent::Runs { .. })).collect()
    }

    /// The pause that the worker has asked for since this was last asked.
    pub fn paused(&self) -> Option<Pause> {
        self.events().into_iter().find_map(|event| match event {
            WorkerEvent::Paused(pause) => Some(pause),
            _ => None,
        })
    }

    pub fn report(&self) -> Arc<WorkerReport> {
        self.report.latest()
    }

    pub fn is_in_transaction(&self) -> bool {
        self.worker.transactions.is_open()
    }

    /// Offsets of a partition that a read_committed reader finds processed, in the order of the output.
    pub fn processed(&self, of: i32) -> Vec<i64> {
        let broker = self.broker.borrow();
        let ours =
            broker.visible.iter().filter(|written| written.route == Route::Output && written.origin.partition == of);
        ours.map(|written| written.origin.offset).collect()
    }

    pub fn visible(&self, route: Route) -> Vec<Written> {
        self.broker.borrow().visible.iter().filter(|written| written.route == route).cloned().collect()
    }

    /// The revision of each output of a partition, by its stamp.
    pub fn revisions(&self, of: i32) -> Vec<String> {
        let ours = self.visible(Route::Output).into_iter().filter(|written| written.origin.partition == of);
        ours.filter_map(|written| Some(written.header("sandpiper")?.split(' ').next()?.to_owned())).collect()
    }

    pub fn letters(&self) -> Vec<Written> {
        self.visible(Route::DeadLetters)
    }

    /// As the group has it: `3 r7`, or `3` without metadata.
    pub fn group_offset(&self, of: i32) -> Option<String> {
        self.broker
            .borrow()
            .committed
            .get(&partition(of))
            .map(|(offset, metadata)| format!("{offset} {metadata}").trim_end().to_owned())
    }

    /// The next offset to be read of an assigned partition.
    pub fn reads_at(&self, of: i32) -> Option<i64> {
        self.worker.source.positions.get(&partition(of)).copied()
    }

    pub fn is_paused(&self, of: i32) -> bool {
        self.worker.source.paused.contains(&partition(of))
    }
}
