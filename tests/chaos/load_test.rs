//! A pipeline under load, from creating its topics to checking that everything was processed exactly once.

use crate::kafka::{Kafka, Life};
use crate::matrix::record_result;
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
/// The session timeout, after which the group drops a dead member: the shortest that brokers allow.
pub const SESSION: Duration = Duration::from_secs(6);
/// How long it may take until records flow again after a kill, the group's session timeout included: thrice what it takes, since
/// the machine may be busy, and less than what librdkafka waits by itself.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(45);
/// Resident memory that a daemon may gain in a test of something that must not cost any, MB.
pub const MAX_GROWTH_MB: f64 = 64.0;
/// Time between two portions of the load.
const PACE: Duration = Duration::from_millis(20);
const PORTION: usize = 20;
/// One row in this many is malformed.
const MALFORMED: usize = 101;

static PROXY: OnceLock<Mutex<Proxy>> = OnceLock::new();

/// Starts the broker that all rows share, with the proxy in front of it.
pub fn start(directory: &Path) -> Result<Kafka> {
    let proxy = Proxy::listen()?;
    let (kafka, hidden) = Kafka::start_behind(directory, Life::Short, &proxy.address.to_string())?;
    proxy.forward_to(hidden.parse()?);
    PROXY.get_or_init(|| Mutex::new(proxy));
    Ok(kafka)
}

/// The proxy, for one row at a time and without rules.
fn proxy() -> Result<MutexGuard<'static, Proxy>> {
    let proxy = PROXY.get().context("the broker was not started")?;
    let proxy = proxy.lock().unwrap_or_else(PoisonError::into_inner);
    // A row that failed may have left its rules.
    proxy.clear_rules();
    Ok(proxy)
}

/// One row of the fault matrix: its topics, its pipeline file and a load that runs until the row ends.
pub struct LoadTest<'a> {
    pub scene: &'a Scene<'a>,
    pub pipeline: PathBuf,
    feeder: Feeder,
    started: Instant,
    proxy: Option<MutexGuard<'static, Proxy>>,
}

impl<'a> LoadTest<'a> {
    /// Creates topics and file and starts the load. Daemons connect to `bootstrap`; `kafka` goes into `[kafka]`, `more` behind
    /// the pipeline's file.
    fn start(scene: &'a Scene<'a>, bootstrap: &str, kafka: &str, more: &str) -> Result<LoadTest<'a>> {
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
        Ok(LoadTest { scene, pipeline, feeder: Feeder::start(scene), started: Instant::now(), proxy: None })
    }

    /// Daemons connect to the shared broker itself.
    pub fn direct(scene: &'a Scene<'a>, more: &str) -> Result<LoadTest<'a>> {
        Self::start(scene, &scene.bootstrap(), "", more)
    }

    /// As `direct`, with more librdkafka properties.
    pub fn tuned(scene: &'a Scene<'a>, kafka: &str) -> Result<LoadTest<'a>> {
        Self::start(scene, &scene.bootstrap(), kafka, "")
    }

    /// All connections of the daemons go through the proxy.
    pub fn proxied(scene: &'a Scene<'a>, more: &str) -> Result<LoadTest<'a>> {
        let proxy = proxy()?;
        let test = Self::start(scene, &proxy.address.to_string(), "", more)?;
        Ok(LoadTest { proxy: Some(proxy), ..test })
    }

    /// The proxy of a test that was made by `proxied`.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_deref().context("this test has no proxy")
    }

    pub fn daemon(&self, name: &str) -> Result<Daemon> {
        self.scene.daemon(name, &self.pipeline)
    }

    /// A daemon that fails at those points; it is not waited for.
    pub fn failing(&self, name: &str, failpoints: &str) -> Result<Daemon> {
        self.unready_with(name, &[("FAILPOINTS", failpoints.as_ref())])
    }

    /// As `daemon`, with more in its environment.
    pub fn daemon_with(&self, name: &str, environment: &[(&str, &OsStr)]) -> Result<Daemon> {
        let mut daemon = self.unready_with(name, environment)?;
        daemon.until_ready()?;
        Ok(daemon)
    }

    /// As `daemon_with`, and not waited for.
    pub fn unready_with(&self, name: &str, environment: &[(&str, &OsStr)]) -> Result<Daemon> {
        let options = ["--instance", name];
        Daemon::spawn_with(&self.scene.directory, name, &[&self.pipeline], &options, environment)
    }

    /// The sum of the committed offsets of the input.
    pub fn committed(&self) -> Result<i64> {
        Ok(self.scene.commits()?.iter().map(|commit| commit.offset.max(0)).sum())
    }

    /// Waits until something more is committed; returns how long that took.
    pub fn until_progress(&self) -> Result<Duration> {
        let started = Instant::now();
        let before = self.committed()?;
        until_true("something more is committed", || Ok(self.committed()? > before))?;
        Ok(started.elapsed())
    }

    /// Waits until something more is committed of every partition; returns how long that took.
    pub fn until_all_progress(&self) -> Result<Duration> {
        let started = Instant::now();
        let before = self.scene.commits()?;
        until_true("every partition has something more committed", || {
            Ok(self.scene.commits()?.iter().zip(&before).all(|(now, before)| now.offset > before.offset))
        })?;
        Ok(started.elapsed())
    }

    /// Waits until that daemon has committed some more transactions.
    pub fn until_commits(&self, daemon: &mut Daemon) -> Result<()> {
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
    pub fn drain(&mut self, daemons: &mut [&mut Daemon]) -> Result<()> {
        self.feeder.stop()?;
        self.scene.until_done(daemons)
    }

    /// Drains the load and checks everything.
    pub fn report(mut self, daemons: &mut [&mut Daemon]) -> Result<Report> {
        self.drain(daemons)?;
        Ok(check(&observe(self.scene)?))
    }

    /// As `report`, and an error unless no defect was found. `figures` are printed with the result.
    pub fn assert_exactly_once(self, daemons: &mut [&mut Daemon], figures: &str) -> Result<()> {
        let (name, started) = (self.scene.name.clone(), self.started);
        let report = self.report(daemons)?;
        ensure!(report.is_clean(), "{figures}; {report}");
        ensure!(report.records > 0, "nothing went in");
        record_result(&name, &format!("{figures}; {:.0} s; {report}", started.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// Waits until a daemon's pipeline is in that state with that last error; returns the status.
pub fn until_status_reports(daemon: &mut Daemon, name: &str, state: &str, what: &str) -> Result<serde_json::Value> {
    daemon.until_status(name, &format!("the state is {state} and says {what:?}"), |status| {
        status["state"] == state && status["last_error"].as_str().is_some_and(|error| error.contains(what))
    })
}

/// Waits until a daemon that is to be killed by a failpoint has ended by SIGKILL.
pub fn until_killed(daemon: &mut Daemon) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    let status = daemon.wait_exit()?;
    ensure!(status.signal() == Some(libc::SIGKILL), "it ended by itself: {status}");
    Ok(())
}

/// Writes rows, evenly over the partitions, until it is stopped.
struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Feeder {
    fn start(scene: &Scene) -> Feeder {
        let stop = Arc::new(AtomicBool::new(false));
        let (bootstrap, topic, flag) = (scene.bootstrap(), scene.topic("in"), stop.clone());
        let thread = std::thread::spawn(move || feed(&bootstrap, &topic, &flag));
        Feeder { stop, thread: Some(thread) }
    }

    fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.map_or(Ok(()), |result| result.unwrap_or_else(|_| Err(anyhow!("the feeder panicked"))))
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn feed(bootstrap: &str, topic: &str, stop: &AtomicBool) -> Result<()> {
    let producer = Producer::new(bootstrap)?;
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
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

/// Waits until a daemon owns as many partitions as wanted.
pub fn until_owns(daemon: &mut Daemon, name: &str, wanted: impl Fn(usize) -> bool) -> Result<()> {
    until("the daemon owns its share of the partitions", || {
        daemon.check_alive()?;
        let status = daemon.pipeline(name)?;
        let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let owned = workers.iter().filter_map(|worker| worker["partitions"].as_array().map(Vec::len)).sum();
        Ok(wanted(owned).then_some(()))
    })
}
