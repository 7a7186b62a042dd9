//! Looks at a daemon once a second, from outside: what the kernel says of it, what it says of its commits, and how old
//! its predictions are when a reader has them.

use crate::figures::{Applied, Phase, Sample};
use crate::measure::{median, quantile};
use crate::support::daemon::Daemon;
use crate::support::process::Usage;
use crate::support::scene::Scene;
use crate::support::topic;
use anyhow::{Result, anyhow};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const INTERVAL: Duration = Duration::from_secs(1);
/// A daemon that is stopped or busy answers nobody; then it has said nothing in that second.
const ANSWER: Duration = Duration::from_millis(500);

/// What goes on, and what was seen.
struct Seen {
    round: usize,
    phase: Phase,
    /// Of the records that were read since the last sample, milliseconds.
    ages: Vec<f64>,
    samples: Vec<Sample>,
    faults: Vec<Applied>,
}

pub struct Watch {
    started: Instant,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Watch {
    /// Predictions carry the times of the rows that they were made of: what is read is told by these.
    pub fn start(scene: &Scene, daemon: &mut Daemon) -> Result<Watch> {
        let seen = Seen { round: 1, phase: Phase::Steady, ages: Vec::new(), samples: Vec::new(), faults: Vec::new() };
        let (seen, over) = (Arc::new(Mutex::new(seen)), Arc::new(AtomicBool::new(false)));
        let started = Instant::now();
        let reader = {
            let (bootstrap, topic, seen, over) = (scene.bootstrap(), scene.topic("out"), seen.clone(), over.clone());
            std::thread::spawn(move || {
                topic::follow(&bootstrap, &topic, &over, |time| lock(&seen).ages.push(age(time)))
            })
        };
        let sampler = {
            let (process, url) = (daemon.process(), format!("http://{}/v1/status", daemon.address()?));
            let (seen, over) = (seen.clone(), over.clone());
            std::thread::spawn(move || sample(process, &url, started, &seen, &over))
        };
        Ok(Watch { started, seen, over, threads: vec![reader, sampler] })
    }

    pub fn enter(&self, round: usize, phase: Phase) {
        let mut seen = lock(&self.seen);
        (seen.round, seen.phase) = (round, phase);
    }

    /// Notes a fault that lasted until now.
    pub fn note(&self, name: &'static str, from: Instant) {
        let (from, to) = (from - self.started, self.started.elapsed());
        lock(&self.seen).faults.push(Applied { name, from: from.as_secs_f64(), to: to.as_secs_f64() });
    }

    /// The samples so far and the faults, and whether watching went well.
    pub fn finish(self) -> (Vec<Sample>, Vec<Applied>, Result<()>) {
        self.over.store(true, Ordering::Relaxed);
        let join =
            |thread: JoinHandle<Result<()>>| thread.join().unwrap_or_else(|_| Err(anyhow!("the watch panicked")));
        // Each of them must have ended.
        let ended: Vec<Result<()>> = self.threads.into_iter().map(join).collect();
        let mut seen = lock(&self.seen);
        let (samples, faults) = (std::mem::take(&mut seen.samples), std::mem::take(&mut seen.faults));
        (samples, faults, ended.into_iter().collect())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since that time.
fn age(time: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    (now - time) as f64
}

fn sample(process: u32, url: &str, started: Instant, seen: &Mutex<Seen>, over: &AtomicBool) -> Result<()> {
    let agent = ureq::Agent::from(ureq::Agent::config_builder().timeout_global(Some(ANSWER)).build());
    let mut before = commits(&agent, url);
    let mut due = started;
    while !over.load(Ordering::Relaxed) {
        due = (due + INTERVAL).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let usage = Usage::of(process)?;
        let at = started.elapsed().as_secs_f64();
        let now = commits(&agent, url);
        let mean = before.zip(now).filter(|(before, now)| now.0 > before.0);
        let commit = mean.map(|(before, now)| (now.1 - before.1) / (now.0 - before.0) / 1e3);
        before = now.or(before);
        let mut seen = lock(seen);
        let ages = std::mem::take(&mut seen.ages);
        let latency = (!ages.is_empty()).then(|| (median(&ages), quantile(&ages, 1.0)));
        let (round, phase) = (seen.round, seen.phase);
        let Usage { resident, threads, files } = usage;
        seen.samples.push(Sample { at, round, phase, resident, files, threads, latency, commit });
    }
    Ok(())
}

/// How many commits the daemon's workers have made, and how many microseconds these took.
fn commits(agent: &ureq::Agent, url: &str) -> Option<(f64, f64)> {
    let text = agent.get(url).call().ok()?.body_mut().read_to_string().ok()?;
    let status: Value = serde_json::from_str(&text).ok()?;
    let workers = status["pipelines"][0]["workers"].as_array()?;
    let sum = |field: &str| workers.iter().filter_map(|worker| worker["commits"][field].as_f64()).sum::<f64>();
    Some((sum("count"), sum("sum_us")))
}
