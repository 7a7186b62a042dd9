//! One daemon of the fleet: its control as it is, a worker that writes by what it runs, and its part in deciding.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandpiper_sandbox::Digest;

use super::cluster::{Cluster, Committed, Written};
use crate::control::command::{Action, By, Command, Refused};
use crate::control::deployment::Deployment;
use crate::control::history::History;
use crate::control::journal::kafka::commands;
use crate::control::journal::kafka::decider::{Decider, Past};
use crate::control::journal::kafka::link::Standing;
use crate::control::journal::kafka::records::{Changes, View, split};
use crate::control::journal::{Entry, Journal, Kept, Link, News, Sent};
use crate::control::opened::{Holds, Opened, Slots, Trust};
use crate::control::rollout::StepFigures;
use crate::control::runner::{Answer, Inbox, Machine, Observed, Runner};
use crate::kafka::reader::{Next, Progress, Record};
use crate::record::output::Outputs;
use crate::record::{BatchBuilder, Origin, Revision, TopicIndex, Topics};
use crate::stream::clock::Clock;
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Probation, Process as _};
use crate::stream::slot::Slot;
use crate::stream::source::TopicPartition;

pub const PIPELINE: &str = "iris";
/// Records by which a release passes its probation.
const PROBATION: u64 = 3;
const COMMANDS: TopicPartition = TopicPartition { topic: TopicIndex::FIRST, partition: 0 };

/// Time as the test has it pass, the same for all daemons.
#[derive(Clone)]
pub struct SharedClock {
    pub zero: Instant,
    pub passed: Arc<Mutex<Duration>>,
}

impl Clock for SharedClock {
    fn now(&self) -> Instant {
        self.zero + *self.passed.lock().unwrap()
    }

    fn unix_ms(&self) -> i64 {
        1_700_000_000_000 + self.passed.lock().unwrap().as_millis() as i64
    }

    fn sleep(&self, time: Duration) {
        *self.passed.lock().unwrap() += time;
    }
}

/// What a worker runs.
pub struct Runs {
    pub revision: Revision,
    pub digest: Digest,
    /// It fails on every record.
    fails: bool,
    probation: Probation,
    records: u64,
}

/// A state directory: it outlives its daemon.
#[derive(Default)]
pub struct Disk {
    kept: Mutex<Kept>,
    pub is_full: AtomicBool,
}

impl Journal for Disk {
    fn read(&self, _: &str) -> anyhow::Result<Kept> {
        Ok(self.kept.lock().unwrap().clone())
    }

    fn keep(&self, _: &str, entry: &Entry, history: &History) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_full.load(Ordering::Relaxed), "the disk is full");
        *self.kept.lock().unwrap() = Kept { history: history.clone(), last: Some(entry.command.id) };
        Ok(())
    }
}

struct Wire {
    name: String,
    cluster: Arc<Mutex<Cluster>>,
    standing: Arc<Standing>,
}

impl Link for Wire {
    fn send(&self, pipeline: &str, command: &Command, sent: Sent) {
        let written = commands::write(command).map_err(|refused| refused.to_string());
        sent(written.and_then(|value| self.cluster.lock().unwrap().ask(pipeline, value)));
    }

    fn share(&self, _: &str, _: Vec<Digest>) {}

    fn daemon(&self) -> &str {
        &self.name
    }

    fn decides_here(&self) -> bool {
        self.standing.decides_here()
    }
}

/// What the daemon's worker has come to.
#[derive(Clone, Default)]
struct Seen {
    owns: Arc<AtomicBool>,
    records: Arc<Mutex<BTreeMap<Revision, u64>>>,
}

impl Observed for Seen {
    fn measured(&self, revision: Revision) -> StepFigures {
        let records = self.records.lock().unwrap().get(&revision).copied().unwrap_or_default();
        StepFigures { records, ..StepFigures::default() }
    }

    fn owns_partitions(&self) -> bool {
        self.owns.load(Ordering::Relaxed)
    }
}

/// What stood in the deployments' topic when it was opened.
struct Log(VecDeque<(String, Option<Vec<u8>>)>, bool);

impl Past for Log {
    fn next(&mut self, _: Duration) -> Result<Next, Fault> {
        let Some((key, value)) = self.0.pop_front() else {
            return Ok(if std::mem::replace(&mut self.1, true) { Next::Idle } else { Next::End });
        };
        let key = Some(key.into_bytes());
        Ok(Next::Record(Record { partition: 0, offset: 0, timestamp: None, key, value, headers: Vec::new() }))
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }
}

/// Its part in the deciders' group.
struct Deciding {
    decider: Decider,
    generation: u64,
    is_restored: bool,
    /// What its open transaction writes, and the position behind it.
    open: Option<(Changes, usize)>,
}

type Stagings = Arc<Mutex<VecDeque<Box<dyn FnOnce() + Send>>>>;

pub struct Daemon {
    pub name: String,
    runner: Runner<Runs>,
    pub inbox: Inbox<Runs>,
    pub holds: Holds,
    slot: Arc<Slot<Runs>>,
    pub stagings: Stagings,
    tell: Box<dyn Fn(News) + Send>,
    standing: Arc<Standing>,
    seen: Seen,
    view: View,
    /// Transactions of the deployments' topic that it has read.
    pub read: usize,
    /// Whether it has told its control what it found at the topic's end.
    has_caught_up: bool,
    pub runs: Option<Runs>,
    told: Option<Option<Revision>>,
    /// The revision on which its worker stopped.
    failed: Option<Revision>,
    deciding: Option<Deciding>,
    /// What came of the file's wish.
    wish: Option<Receiver<Answer>>,
    has_wished: bool,
}

impl Daemon {
    pub fn start(name: &str, disk: Arc<Disk>, clock: &SharedClock, cluster: &Arc<Mutex<Cluster>>) -> Self {
        let standing = Arc::new(Standing::default());
        let link = Wire { name: name.to_owned(), cluster: cluster.clone(), standing: standing.clone() };
        let (slot, seen) = (Arc::new(Slot::new().unwrap()), Seen::default());
        let slots = Slots { workers: vec![slot.clone()], feedback: None };
        let full = disk.clone();
        let stage = move |deployment: &Deployment, trust: Trust| {
            let name = deployment.releases.classify.as_ref().map(|release| release.name.clone()).unwrap_or_default();
            anyhow::ensure!(!full.is_full.load(Ordering::Relaxed), "no space is left");
            anyhow::ensure!(!name.starts_with("unfit"), "a column is missing");
            let runs = Runs {
                revision: deployment.revision,
                digest: deployment.digest(),
                fails: name.starts_with("bad"),
                probation: trust.path,
                records: 0,
            };
            Ok(Opened { workers: vec![runs], scorer: None })
        };
        let stagings = Stagings::default();
        let later = stagings.clone();
        let spawn = move |_, work| {
            later.lock().unwrap().push_back(work);
            Ok(())
        };
        let machine = Machine { clock: Box::new(clock.clone()), spawn: Box::new(spawn) };
        let (runner, inbox, holds) = Runner::new(
            PIPELINE,
            false,
            disk.clone(),
            Some(Arc::new(link)),
            Arc::new(stage),
            Box::new(seen.clone()),
            slots,
        )
        .unwrap();
        Self {
            name: name.to_owned(),
            runner: runner.on(machine),
            tell: inbox.news(),
            inbox,
            holds,
            slot,
            stagings,
            standing,
            seen,
            view: View::default(),
            read: 0,
            has_caught_up: false,
            runs: None,
            told: None,
            failed: None,
            deciding: None,
            wish: None,
            has_wished: false,
        }
    }

    /// Its control does all that waits. It asks for what its file says as soon as it knows what the others have decided.
    pub fn turn(&mut self, file: impl Fn() -> Action) {
        self.runner.turn();
        match &self.wish {
            None if self.has_caught_up && !self.has_wished => self.wish = self.inbox.asked(None, None, file()).ok(),
            Some(answer) => match answer.try_recv() {
                // Whoever asked for the same may come to nothing: then it is this one's turn.
                Ok(_) if self.inbox.snapshot().history.current().is_none() => self.wish = None,
                Ok(_) => (self.has_wished, self.wish) = (true, None),
                Err(_) => {}
            },
            None => {}
        }
    }

    /// Hears of the next transaction of the deployments' topic, or that there is none.
    pub fn follow(&mut self, cluster: &Mutex<Cluster>) {
        let next = cluster.lock().unwrap().deployments.get(self.read).cloned();
        let Some(decided) = next else {
            if !std::mem::replace(&mut self.has_caught_up, true) {
                (self.tell)(self.view.news(PIPELINE));
            }
            return;
        };
        self.read += 1;
        for (key, value) in decided.records {
            let Some((_, part)) = split(key.as_bytes()) else { continue };
            if self.view.take(part, value.as_deref()).unwrap() && self.has_caught_up {
                (self.tell)(self.view.news(PIPELINE));
            }
        }
    }

    /// One deployment that waits is staged.
    pub fn stage(&self) -> bool {
        let work = self.stagings.lock().unwrap().pop_front();
        work.map(|work| work()).is_some()
    }

    /// Whether it may have partitions.
    pub fn is_in_group(&self) -> bool {
        self.runs.is_some() && self.holds.main.stays_out().is_none()
    }

    /// Its worker swaps, and writes a record of each of its partitions.
    pub fn work(&mut self, index: usize, cluster: &Mutex<Cluster>) {
        let mut cluster = cluster.lock().unwrap();
        let owned: Vec<usize> = (0..cluster.owners.len()).filter(|at| cluster.owners[*at] == Some(index)).collect();
        self.seen.owns.store(!owned.is_empty(), Ordering::Relaxed);
        if self.holds.main.is_on() || self.holds.main.stays_out().is_some() {
            return self.tell_runs(None);
        }
        match &mut self.runs {
            None => self.runs = self.slot.take(),
            Some(runs) => drop(self.slot.exchange(|next| std::mem::replace(runs, next))),
        }
        let Some(runs) = &mut self.runs else { return };
        let revision = runs.revision;
        for partition in owned {
            let written = &mut cluster.written[partition];
            let waits = written.last().is_some_and(|last| {
                last.revision > revision || (last.revision == revision && last.runs != runs.digest)
            });
            if waits {
                continue;
            }
            if runs.fails {
                if self.failed != Some(revision) {
                    self.failed = Some(revision);
                    self.holds.main.fail(Some(revision), "it traps".into());
                }
                break;
            }
            written.push(Written { revision, runs: runs.digest });
            runs.records += 1;
            *self.seen.records.lock().unwrap().entry(revision).or_default() += 1;
            let is_tried = matches!(runs.probation, Probation::First | Probation::Replaceable);
            if is_tried && runs.records == PROBATION && !self.holds.main.has_passed(revision) {
                self.holds.main.pass(revision);
            }
        }
        let is_held = self.holds.main.is_on();
        drop(cluster);
        self.tell_runs((!is_held).then_some(revision));
    }

    fn tell_runs(&mut self, revision: Option<Revision>) {
        if self.told.replace(revision) != Some(revision) {
            self.holds.main.runs(0, revision);
        }
    }

    /// A step of the loop that decides, where this daemon takes part: it joins, restores, decides, or commits. `most` commands.
    pub fn decide(&mut self, index: usize, cluster: &Arc<Mutex<Cluster>>, most: usize) {
        let (is_owner, generation) = {
            let cluster = cluster.lock().unwrap();
            (cluster.decider == Some(index), cluster.generation)
        };
        let Some(deciding) = &mut self.deciding else {
            if is_owner {
                let log = cluster.clone();
                let opens = move || {
                    let records =
                        log.lock().unwrap().deployments.iter().flat_map(|each| each.records.clone()).collect();
                    Ok(Box::new(Log(records, false)) as Box<dyn Past>)
                };
                let mut decider = Decider::reading(Box::new(opens), self.standing.clone());
                decider.assigned(&[COMMANDS]);
                self.deciding = Some(Deciding { decider, generation, is_restored: false, open: None });
            }
            return;
        };
        if !deciding.is_restored {
            deciding.is_restored = deciding.decider.restore(Duration::ZERO).unwrap().left.is_empty();
            return;
        }
        if let Some((records, position)) = deciding.open.take() {
            let committed = cluster.lock().unwrap().commit(deciding.generation, records, position);
            match committed {
                Committed::Yes => deciding.decider.committed(),
                // What became of it stands in the topic: it begins anew.
                Committed::Unknown | Committed::Fenced => {
                    deciding.decider.aborted();
                    self.stop_deciding();
                    let mut cluster = cluster.lock().unwrap();
                    if cluster.decider == Some(index) {
                        cluster.elect(Some(index));
                    }
                }
            }
            return;
        }
        // Whoever lost the partition hears of it where it has nothing open.
        if !is_owner || deciding.generation != generation {
            return self.stop_deciding();
        }
        let mut builder = BatchBuilder::new(Topics::new(["commands"]));
        let (position, now) = {
            let cluster = cluster.lock().unwrap();
            let to = cluster.commands.len().min(cluster.position + most);
            for offset in cluster.position..to {
                let asked = &cluster.commands[offset];
                let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: offset as i64 };
                builder.push(origin, Some(asked.at), Some(asked.key.as_bytes()), Some(&asked.value), None);
            }
            (to, cluster.at)
        };
        let batch = builder.finish();
        if batch.is_empty() {
            return;
        }
        let mut outputs = Outputs::default();
        deciding.decider.process(&batch, &Forced::default(), now, &mut outputs);
        let bytes = |text| outputs.bytes(text).to_vec();
        let written = outputs.records.iter().map(|output| {
            (String::from_utf8(output.key.map(bytes).unwrap_or_default()).unwrap(), output.value.map(bytes))
        });
        let records = written.collect();
        deciding.open = Some((records, position));
    }

    fn stop_deciding(&mut self) {
        if let Some(mut deciding) = self.deciding.take() {
            deciding.decider.unassigned(&[COMMANDS]);
        }
    }

    pub fn ask(&self, who: &str, against: Option<Revision>, action: Action) -> Result<Receiver<Answer>, Refused> {
        self.inbox.asked(Some(By { who: who.to_owned(), from: "192.0.2.7".into() }), against, action)
    }
}
