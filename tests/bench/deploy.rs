//! From the deploy command to the first record that the new revision made, read by a consumer.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::ClientConfig;
use rdkafka::message::Message as _;
use sandpiper_sandbox::stock;

use crate::daemon::Daemon;
use crate::measure::{median, take_turns};
use crate::options::Options;
use crate::rig::Rig;
use crate::stream::{self, Stream};
use crate::support::flowers::ROW;
use crate::table::{Figure, Goal, Table};

const DEPLOY: &str = "deploy: command to first record, plugin not yet compiled";
pub const NAMES: &[&str] = &[DEPLOY];

/// Records a second meanwhile.
const RATE: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(DEPLOY) {
        return Ok(());
    }
    let (input, output) = ("deploy-in", "deploy-out");
    rig.create(input)?;
    rig.create(output)?;
    let file = rig.directory().join("deploy.toml");
    fs::write(&file, rig.pipeline("deploy", input, output, ""))?;
    let daemon = Daemon::start(&file)?;
    // More than are needed: it is stopped.
    let stream = Stream::start(rig, input, RATE, RATE * 600, ROW)?;
    let first_of = firsts(rig.client(), output)?;
    first_of.recv_timeout(PATIENCE).context("the pipeline writes nothing")?;
    let deploy = |stage: &str, plugin: &str, tag: String| -> Result<f64> {
        let path = unique(rig, plugin, &tag)?;
        // The stream settles between two deployments.
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        daemon.command(&["deploy", "deploy", stage, &path.to_string_lossy(), "--reason", &tag])?;
        let (_, at) = first_of.recv_timeout(PATIENCE).context("no record of the new revision")?;
        Ok((at - started).as_secs_f64() * 1e3)
    };
    let sides = take_turns(
        options.sized(15, 2),
        &mut [
            &mut |round| deploy("--classify", "logistic", format!("a{round}")),
            &mut |round| deploy("--parse", "csv", format!("b{round}")),
            &mut |round| deploy("--classify", "logistic", format!("c{round}")),
        ],
    )?;
    stream.stop()?;
    daemon.stop()?;
    let [logistic, csv, again] = sides.as_slice() else { unreachable!("three sides") };
    table.add(Figure {
        name: DEPLOY,
        unit: "ms",
        measured: median(logistic),
        goal: Goal::AtMost(500.0),
        control: median(again),
        detail: format!(
            "median of {} deployments of logistic, slowest {:.0} ms; of csv {:.0} ms; {RATE} records/s meanwhile",
            logistic.len(),
            logistic.iter().chain(again).copied().fold(0.0, f64::max),
            median(csv),
        ),
    });
    Ok(())
}

/// The first record of each revision, as a reader of that topic meets it.
fn firsts(mut client: ClientConfig, topic: &'static str) -> Result<mpsc::Receiver<(u64, Instant)>> {
    let (seen, first_of) = mpsc::channel();
    std::thread::Builder::new().name("reader".into()).spawn(move || {
        let mut newest = 0;
        stream::read(&mut client, topic, |message| {
            let revision = message.and_then(|message| stream::revision(message.payload()?)).unwrap_or_default();
            if revision <= newest {
                return false;
            }
            newest = revision;
            // Nobody listens any more when all is measured.
            seen.send((revision, Instant::now())).is_err()
        })
    })?;
    Ok(first_of)
}

/// A stock plugin that no cache has seen: with a custom section behind it.
pub fn unique(rig: &Rig, plugin: &str, tag: &str) -> Result<PathBuf> {
    let mut bytes = stock::component(plugin).context("no such stock plugin")?.to_vec();
    let name = b"unique";
    let content = tag.as_bytes();
    // Section 0: its size, the name's size, the name, the content; all sizes are below 128, so one byte each.
    bytes.extend([0, (1 + name.len() + content.len()) as u8, name.len() as u8]);
    bytes.extend(name);
    bytes.extend(content);
    // The file's name is the release's: the configuration is kept while it stays the same.
    let folder = rig.directory().join(tag);
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{plugin}.wasm"));
    fs::write(&file, bytes)?;
    Ok(file)
}
