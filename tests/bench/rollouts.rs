//! A thousand rollouts in a row under load, and a release that fails as soon as it runs.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rdkafka::message::Message as _;

use crate::daemon::Daemon;
use crate::measure::{median, quantile};
use crate::options::Options;
use crate::rig::Rig;
use crate::stream::{self, Sent, Stream};
use crate::support::flowers::{ROW, model_of};
use crate::support::{hostile, until_true};
use crate::table::{Figure, Goal, Table};

const LATENCY: &str = "rollouts: latency that 1,000 in a row add, p99";
const MEMORY: &str = "rollouts: memory after 1,000 in a row";
const BAD: &str = "rollouts: bad release with --now until the one before runs";
pub const NAMES: &[&str] = &[LATENCY, MEMORY, BAD];

/// Records a second while rollouts follow each other, and while a release fails.
const RATE: usize = 1_000;
const BAD_RATE: usize = 50_000;
/// Rollouts that fill the caches that stay.
const WARM: usize = 50;
/// How often the stream is looked at without rollouts, and how long apart.
const QUIET: usize = 200;
const LOOK: Duration = Duration::from_millis(100);

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if options.wants(LATENCY) || options.wants(MEMORY) {
        in_a_row(options, rig, table)?;
    }
    if options.wants(BAD) {
        bad(options, rig, table)?;
    }
    Ok(())
}

/// Reads what a pipeline writes: how old each record was, and whether one came twice.
struct Ages {
    seen: Arc<Mutex<Vec<f64>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<BTreeMap<usize, u32>>>,
}

impl Ages {
    fn of(rig: &Rig, topic: &'static str, sent: Sent) -> Result<Ages> {
        let (seen, stop) = (Arc::<Mutex<Vec<f64>>>::default(), Arc::<AtomicBool>::default());
        let (noted, stopped, mut client) = (seen.clone(), stop.clone(), rig.client());
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || {
            let mut times = BTreeMap::new();
            stream::read(&mut client, topic, |message| {
                if let Some((number, age)) = message.and_then(|message| sent.age(message.key()?)) {
                    noted.lock().unwrap().push(age);
                    *times.entry(number).or_default() += 1;
                }
                message.is_none() && stopped.load(Ordering::Relaxed)
            })?;
            Ok(times)
        })?;
        Ok(Ages { seen, stop, thread })
    }

    /// Milliseconds of all that was read since the last call.
    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// How often each record was read, once nothing more comes.
    fn finish(self) -> Result<BTreeMap<usize, u32>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

fn in_a_row(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    let (input, output) = ("rollouts-in", "rollouts-out");
    rig.create(input)?;
    rig.create(output)?;
    let file = rig.directory().join("rollouts.toml");
    let steps = "[rollout]\nguards = { disagreement = { above = 1.0 } }\n[[rollout.step]]\nshadow = \"1h\"\n";
    fs::write(&file, rig.pipeline("rollouts", input, output, &format!("[limits]\nworkers = 2\n{steps}")))?;
    let models = ["setosa", "virginica"].map(|class| rig.directory().join(format!("{class}.json")));
    for (path, class) in models.iter().zip(["setosa", "virginica"]) {
        fs::write(path, model_of(class))?;
    }
    let daemon = Daemon::start(&file)?;
    let stream = Stream::start(rig, input, RATE, RATE * 3_600, ROW)?;
    let ages = Ages::of(rig, output, stream.sent.clone())?;
    until_true("the pipeline writes", || Ok(ages.seen.lock().unwrap().len() > RATE))?;
    let rollout = |number: usize| -> Result<()> {
        let model = models[number % 2].to_string_lossy().into_owned();
        daemon.command(&["deploy", "rollouts", "--model", &model, "--reason", "a benchmark"])?;
        daemon.command(&["rollout", "promote", "rollouts", "--reason", "a benchmark"])?;
        Ok(())
    };
    let warm = options.sized(WARM, 1);
    (0..warm).try_for_each(rollout)?;
    let looks = options.sized(QUIET, QUIET / 10);
    // How old records are, and the median of the memory, while nothing is deployed.
    let quiet = || -> Result<(Vec<f64>, f64)> {
        ages.take();
        let mut sizes = Vec::new();
        for _ in 0..looks {
            std::thread::sleep(LOOK);
            sizes.push(daemon.resident()?);
        }
        Ok((ages.take(), median(&sizes)))
    };
    // What the rollouts before have held up is over by then.
    quiet()?;
    let (before, resident) = quiet()?;
    let started = Instant::now();
    let rollouts = options.sized(1_000, 5);
    for number in warm..warm + rollouts {
        rollout(number)?;
    }
    let took = started.elapsed();
    let during = ages.take();
    let (again, after) = quiet()?;
    let (_, settled) = quiet()?;
    let sent = stream.stop()?;
    let read = ages.finish()?;
    daemon.stop()?;
    ensure!(read.len() == sent, "{} of {sent} records were read", read.len());
    ensure!(read.values().all(|times| *times == 1), "some records were read twice");
    let p99 = |ages: &[f64]| quantile(ages, 0.99);
    if options.wants(LATENCY) {
        table.add(Figure {
            name: LATENCY,
            unit: "ms",
            measured: p99(&during) - p99(&before),
            goal: Goal::AtMost(5.0),
            control: p99(&again) - p99(&before),
            detail: format!(
                "{:.1} against {:.1} ms end to end; {rollouts} rollouts of two deployments each, one in {:.0} ms; {RATE} records/s, \
                 each of {sent} read once",
                p99(&during),
                p99(&before),
                took.as_secs_f64() * 1e3 / rollouts as f64
            ),
        });
    }
    if options.wants(MEMORY) {
        table.add(Figure {
            name: MEMORY,
            unit: "x RSS",
            measured: after / resident,
            goal: Goal::AtMost(1.05),
            control: settled / after,
            detail: format!(
                "{after:.0} against {resident:.0} MB after the first {warm}; medians of {looks} looks; the control is the next {looks}"
            ),
        });
    }
    Ok(())
}

fn bad(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    let (input, output) = ("bad-in", "bad-out");
    rig.create(input)?;
    rig.create(output)?;
    let file = rig.directory().join("bad.toml");
    let text = format!(
        "name = \"bad\"\n[kafka]\nbootstrap.servers = {:?}\n[input]\ntopics = [{input:?}]\nid = \"key\"\nstart = \"earliest\"\n\
         [parse]\nplugin = {:?}\nconfig = {{ do = \"nothing\" }}\n[classify]\nplugin = {:?}\nconfig = {{ do = \"nothing\" }}\n\
         [output]\ntopic = {output:?}\n[errors]\ndead_letters = \"dead\"\n[limits]\nworkers = 2\n",
        rig.kafka.bootstrap(),
        hostile::hostile("parser")?,
        hostile::hostile("classifier")?,
    );
    fs::write(&file, text)?;
    let daemon = Daemon::start(&file)?;
    let rate = options.sized(BAD_RATE, 1_000);
    let stream = Stream::start(rig, input, rate, rate * 120, "1")?;
    let ages = Ages::of(rig, output, stream.sent.clone())?;
    until_true("the pipeline writes", || Ok(ages.seen.lock().unwrap().len() > rate))?;
    let mut times = Vec::new();
    for round in 0..options.sized(7, 2) {
        let before = daemon.status()?["revision"].as_u64().context("no revision")?;
        let started = Instant::now();
        let reason = format!("round {round}");
        // Where it fails before every worker has taken it the command itself says so.
        let _ = daemon.command(&["deploy", "bad", "--now", "--reason", &reason, "--config", "classify.do=\"trap\""]);
        until_true("the one before runs", || {
            let status = daemon.status()?;
            let workers = status["workers"].as_array().cloned().unwrap_or_default();
            let revisions = workers.iter().map(|worker| &worker["revision"]).chain([&status["revision"]]);
            Ok(revisions.into_iter().all(|revision| revision.as_u64() == Some(before + 2)))
        })?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        // It passes its probation before the next one comes.
        std::thread::sleep(Duration::from_secs(1));
    }
    let letters = daemon.status()?["dead_letters"].as_u64().unwrap_or_default();
    let sent = stream.stop()?;
    let read = ages.finish()?;
    daemon.stop()?;
    ensure!(read.len() == sent && letters == 0, "{} of {sent} records were read, {letters} dead letters", read.len());
    ensure!(read.values().all(|times| *times == 1), "some records were read twice");
    table.add(Figure {
        name: BAD,
        unit: "ms",
        measured: times.iter().copied().fold(0.0, f64::max),
        goal: Goal::AtMost(2_000.0),
        control: median(&times),
        detail: format!(
            "the slowest of {}, with the command's own start; the control is their median; {rate} records/s, each of {sent} read once, \
             no dead letter",
            times.len()
        ),
    });
    Ok(())
}
