//! A pipeline under load, from its topics to the checker's verdict.

use crate::course::note;
use crate::kafka::{Kafka, Life};
use crate::proxy::Proxy;
use crate::support::checker::{Report, check};
use crate::support::daemon::{Daemon, sum};
use crate::support::flowers::ROW;
use crate::support::observe::observe;
use crate::support::record;
use crate::support::scene::Scene;
use crate::support::topic::Producer;
use crate::support::{until, until_true};
use anyhow::{Context, Result, anyhow, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const PARTITIONS: i32 = 4;
/// A dead member is missed after that long: the shortest that brokers take.
pub const SESSION: Duration = Duration::from_secs(6);
/// Until records flow again after a kill, whatever the group has to wait out.
pub const AGAIN: Duration = Duration::from_secs(15);
/// Resident memory that a daemon may gain by what must cost it none, MB.
pub const GROWTH: f64 = 64.0;
/// Between two portions of the load.
const PACE: Duration = Duration::from_millis(20);
const PORTION: usize = 20;
/// Every so manieth row is malformed.
const MALFORMED: usize = 101;

static PROXY: OnceLock<Mutex<Proxy>> = OnceLock::new();

/// The broker that all rows share, with the proxy before it.
pub fn start(directory: &Path) -> Result<Kafka> {
    let proxy = Proxy::listen()?;
    let (kafka, hidden) = Kafka::start_behind(directory, Life::Short, &proxy.address.to_string())?;
    proxy.forward_to(hidden.parse()?);
    PROXY.get_or_init(|| Mutex::new(proxy));
    Ok(kafka)
}

/// The proxy for one row at a time, without a rule.
fn proxy() -> Result<MutexGuard<'static, Proxy>> {
    let proxy = PROXY.get().context("the broker was not started")?;
    let proxy = proxy.lock().unwrap_or_else(PoisonError::into_inner);
    // The row before may have failed.
    proxy.lift();
    Ok(proxy)
}

pub struct Stage<'a> {
    pub scene: &'a Scene<'a>,
    pub pipeline: PathBuf,
    feeder: Feeder,
    started: Instant,
    proxy: Option<MutexGuard<'static, Proxy>>,
}

impl<'a> Stage<'a> {
    /// Topics, file and load; the daemons reach the broker at that address. `kafka` goes into `[kafka]`, `more` behind the pipeline's file.
    fn set(scene: &'a Scene<'a>, bootstrap: &str, kafka: &str, more: &str) -> Result<Stage<'a>> {
        scene.create_usual(PARTITIONS)?;
        let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, more)?;
        let text = std::fs::read_to_string(&pipeline)?;
        let kafka = format!(
            "bootstrap.servers = {bootstrap:?}\nsession.timeout.ms = {}\nheartbeat.interval.ms = 500\nlinger.ms = 1\n\
             {kafka}\n",
            SESSION.as_millis()
        );
        let text = text.replace(&format!("bootstrap.servers = {:?}\n", scene.bootstrap()), &kafka);
        std::fs::write(&pipeline, text)?;
        Ok(Stage { scene, pipeline, feeder: Feeder::start(scene), started: Instant::now(), proxy: None })
    }

    /// A daemon whose broker is the shared one.
    pub fn direct(scene: &'a Scene<'a>, more: &str) -> Result<Stage<'a>> {
        Self::set(scene, &scene.bootstrap(), "", more)
    }

    /// As `direct`, with more of librdkafka's properties.
    pub fn tuned(scene: &'a Scene<'a>, kafka: &str) -> Result<Stage<'a>> {
        Self::set(scene, &scene.bootstrap(), kafka, "")
    }

    /// All of the daemon's connections go through the proxy.
    pub fn proxied(scene: &'a Scene<'a>, more: &str) -> Result<Stage<'a>> {
        let proxy = proxy()?;
        let stage = Self::set(scene, &proxy.address.to_string(), "", more)?;
        Ok(Stage { proxy: Some(proxy), ..stage })
    }

    /// The proxy that a stage made by `proxied` has for itself.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_deref().context("this stage has no proxy")
    }

    pub fn daemon(&self, name: &str) -> Result<Daemon> {
        self.scene.daemon(name, &self.pipeline)
    }

    /// A daemon that fails at those points; not waited for.
    pub fn failing(&self, name: &str, failpoints: &str) -> Result<Daemon> {
        self.spawn(name, &[("FAILPOINTS", failpoints.as_ref())])
    }

    /// As `daemon`, with more in its environment.
    pub fn daemon_with(&self, name: &str, environment: &[(&str, &OsStr)]) -> Result<Daemon> {
        let mut daemon = self.spawn(name, environment)?;
        daemon.until_ready()?;
        Ok(daemon)
    }

    fn spawn(&self, name: &str, environment: &[(&str, &OsStr)]) -> Result<Daemon> {
        let options = ["--instance", name];
        Daemon::spawn_with(&self.scene.directory, name, &[&self.pipeline], &options, environment)
    }

    /// What is committed of the input, all partitions.
    pub fn committed(&self) -> Result<i64> {
        Ok(self.scene.commits()?.iter().map(|commit| commit.offset.max(0)).sum())
    }

    /// Waits until something more is committed; answers how long that took.
    pub fn until_progress(&self) -> Result<Duration> {
        let started = Instant::now();
        let before = self.committed()?;
        until_true("something more is committed", || Ok(self.committed()? > before))?;
        Ok(started.elapsed())
    }

    /// Waits until each partition has gone on.
    pub fn until_all_progress(&self) -> Result<Duration> {
        let started = Instant::now();
        let before = self.scene.commits()?;
        until_true("every partition has something more committed", || {
            Ok(self.scene.commits()?.iter().zip(&before).all(|(now, before)| now.offset > before.offset))
        })?;
        Ok(started.elapsed())
    }

    /// Waits until a daemon itself has committed some more.
    pub fn until_serves(&self, daemon: &mut Daemon) -> Result<()> {
        let before = sum(&daemon.pipeline(&self.scene.name)?, "transactions");
        let more = |status: &serde_json::Value| sum(status, "transactions") > before + 2;
        daemon.until_status(&self.scene.name, "the daemon commits", more).map(drop)
    }

    /// Deploys the other model to each of them.
    pub fn swap(&self, daemons: &mut [&mut Daemon], revision: u64) -> Result<()> {
        let model = self.scene.model_of(if revision % 2 == 1 { "setosa" } else { "virginica" })?;
        for daemon in daemons {
            let deployed = daemon.deploy(&self.scene.name, &["--model", &model.to_string_lossy()])?;
            ensure!(deployed == revision, "revision {deployed} and not {revision}");
        }
        Ok(())
    }

    /// Ends the load and waits until all of it is committed.
    pub fn rest(&mut self, daemons: &mut [&mut Daemon]) -> Result<()> {
        self.feeder.stop()?;
        self.scene.until_done(daemons)
    }

    /// Rests, and has everything checked.
    pub fn report(mut self, daemons: &mut [&mut Daemon]) -> Result<Report> {
        self.rest(daemons)?;
        Ok(check(&observe(self.scene)?))
    }

    /// As `report`; an error unless nothing is wrong. `figures` are printed with it.
    pub fn verdict(self, daemons: &mut [&mut Daemon], figures: &str) -> Result<()> {
        let (name, started) = (self.scene.name.clone(), self.started);
        let report = self.report(daemons)?;
        ensure!(report.is_clean(), "{figures}; {report}");
        ensure!(report.records > 0, "nothing went in");
        note(&name, &format!("{figures}; {:.0} s; {report}", started.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// The status of a daemon whose pipeline is in that state and says that; `None` while it is not.
pub fn until_says(daemon: &mut Daemon, name: &str, state: &str, what: &str) -> Result<serde_json::Value> {
    daemon.until_status(name, &format!("the state is {state} and says {what:?}"), |status| {
        status["state"] == state && status["last_error"].as_str().is_some_and(|error| error.contains(what))
    })
}

/// Waits until a process that was told to die has.
pub fn until_killed(daemon: &mut Daemon) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    let status = daemon.wait_exit()?;
    ensure!(status.signal() == Some(libc::SIGKILL), "it ended by itself: {status}");
    Ok(())
}

/// Writes rows, evenly over the partitions, until it is stopped.
struct Feeder {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Feeder {
    fn start(scene: &Scene) -> Feeder {
        let over = Arc::new(AtomicBool::new(false));
        let (bootstrap, topic, stop) = (scene.bootstrap(), scene.topic("in"), over.clone());
        let thread = std::thread::spawn(move || feed(&bootstrap, &topic, &stop));
        Feeder { over, thread: Some(thread) }
    }

    fn stop(&mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.map_or(Ok(()), |result| result.unwrap_or_else(|_| Err(anyhow!("the feeder panicked"))))
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn feed(bootstrap: &str, topic: &str, over: &AtomicBool) -> Result<()> {
    let producer = Producer::new(bootstrap)?;
    let mut at = 0;
    while !over.load(Ordering::Relaxed) {
        for at in at..at + PORTION {
            let row = if at % MALFORMED == 0 { "malformed" } else { ROW };
            let partition = i32::try_from(at)? % PARTITIONS;
            producer.send(topic, &record::value(row).key(at.to_string()).on(partition))?;
        }
        at += PORTION;
        std::thread::sleep(PACE);
    }
    producer.flush()
}

/// Waits until that many partitions are a daemon's.
pub fn until_owns(daemon: &mut Daemon, name: &str, wanted: impl Fn(usize) -> bool) -> Result<()> {
    until("the daemon owns its share of the partitions", || {
        daemon.check_alive()?;
        let status = daemon.pipeline(name)?;
        let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let owned = workers.iter().filter_map(|worker| worker["partitions"].as_array().map(Vec::len)).sum();
        Ok(wanted(owned).then_some(()))
    })
}
