//! A broker in memory, and a source, a sink and a clock on it: a test tells a worker's story step by step.
//!
//! The fakes are as strict as Kafka is. Outputs and offsets of a transaction become visible together or never; until
//! an unknown outcome is resolved the committed offsets are the old ones; a partition that is not assigned cannot be
//! sought; time stands still unless somebody waits for it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use super::{Control, Step, Worker};
use crate::brake::{Brake, Word};
use crate::clock::Clock;
use crate::fault::{Fault, Refused};
use crate::output::Outputs;
use crate::pipeline::{DEAD_LETTERS, Forced, OUTPUT, Pipeline, fakes};
use crate::process::Process;
use crate::record::{Batch, BatchBuilder, Headers, Origin};
use crate::report::{Publisher, WorkerReport};
use crate::sink::Sink;
use crate::slot::Slot;
use crate::source::{Committed, Event, Position, Source, TopicPartition};
use crate::transaction::Bounds;

/// Of the input topic `in`.
pub fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: 0, partition }
}

/// A record of the input topic `in`.
pub fn at(partition: i32, offset: i64) -> Origin {
    Origin { topic: 0, partition, offset }
}

/// How far the broker's refusal of a record goes.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Refusal {
    /// What is made of it is refused, its dead letter is taken.
    Output,
    /// Its dead letter is taken only without its value.
    Letter,
    /// Not even that.
    Everything,
}

/// What the next commit comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// Nobody answers; whether it took effect shows when the transaction is resolved.
    Unknown { took_effect: bool },
    /// Refused, and the transaction can be aborted.
    Abortable,
}

/// What a read_committed reader finds in an output topic.
#[derive(Clone, Debug)]
pub struct Written {
    pub origin: Origin,
    pub topic: u16,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Written {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Of a dead letter.
    pub fn error(&self, name: &str) -> Option<&str> {
        self.header(&format!("{}{name}", crate::dead_letter::PREFIX))
    }
}

/// A record of an input topic.
#[derive(Clone)]
struct Input {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

type Offsets = BTreeMap<TopicPartition, (i64, String)>;

/// The producer's transaction, as its coordinator sees it.
#[derive(Default)]
enum Open {
    #[default]
    No,
    Yes(Vec<Written>),
    /// It was told to commit, and did or will do that; the producer does not know.
    InDoubt {
        outputs: Vec<Written>,
        offsets: Offsets,
        took_effect: bool,
    },
}

/// Logs, a group's offsets and one producer's transaction.
#[derive(Default)]
pub struct Broker {
    inputs: BTreeMap<TopicPartition, Vec<Input>>,
    /// Records before it are deleted.
    first: BTreeMap<TopicPartition, i64>,
    pub committed: Offsets,
    visible: Vec<Written>,
    open: Open,
    fenced: bool,
    refused: BTreeMap<Origin, Refusal>,
    /// Refusals come as delivery reports, at the commit.
    pub reports_late: bool,
    reported: Vec<Refused>,
    ending: Option<Ending>,
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    /// The group forgot this member.
    pub member_is_gone: bool,
    /// `start = "latest"`.
    pub start_latest: bool,
}

impl Broker {
    fn end(&self, partition: TopicPartition) -> i64 {
        self.inputs.get(&partition).map_or(0, |records| records.len() as i64)
    }

    /// The fault that was ordered for that call, once.
    fn ordered(&mut self, call: &'static str) -> Result<(), Fault> {
        self.faults.get_mut(call).and_then(VecDeque::pop_front).map_or(Ok(()), Err)
    }

    fn producer(&mut self, call: &'static str) -> Result<(), Fault> {
        if self.fenced {
            return Err(Fault::Unknown("the transactional id was taken over".into()));
        }
        self.ordered(call)
    }
}

/// What the worker asked for, in order; the process's effects between them.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }

    pub fn last(&self) -> Option<String> {
        self.lines().last().cloned()
    }

    pub fn write(&self, line: impl Into<String>) {
        self.lines().push(line.into());
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(|partition| format!(" {}", name(*partition))).collect()
}

fn spots(positions: &[Position]) -> String {
    positions.iter().map(|position| format!(" {}@{}", name(position.partition), position.offset)).collect()
}

/// The first topic needs no name: most tests have no other.
fn name(partition: TopicPartition) -> String {
    match partition.topic {
        0 => partition.partition.to_string(),
        topic => format!("{topic}/{}", partition.partition),
    }
}

/// Time that passes only when it is told to.
#[derive(Clone)]
pub struct HandClock {
    now: Arc<Mutex<Instant>>,
    journal: Journal,
    /// The worker's sleeps so far: none of the stories needs many.
    sleeps: Arc<Mutex<usize>>,
}

impl HandClock {
    pub fn advance(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn unix_ms(&self) -> i64 {
        1_000
    }

    fn sleep(&self, time: Duration) {
        self.journal.write(format!("sleep {}", time.as_millis()));
        self.advance(time);
        let mut sleeps = self.sleeps.lock().unwrap();
        *sleeps += 1;
        assert!(*sleeps < 100, "the worker tries again and again: {:?}", self.journal.lines());
    }
}

/// A group's member: scripted events first, then the records behind its positions.
pub struct Scripted {
    broker: Rc<RefCell<Broker>>,
    journal: Journal,
    topics: Arc<[String]>,
    events: VecDeque<Event>,
    positions: BTreeMap<TopicPartition, i64>,
    paused: BTreeSet<TopicPartition>,
    /// Told to be out of range; nothing comes before a seek.
    stalled: BTreeSet<TopicPartition>,
    /// Records in a batch, at most.
    batch: usize,
    stop: Arc<AtomicBool>,
    /// Tells the worker to stop when nothing is left to be read.
    stops_when_idle: bool,
}

impl Scripted {
    /// Comes before any record.
    pub fn queue(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub fn batch(&mut self, records: usize) {
        self.batch = records;
    }

    fn read(&mut self) -> Option<Event> {
        let broker = self.broker.borrow();
        let mut batch = BatchBuilder::new(self.topics.clone());
        for (partition, position) in &mut self.positions {
            if self.paused.contains(partition) || self.stalled.contains(partition) {
                continue;
            }
            if *position < broker.first.get(partition).copied().unwrap_or_default() {
                self.stalled.insert(*partition);
                return Some(Event::OutOfRange(*partition));
            }
            let log = broker.inputs.get(partition).map(Vec::as_slice).unwrap_or_default();
            for record in log.iter().skip(*position as usize) {
                if batch.len() == self.batch {
                    break;
                }
                let origin = Origin { topic: partition.topic, partition: partition.partition, offset: *position };
                batch.push(origin, Some(*position), record.key.as_deref(), record.value.as_deref(), None);
                *position += 1;
            }
        }
        if batch.is_empty() { None } else { Some(Event::Batch(batch.finish())) }
    }
}

impl Source for Scripted {
    type Group = ();

    fn next(&mut self, _wait: Duration) -> Result<Event, Fault> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        self.broker.borrow_mut().ordered("next")?;
        let event = self.read();
        if event.is_none() && self.stops_when_idle {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(event.unwrap_or(Event::Idle))
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), Fault> {
        self.journal.write(format!("assign{}", spots(positions)));
        self.broker.borrow_mut().ordered("assign")?;
        for position in positions {
            self.positions.insert(position.partition, position.offset);
            self.paused.remove(&position.partition);
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("unassign{}", names(partitions)));
        self.broker.borrow_mut().ordered("unassign")?;
        for partition in partitions {
            self.positions.remove(partition);
            self.stalled.remove(partition);
        }
        Ok(())
    }

    fn seek(&mut self, positions: &[Position]) -> Result<(), Fault> {
        self.journal.write(format!("seek{}", spots(positions)));
        self.broker.borrow_mut().ordered("seek")?;
        for sought in positions {
            let Some(position) = self.positions.get_mut(&sought.partition) else {
                return Err(Fault::Unknown(format!("{} is not assigned and cannot be sought", name(sought.partition))));
            };
            *position = sought.offset;
            self.stalled.remove(&sought.partition);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("pause{}", names(partitions)));
        self.paused.extend(partitions);
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("resume{}", names(partitions)));
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Fault> {
        self.journal.write(format!("committed?{}", names(partitions)));
        let mut broker = self.broker.borrow_mut();
        broker.ordered("committed")?;
        let read = |partition: &TopicPartition| match broker.committed.get(partition) {
            Some((offset, metadata)) => {
                Committed { partition: *partition, offset: Some(*offset), metadata: metadata.clone() }
            }
            None => Committed { partition: *partition, offset: None, metadata: String::new() },
        };
        Ok(partitions.iter().map(read).collect())
    }

    fn start_of(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Position>, Fault> {
        let mut broker = self.broker.borrow_mut();
        broker.ordered("start_of")?;
        let first = |partition: &TopicPartition| broker.first.get(partition).copied().unwrap_or_default();
        let start =
            |partition: &TopicPartition| if broker.start_latest { broker.end(*partition) } else { first(partition) };
        Ok(partitions.iter().map(|partition| Position { partition: *partition, offset: start(partition) }).collect())
    }

    fn commit(&mut self, positions: &[Position], metadata: &str) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        self.journal.write(format!("offsets{} {metadata}", spots(positions)));
        let mut broker = self.broker.borrow_mut();
        broker.ordered("offsets")?;
        broker
            .committed
            .extend(positions.iter().map(|position| (position.partition, (position.offset, metadata.to_owned()))));
        Ok(())
    }

    fn group(&mut self) -> Result<(), Fault> {
        match self.broker.borrow().member_is_gone {
            true => Err(Fault::Abortable("this member is not in the group at the moment".into())),
            false => Ok(()),
        }
    }

    fn end(&self, partition: TopicPartition) -> Option<i64> {
        Some(self.broker.borrow().end(partition))
    }

    fn close(&mut self) {
        self.journal.write("close");
        self.positions.clear();
    }
}

/// A producer, and all that its topics' readers find.
pub struct Ledger {
    broker: Rc<RefCell<Broker>>,
    journal: Journal,
    transactional: bool,
    rests_until: Option<Instant>,
}

impl Sink for Ledger {
    type Group = ();

    fn is_transactional(&self) -> bool {
        self.transactional
    }

    fn check(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("check{}", names(partitions)));
        self.broker.borrow_mut().ordered("check")
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.journal.write("begin");
        let mut broker = self.broker.borrow_mut();
        broker.producer("begin")?;
        assert!(matches!(broker.open, Open::No), "a transaction was begun within another: {:?}", self.journal.lines());
        broker.open = Open::Yes(Vec::new());
        Ok(())
    }

    fn rested(&self) -> Option<Instant> {
        self.rests_until
    }

    fn send(&mut self, outputs: &mut Outputs, _deadline: Instant) -> Result<(), Fault> {
        self.journal.write(format!("send {}", outputs.records.len()));
        let mut broker = self.broker.borrow_mut();
        broker.producer("send")?;
        let mut refused = Vec::new();
        let mut written = Vec::new();
        for output in &outputs.records {
            let form = match (output.topic, output.last_resort) {
                (DEAD_LETTERS, true) => Refusal::Everything,
                (DEAD_LETTERS, false) => Refusal::Letter,
                _ => Refusal::Output,
            };
            if broker.refused.get(&output.origin).is_some_and(|refusal| form <= *refusal) {
                let message = "it is too large".to_owned();
                refused.push(Refused { origin: output.origin, message, last_resort: output.last_resort });
            } else {
                let bytes = |span| outputs.bytes(span).to_vec();
                let headers = output.headers.as_deref().cloned().unwrap_or_default();
                written.push(Written {
                    origin: output.origin,
                    topic: output.topic,
                    value: output.value.map(bytes),
                    headers,
                });
            }
        }
        if self.transactional {
            let Open::Yes(staged) = &mut broker.open else {
                panic!("sent outside of a transaction: {:?}", self.journal.lines())
            };
            staged.extend(written);
        } else {
            broker.visible.extend(written);
        }
        match (refused.is_empty(), broker.reports_late) {
            (true, _) => Ok(()),
            (false, true) => {
                broker.reported.extend(refused);
                Ok(())
            }
            (false, false) => Err(Fault::Refused(refused)),
        }
    }

    fn commit(&mut self, positions: &[Position], metadata: &str, _group: (), _deadline: Instant) -> Result<(), Fault> {
        self.journal.write(format!("commit{} {metadata}", spots(positions)));
        let mut broker = self.broker.borrow_mut();
        broker.producer("commit")?;
        let reported = std::mem::take(&mut broker.reported);
        if !reported.is_empty() {
            return Err(Fault::Refused(reported));
        }
        let ending = broker.ending.take();
        if ending == Some(Ending::Abortable) {
            return Err(Fault::Abortable("the group is in a rebalance".into()));
        }
        let Open::Yes(outputs) = std::mem::take(&mut broker.open) else {
            panic!("committed outside of a transaction: {:?}", self.journal.lines())
        };
        if !self.transactional {
            return Ok(());
        }
        let offsets: Offsets =
            positions.iter().map(|position| (position.partition, (position.offset, metadata.to_owned()))).collect();
        if let Some(Ending::Unknown { took_effect }) = ending {
            broker.open = Open::InDoubt { outputs, offsets, took_effect };
            return Err(Fault::Unknown("the commit did not come to an end in time".into()));
        }
        broker.visible.extend(outputs);
        broker.committed.extend(offsets);
        Ok(())
    }

    fn abort(&mut self, _deadline: Instant) -> Result<(), Fault> {
        self.journal.write("abort");
        let mut broker = self.broker.borrow_mut();
        broker.producer("abort")?;
        match std::mem::take(&mut broker.open) {
            Open::No | Open::Yes(_) => {}
            Open::InDoubt { .. } => panic!("aborted what may have been committed: {:?}", self.journal.lines()),
        }
        broker.reported.clear();
        Ok(())
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.journal.write("recover");
        let mut broker = self.broker.borrow_mut();
        broker.ordered("recover")?;
        broker.fenced = false;
        broker.reported.clear();
        if let Open::InDoubt { outputs, offsets, took_effect: true } = std::mem::take(&mut broker.open) {
            broker.visible.extend(outputs);
            broker.committed.extend(offsets);
        }
        Ok(())
    }
}

/// A process that only says what it is told, into the journal.
pub struct Diary {
    pub revision: u64,
    pub journal: Journal,
    inner: Pipeline,
}

impl Diary {
    pub fn new(revision: u64, journal: &Journal) -> Self {
        Self { revision, journal: journal.clone(), inner: fakes::passing(revision) }
    }
}

impl Process for Diary {
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

    fn revision(&self) -> u64 {
        self.revision
    }
}

/// One worker and the broker that it works on.
pub struct World<P: Process> {
    pub broker: Rc<RefCell<Broker>>,
    pub clock: HandClock,
    pub journal: Journal,
    pub worker: Worker<Scripted, Ledger, HandClock, P>,
    pub brake: Arc<Brake>,
    words: mpsc::Receiver<Word>,
    slot: Arc<Slot<P>>,
    stop: Arc<AtomicBool>,
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

impl<P: Process> World<P> {
    pub fn of(process: P, journal: Journal, bounds: Bounds) -> Self {
        let topics: Arc<[String]> = Arc::new(["in".to_owned(), "labels".into()]);
        let broker = Rc::new(RefCell::new(Broker::default()));
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = HandClock { now, journal: journal.clone(), sleeps: Arc::default() };
        let (slot, stop, report) =
            (Arc::new(Slot::new().unwrap()), Arc::new(AtomicBool::new(false)), Publisher::default());
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
        let (brake, words) = Brake::new(None);
        let brake = Arc::new(brake);
        let control = Control { slot: slot.clone(), stop: stop.clone(), brake: brake.clone(), report: report.clone() };
        let worker = Worker::new(source, sink, clock.clone(), process, control, bounds, topics);
        Self { broker, clock, journal, worker, brake, words, slot, stop, report }
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

    pub fn offer(&mut self, next: P) {
        self.slot.put(next);
    }

    pub fn told_to_stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
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
            if read && self.worker.transaction.is_none() && self.worker.pending.is_empty() {
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

    // What can be seen.

    /// What was asked of source and sink since this was last asked.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.journal.lines())
    }

    /// What the worker told its controller since this was last asked.
    pub fn told(&self) -> Vec<Word> {
        self.words.try_iter().collect()
    }

    pub fn report(&self) -> Arc<WorkerReport> {
        self.report.latest()
    }

    pub fn is_in_transaction(&self) -> bool {
        self.worker.transaction.is_some()
    }

    /// Offsets of a partition that a read_committed reader finds processed, in the order of the output.
    pub fn processed(&self, of: i32) -> Vec<i64> {
        let broker = self.broker.borrow();
        let ours = broker.visible.iter().filter(|written| written.topic == OUTPUT && written.origin.partition == of);
        ours.map(|written| written.origin.offset).collect()
    }

    pub fn visible(&self, topic: u16) -> Vec<Written> {
        self.broker.borrow().visible.iter().filter(|written| written.topic == topic).cloned().collect()
    }

    /// The revision of each output of a partition, by its stamp.
    pub fn revisions(&self, of: i32) -> Vec<String> {
        let ours = self.visible(OUTPUT).into_iter().filter(|written| written.origin.partition == of);
        ours.filter_map(|written| Some(written.header("sandpiper")?.split(' ').next()?.to_owned())).collect()
    }

    pub fn letters(&self) -> Vec<Written> {
        self.visible(DEAD_LETTERS)
    }

    /// As the group has it: `3 r7`.
    pub fn group_offset(&self, of: i32) -> Option<String> {
        self.broker.borrow().committed.get(&partition(of)).map(|(offset, metadata)| format!("{offset} {metadata}"))
    }

    /// The next offset to be read of an assigned partition.
    pub fn reads_at(&self, of: i32) -> Option<i64> {
        self.worker.source.positions.get(&partition(of)).copied()
    }

    pub fn is_paused(&self, of: i32) -> bool {
        self.worker.source.paused.contains(&partition(of))
    }
}
