//! Samples a daemon once a second, from outside: its process as the kernel sees it, the commit times that it reports, and how
//! old its predictions are when they are read.

use crate::figures::{AppliedFault, Phase, Sample};
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
/// Time for the status request. A daemon that is stopped or busy does not answer; its second then has no commit time.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// The present phase, and what has been sampled so far.
struct Recording {
    round: usize,
    phase: Phase,
    /// Ages of the predictions that were read since the last sample, milliseconds.
    ages: Vec<f64>,
    samples: Vec<Sample>,
    faults: Vec<AppliedFault>,
}

pub struct Watch {
    started: Instant,
    recording: Arc<Mutex<Recording>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Watch {
    /// Predictions carry the timestamps of their input records: the age of one is measured from there.
    pub fn start(scene: &Scene, daemon: &mut Daemon) -> Result<Watch> {
        let recording =
            Recording { round: 1, phase: Phase::Steady, ages: Vec::new(), samples: Vec::new(), faults: Vec::new() };
        let (recording, stop) = (Arc::new(Mutex::new(recording)), Arc::new(AtomicBool::new(false)));
        let started = Instant::now();
        let reader = {
            let (bootstrap, topic, recording, stop) =
                (scene.bootstrap(), scene.topic("out"), recording.clone(), stop.clone());
            std::thread::spawn(move || {
                topic::follow(&bootstrap, &topic, &stop, |time| lock(&recording).ages.push(age(time)))
            })
        };
        let sampler = {
            let (process, url) = (daemon.process(), format!("http://{}/v1/status", daemon.address()?));
            let (recording, stop) = (recording.clone(), stop.clone());
            std::thread::spawn(move || sample(process, &url, started, &recording, &stop))
        };
        Ok(Watch { started, recording, stop, threads: vec![reader, sampler] })
    }

    pub fn enter(&self, round: usize, phase: Phase) {
        let mut recording = lock(&self.recording);
        (recording.round, recording.phase) = (round, phase);
    }

    /// Notes a fault that began at that time and ends now.
    pub fn fault_ended(&self, name: &'static str, from: Instant) {
        let (from, to) = (from - self.started, self.started.elapsed());
        lock(&self.recording).faults.push(AppliedFault { name, from: from.as_secs_f64(), to: to.as_secs_f64() });
    }

    /// Stops; returns the samples and the faults, and an error when sampling failed.
    pub fn finish(self) -> (Vec<Sample>, Vec<AppliedFault>, Result<()>) {
        self.stop.store(true, Ordering::Relaxed);
        let join =
            |thread: JoinHandle<Result<()>>| thread.join().unwrap_or_else(|_| Err(anyhow!("the watch panicked")));
        // Both threads are joined before an error of one is returned.
        let ended: Vec<Result<()>> = self.threads.into_iter().map(join).collect();
        let mut recording = lock(&self.recording);
        let (samples, faults) = (std::mem::take(&mut recording.samples), std::mem::take(&mut recording.faults));
        (samples, faults, ended.into_iter().collect())
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since that timestamp.
fn age(time: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    (now - time) as f64
}

fn sample(process: u32, url: &str, started: Instant, recording: &Mutex<Recording>, stop: &AtomicBool) -> Result<()> {
    let agent = ureq::Agent::from(ureq::Agent::config_builder().timeout_global(Some(STATUS_TIMEOUT)).build());
    let mut before = commits(&agent, url);
    let mut due = started;
    while !stop.load(Ordering::Relaxed) {
        due = (due + INTERVAL).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let usage = Usage::of(process)?;
        let at = started.elapsed().as_secs_f64();
        let now = commits(&agent, url);
        let mean = before.zip(now).filter(|(before, now)| now.0 > before.0);
        let commit = mean.map(|(before, now)| (now.1 - before.1) / (now.0 - before.0) / 1e3);
        before = now.or(before);
        let mut recording = lock(recording);
        let ages = std::mem::take(&mut recording.ages);
        let latency = (!ages.is_empty()).then(|| (median(&ages), quantile(&ages, 1.0)));
        let (round, phase) = (recording.round, recording.phase);
        let Usage { resident, threads, files } = usage;
        recording.samples.push(Sample { at, round, phase, resident, files, threads, latency, commit });
    }
    Ok(())
}

/// How many commits the daemon's workers have made, and how many microseconds they took.
fn commits(agent: &ureq::Agent, url: &str) -> Option<(f64, f64)> {
    let text = agent.get(url).call().ok()?.body_mut().read_to_string().ok()?;
    let status: Value = serde_json::from_str(&text).ok()?;
    let workers = status["pipelines"][0]["workers"].as_array()?;
    let sum = |field: &str| workers.iter().filter_map(|worker| worker["commits"][field].as_f64()).sum::<f64>();
    Some((sum("count"), sum("sum_us")))
}
