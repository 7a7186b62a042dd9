//! What may happen next, what must hold after it, and what everything has come to in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandpiper_sandbox::Digest;
use serde_json::json;

use super::cluster::Cluster;
use super::daemon::{Daemon, Disk, PIPELINE, SharedClock};
use crate::config::plan::{self, Guards, RolloutStep, Until};
use crate::control::command::{Action, NamedPlugin, Outcome, StageChange, Steps};
use crate::control::deployment::{Release, Releases};
use crate::control::journal::kafka::records::{View, split};
use crate::control::runner::Answer;
use crate::record::Revision;

/// How large a simulation is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub daemons: usize,
    pub partitions: usize,
    pub steps: usize,
}

impl Size {
    /// Small for most seeds, and up to 12 daemons for some.
    pub fn of(seed: u64) -> Self {
        let daemons = if seed % 50 == 49 { 12 } else { 2 + (seed % 3) as usize };
        Self { daemons, partitions: 2 * daemons, steps: 800 }
    }
}

/// Numbers that follow from a seed (SplitMix64, Steele, Lea and Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}

/// What a person's deployment was made against.
#[derive(Clone, Copy, Debug)]
pub enum Against {
    /// What the daemon that is asked says that runs.
    Current,
    Oldest,
    Nothing,
}

/// What happens next.
#[derive(Clone, Debug)]
pub enum Step {
    Turn(usize),
    /// A daemon hears of so many transactions.
    Follow(usize, usize),
    Stage(usize),
    Work(usize),
    /// A daemon takes so many steps of the loop that decides.
    Decide(usize, usize),
    /// Time passes.
    Pass(u64),
    Elect(usize),
    /// The workers' partitions are given out anew, from this daemon on.
    Rebalance(usize),
    Crash(usize),
    Start(usize),
    /// As `Start`, and its state directory is gone.
    StartEmpty(usize),
    BrokersGo,
    BrokersCome,
    DiskFills(usize),
    DiskEmpties(usize),
    LosesAnswer,
    /// The deciders' group has lost its offset.
    OffsetIsLost,
    Deploy {
        at: usize,
        release: usize,
        steps: bool,
        against: Against,
    },
    Say(usize, usize),
}

/// A person's command, until it is answered.
struct Asked {
    what: String,
    against: Option<Revision>,
    deploys: bool,
    /// Its daemon, and how often that had been started by then.
    at: (usize, u64),
    answer: Receiver<Answer>,
}

pub struct Fleet {
    clock: SharedClock,
    cluster: Arc<Mutex<Cluster>>,
    disks: Vec<Arc<Disk>>,
    daemons: Vec<Option<Daemon>>,
    starts: Vec<u64>,
    asked: Vec<Asked>,
    commands: u64,
    /// Deploying commands that were accepted, by the revision that they were made against.
    accepted: BTreeMap<Revision, String>,
    /// What the deployments' topic says, and how far it was looked at.
    view: View,
    looked: usize,
    /// What each revision runs.
    stands_for: BTreeMap<Revision, Digest>,
    current: Option<Revision>,
    position: i64,
    written: usize,
}

pub fn release(name: &str) -> Release {
    Release { name: name.to_owned(), plugin: Digest::of(name.as_bytes()), model: None, config: json!({}) }
}

fn file() -> Action {
    let releases = Releases { classify: Some(release("tree")), ..Releases::default() };
    Action::Wish { releases: Box::new(releases), reason: "applied from the file".into() }
}

impl Fleet {
    pub fn new(size: Size) -> Self {
        let clock = SharedClock { zero: Instant::now(), passed: Arc::default() };
        let cluster = Arc::new(Mutex::new(Cluster::new(size.partitions)));
        let disks: Vec<Arc<Disk>> = (0..size.daemons).map(|_| Arc::default()).collect();
        let mut fleet = Self {
            clock,
            cluster,
            daemons: disks.iter().map(|_| None).collect(),
            starts: vec![0; disks.len()],
            disks,
            asked: Vec::new(),
            commands: 0,
            accepted: BTreeMap::new(),
            view: View::default(),
            looked: 0,
            stands_for: BTreeMap::new(),
            current: None,
            position: 0,
            written: 0,
        };
        (0..size.daemons).for_each(|at| fleet.start(at));
        fleet.cluster.lock().unwrap().elect(Some(0));
        fleet
    }

    /// What the seed has happen next.
    pub fn choose(&self, random: &mut Random) -> Step {
        let count = self.daemons.len();
        let at = random.below(count);
        match random.below(100) {
            0..22 => Step::Turn(at),
            22..38 => Step::Follow(at, 1 + random.below(4)),
            38..46 => Step::Stage(at),
            46..58 => Step::Work(at),
            58..74 => {
                // Mostly whoever decides, now and then whoever did.
                let decider = self.cluster.lock().unwrap().decider.unwrap_or(at);
                Step::Decide(if random.below(4) > 0 { decider } else { at }, 1 + random.below(6))
            }
            74..82 => Step::Pass([1, 20, 300, 1_500, 12_000, 70_000][random.below(6)]),
            82 => Step::Elect(at),
            83..85 => Step::Rebalance(at),
            85 => Step::Crash(at),
            86..88 => {
                if random.below(6) == 0 {
                    Step::StartEmpty(at)
                } else {
                    Step::Start(at)
                }
            }
            88 => [Step::BrokersGo, Step::BrokersCome, Step::BrokersCome][random.below(3)].clone(),
            89 => [Step::DiskFills(at), Step::DiskEmpties(at), Step::DiskEmpties(at)][random.below(3)].clone(),
            90 => [Step::LosesAnswer, Step::OffsetIsLost][random.below(2)].clone(),
            91..97 => {
                let (release, steps) = (random.below(8), random.below(4) == 0);
                let against = [Against::Current, Against::Nothing, Against::Oldest][random.below(3)];
                Step::Deploy { at, release, steps, against }
            }
            _ => Step::Say(at, random.below(6)),
        }
    }

    fn start(&mut self, at: usize) {
        self.starts[at] += 1;
        self.daemons[at] = Some(Daemon::start(&format!("eu-{at}"), self.disks[at].clone(), &self.clock, &self.cluster));
    }

    pub fn step(&mut self, step: &Step) {
        let cluster = self.cluster.clone();
        match *step {
            Step::Turn(at) => self.with(at, |daemon| daemon.turn(file)),
            Step::Follow(at, times) => self.with(at, |daemon| {
                // What waits in its control has its turn before there is no room for more.
                daemon.turn(file);
                (0..times).for_each(|_| daemon.follow(&cluster));
            }),
            Step::Stage(at) => self.with(at, |daemon| {
                daemon.stage();
            }),
            Step::Work(at) => self.with(at, |daemon| daemon.work(at, &cluster)),
            Step::Decide(at, times) => self.with(at, |daemon| {
                (0..times).for_each(|step| daemon.decide(at, &cluster, 1 + (step + times) % 4));
            }),
            Step::Pass(millis) => {
                *self.clock.passed.lock().unwrap() += Duration::from_millis(millis);
                cluster.lock().unwrap().at += millis as i64;
            }
            Step::Elect(at) => {
                let is_up = self.daemons[at].is_some();
                if is_up {
                    cluster.lock().unwrap().elect(Some(at));
                }
            }
            Step::Rebalance(from) => self.rebalance(from),
            Step::Crash(at) => {
                self.daemons[at] = None;
                let mut cluster = cluster.lock().unwrap();
                cluster.owners.iter_mut().filter(|owner| **owner == Some(at)).for_each(|owner| *owner = None);
                if cluster.decider == Some(at) {
                    let next = self.daemons.iter().position(Option::is_some);
                    cluster.elect(next);
                }
            }
            Step::Start(at) | Step::StartEmpty(at) if self.daemons[at].is_none() => {
                if matches!(step, Step::StartEmpty(_)) {
                    self.disks[at] = Arc::default();
                }
                self.start(at);
                let mut cluster = cluster.lock().unwrap();
                if cluster.decider.is_none() {
                    cluster.elect(Some(at));
                }
            }
            Step::Start(_) | Step::StartEmpty(_) => {}
            Step::BrokersGo => cluster.lock().unwrap().is_away = true,
            Step::BrokersCome => cluster.lock().unwrap().is_away = false,
            Step::DiskFills(at) => self.disks[at].is_full.store(true, Ordering::Relaxed),
            Step::DiskEmpties(at) => self.disks[at].is_full.store(false, Ordering::Relaxed),
            Step::LosesAnswer => cluster.lock().unwrap().loses_answer = true,
            Step::OffsetIsLost => {
                // Whoever decides finds it when it joins.
                let mut cluster = cluster.lock().unwrap();
                cluster.position = 0;
                let decider = cluster.decider;
                cluster.elect(decider);
            }
            Step::Deploy { at, release, steps, against } => self.deploy(at, release, steps, against),
            Step::Say(at, word) => self.say(at, word),
        }
    }

    fn with(&mut self, at: usize, of: impl FnOnce(&mut Daemon)) {
        if let Some(daemon) = &mut self.daemons[at] {
            of(daemon);
        }
    }

    /// Partitions go round those that can have some.
    fn rebalance(&mut self, from: usize) {
        let members: Vec<usize> = (0..self.daemons.len())
            .map(|at| (at + from) % self.daemons.len())
            .filter(|at| self.daemons[*at].as_ref().is_some_and(Daemon::is_in_group))
            .collect();
        let mut cluster = self.cluster.lock().unwrap();
        for (partition, owner) in cluster.owners.iter_mut().enumerate() {
            *owner = members.get(partition % members.len().max(1)).copied();
        }
    }

    fn ask(&mut self, at: usize, what: String, against: Option<Revision>, deploys: bool, action: Action) {
        let Some(daemon) = &self.daemons[at] else { return };
        if let Ok(answer) = daemon.ask("admin", against, action) {
            self.asked.push(Asked { what, against, deploys, at: (at, self.starts[at]), answer });
        }
    }

    fn deploy(&mut self, at: usize, which: usize, steps: bool, against: Against) {
        let Some(daemon) = &self.daemons[at] else { return };
        let against = match against {
            Against::Current => daemon.inbox.snapshot().history.revision(),
            Against::Oldest => self.stands_for.keys().next().copied(),
            Against::Nothing => None,
        };
        self.commands += 1;
        let reason = format!("command {}", self.commands);
        let name = match which {
            0 => format!("bad-{}", self.commands),
            1 => format!("unfit-{}", self.commands),
            other => format!("forest-{other}"),
        };
        let plugin = Some(NamedPlugin { digest: Digest::of(name.as_bytes()), name });
        let change = StageChange { plugin, model: None, config: serde_json::Map::new() };
        let plan = plan::Rollout {
            sample: 1.0,
            steps: vec![
                RolloutStep::Shadow { until: Until::Records(10) },
                RolloutStep::Canary { share: 0.5, until: Until::Time(5_000) },
            ],
            guards: Guards::default(),
        };
        let rollout = steps.then(|| Box::new(Steps { plan, allow_new_classes: true }));
        let stages = [("classify".to_owned(), change)].into();
        self.ask(at, reason.clone(), against, true, Action::Deploy { stages, reason, rollout });
    }

    fn say(&mut self, at: usize, word: usize) {
        self.commands += 1;
        let reason = format!("command {}", self.commands);
        let (deploys, action) = match word {
            0 => (true, Action::Promote { reason: reason.clone() }),
            1 => (true, Action::Abort { reason: reason.clone() }),
            2 => (true, Action::Undo { reason: reason.clone(), to: None }),
            3 => (false, Action::Pause { reason: reason.clone() }),
            _ => (false, Action::Resume),
        };
        let against = self.daemons[at].as_ref().and_then(|daemon| daemon.inbox.snapshot().history.revision());
        self.ask(at, reason, against, deploys, action);
    }

    /// # Errors
    /// Which of what must hold does not, and how.
    pub fn check(&mut self) -> Result<(), String> {
        self.check_decided()?;
        self.check_written()?;
        self.check_answers()
    }

    fn check_decided(&mut self) -> Result<(), String> {
        let decided: Vec<_> = self.cluster.lock().unwrap().deployments[self.looked..].to_vec();
        self.looked += decided.len();
        for transaction in decided {
            for (key, value) in &transaction.records {
                let Some((_, part)) = split(key.as_bytes()) else { continue };
                self.view.take(part, value.as_deref()).map_err(|error| format!("{key}: {error:#}"))?;
            }
            let news = self.view.news(PIPELINE);
            let place = news.base as i64 + news.position;
            if place < self.position {
                return Err(format!("decided up to command {place} after {}", self.position));
            }
            self.position = place;
            let history = &news.control.history;
            if history.revision() < self.current {
                return Err(format!("revision {:?} is current after {:?}", history.revision(), self.current));
            }
            self.current = history.revision();
            let mut reasons = BTreeSet::new();
            for deployment in &history.deployments {
                let stands_for = *self.stands_for.entry(deployment.revision).or_insert(deployment.digest());
                if stands_for != deployment.digest() {
                    return Err(format!("revision {} stands for two things", deployment.revision));
                }
                if deployment.reason.starts_with("command") && !reasons.insert(&deployment.reason) {
                    return Err(format!("{} was carried out twice", deployment.reason));
                }
            }
            if history.deployments.windows(2).any(|pair| pair[0].revision >= pair[1].revision) {
                return Err("the history's revisions do not grow".into());
            }
        }
        Ok(())
    }

    fn check_written(&mut self) -> Result<(), String> {
        let cluster = self.cluster.lock().unwrap();
        let all: usize = cluster.written.iter().map(Vec::len).sum();
        if all == self.written {
            return Ok(());
        }
        self.written = all;
        for (partition, written) in cluster.written.iter().enumerate() {
            let [.., before, last] = written.as_slice() else { continue };
            if last.revision < before.revision {
                return Err(format!("partition {partition} goes back from {} to {}", before.revision, last.revision));
            }
            if self.stands_for.get(&last.revision).is_some_and(|runs| *runs != last.runs) {
                return Err(format!("partition {partition} ran something else as revision {}", last.revision));
            }
        }
        Ok(())
    }

    fn check_answers(&mut self) -> Result<(), String> {
        let mut open = Vec::new();
        for asked in std::mem::take(&mut self.asked) {
            match asked.answer.try_recv() {
                Err(TryRecvError::Empty) => open.push(asked),
                // Its daemon is gone, and nobody hears of it.
                Err(TryRecvError::Disconnected)
                    if self.starts[asked.at.0] != asked.at.1 || self.daemons[asked.at.0].is_none() => {}
                Err(TryRecvError::Disconnected) => return Err(format!("{} has no answer", asked.what)),
                Ok(Ok(Outcome::Activated { deployment, .. })) if asked.deploys => {
                    if self.stands_for.get(&deployment.revision) != Some(&deployment.digest()) {
                        return Err(format!("{} is said to run and was never decided", asked.what));
                    }
                    if let Some(against) = asked.against
                        && let Some(other) = self.accepted.insert(against, asked.what.clone())
                        && other != asked.what
                    {
                        return Err(format!("{other} and {} were both accepted against {against}", asked.what));
                    }
                }
                Ok(_) => {}
            }
        }
        self.asked = open;
        Ok(())
    }

    /// Nothing fails any more, and everything has its time.
    ///
    /// # Errors
    /// What has not come to its end, or not to the same.
    pub fn settle(&mut self) -> Result<(), String> {
        for at in 0..self.daemons.len() {
            self.disks[at].is_full.store(false, Ordering::Relaxed);
            self.step(&Step::Start(at));
        }
        {
            let mut cluster = self.cluster.lock().unwrap();
            (cluster.is_away, cluster.loses_answer) = (false, false);
        }
        self.step(&Step::Elect(0));
        let mut why = String::new();
        for round in 0..120 {
            for at in 0..self.daemons.len() {
                self.step(&Step::Decide(0, 16));
                let behind = self.cluster.lock().unwrap().deployments.len();
                self.with(at, |daemon| while daemon.stage() {});
                while self.daemons[at].as_ref().is_some_and(|daemon| daemon.read < behind) {
                    self.step(&Step::Follow(at, 1));
                }
                self.step(&Step::Follow(at, 1));
                self.step(&Step::Work(at));
                self.step(&Step::Turn(at));
            }
            if round % 3 == 0 {
                self.step(&Step::Rebalance(round));
            }
            self.step(&Step::Pass(1_000));
            self.check()?;
            match self.is_settled() {
                Ok(()) => return Ok(()),
                Err(unsettled) => why = unsettled,
            }
        }
        Err(format!("in the end {why}"))
    }

    /// Commands and their bytes, transactions, records and bytes of what was decided, so far.
    pub fn traffic(&self) -> [usize; 5] {
        let cluster = self.cluster.lock().unwrap();
        let records = || cluster.deployments.iter().flat_map(|decided| &decided.records);
        let size = |(key, value): &(String, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
        [
            cluster.commands.len(),
            cluster.commands.iter().map(|asked| asked.value.len()).sum(),
            cluster.deployments.len(),
            records().count(),
            records().map(size).sum(),
        ]
    }

    fn is_settled(&self) -> Result<(), String> {
        let news = self.view.news(PIPELINE);
        let current = news.control.history.current().ok_or("nothing is current")?;
        let is_paused = news.control.history.paused.is_some();
        if let Some(staging) = news.control.staging.keys().next() {
            return Err(format!("command {} is staged for ever", staging.0));
        }
        if let Some(asked) = self.asked.first() {
            return Err(format!("{} is not answered", asked.what));
        }
        for daemon in self.daemons.iter().flatten() {
            if daemon.inbox.snapshot().history != news.control.history {
                return Err(format!("{} knows another history", daemon.name));
            }
            if daemon.holds.main.is_on() != is_paused {
                return Err(format!("{} is held: {}", daemon.name, daemon.holds.main.is_on()));
            }
            let runs = daemon.runs.as_ref().map(|runs| (runs.revision, runs.digest));
            if !is_paused && runs != Some((current.revision, current.digest())) {
                return Err(format!("{} runs {runs:?} and not {}", daemon.name, current.revision));
            }
        }
        Ok(())
    }
}
