//! `sandpiper demo`: flowers stream through a pipeline, their names come later and judge it, and half-way a better
//! model takes over.
//!
//! Everything in it is the product: the pipeline is a TOML text, the daemon is `Daemon`, the swap is `Controller::deploy`
//! and the figures are the status's. Only the flowers, the botanist and, unless a broker is named, the broker are made up.

mod broker;
mod flowers;
mod models;
mod plan;
mod scene;
mod summary;
mod traffic;
mod view;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, Result};

pub use summary::Summary;
pub use view::{Screen, View};

use crate::daemon::{Daemon, Options};
use crate::kafka::topics;
use broker::{Broker, PARTITIONS};
use flowers::{COLUMNS, Flowers};
use models::Models;
use scene::Scene;
use traffic::Traffic;

/// The mock keeps 5 MB a partition, and a prediction takes 350 bytes and its share of a small batch.
pub const MOCK_RECORDS: u64 = 25_000;

/// What the mock is not.
pub const MOCK: &str = "for looking, not for keeping: it drops data past 5 MB a partition, hides no aborted data and applies no \
    transactional offsets, so delivery is at-least-once there";

#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOST:PORT` of a real broker.
    pub kafka: Option<String>,
    /// At least 100.
    pub records: u64,
    /// Records a second, at least 1.
    pub rate: u64,
}

/// Plays it once.
///
/// # Errors
/// When the broker or a plugin does not do what is asked, nothing moves any more, or `stop` is set.
pub fn run(settings: &Settings, view: &mut View, stop: &AtomicBool) -> Result<Summary> {
    let started = Instant::now();
    let home = tempfile::Builder::new().prefix("sandpiper-demo-").tempdir().context("a temporary directory is needed")?;
    let state = home.path().join("state");
    let broker = match &settings.kafka {
        None => Broker::mock()?,
        Some(address) => Broker::at(address)?,
    };
    view.say(&match broker.is_mock {
        true => "broker    a mock within this process: for looking, not for keeping, and at-least-once".into(),
        false => format!("broker    {}, delivery is exactly-once", broker.address),
    });
    let flowers = Flowers::split();
    let models = Models::learn(&flowers.to_learn_from, &state.join("code"))?;
    view.say(&format!(
        "models    {} of 150 flowers taught a tree on the sepals alone, and logistic regression on all {} columns",
        flowers.to_learn_from.len(),
        COLUMNS.len()
    ));
    std::fs::write(home.path().join(plan::MODEL), &models.first.bytes).context("writing the first model")?;
    let plan = plan::plan(&name(&broker), &broker, models.first.plugin, home.path())?;
    let names: Vec<String> = topics::of(&plan).into_iter().map(str::to_owned).collect();
    broker.create_topics(&topics::of(&plan))?;
    view.say(&format!("topics    {}, {PARTITIONS} partitions each", names.join(", ")));
    if !broker.is_mock {
        view.say(&format!("          they stay there, their records for a day, or until: {}", deletion(&broker.address, &names)));
    }
    let measurements = plan.input.topics.first().cloned().unwrap_or_default();
    let labels = plan.feedback.as_ref().map(|feedback| feedback.labels.clone()).unwrap_or_default();
    let daemon = Daemon::start(vec![plan], &Options { state, instance: None })?;
    let traffic = Traffic {
        producer: &broker.producer,
        measurements: &measurements,
        labels: &labels,
        flowers: &flowers.to_stream,
        records: settings.records,
        rate: settings.rate,
        stop: &AtomicBool::new(false),
        swapped: &AtomicBool::new(false),
    };
    let status = Scene { daemon: &daemon, traffic: &traffic, better: &models.better, stop }.play(view);
    view.end();
    daemon.stop();
    let address = if broker.is_mock { "mock" } else { &broker.address };
    Ok(Summary::new(address.to_owned(), names, status?, started.elapsed().as_secs_f64()))
}

/// The command that takes away what a run left.
pub fn deletion(broker: &str, topics: &[String]) -> String {
    let name = topics.first().and_then(|topic| topic.rsplit_once('.')).map_or("", |(name, _)| name);
    format!("kafka-topics.sh --bootstrap-server {broker} --delete --topic '{name}\\..*'")
}

/// On somebody's own broker no run meets another's records.
fn name(broker: &Broker) -> String {
    if broker.is_mock {
        return "iris".into();
    }
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("sandpiper-demo-{}", unique.get(..8).unwrap_or_default())
}
