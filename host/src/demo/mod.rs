//! `sandpiper demo`: flowers stream through a pipeline, labels come later and score it, and half-way a better model takes over.
//!
//! It is the product that is shown, and nothing that stands in for it: the pipeline is a TOML text, the daemon is `Daemon`, the
//! swap is `Controller::deploy`, and the figures are those of the status. Only the records, the labels and, unless a broker is
//! named, the broker are made up.

mod broker;
mod flowers;
mod malformed;
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
use broker::Broker;
use flowers::Flowers;
use models::Models;
use sandpiper_sandbox::Compiler;
use scene::Scene;
use traffic::Traffic;

/// The mock keeps 5 MB a partition, and a prediction takes 350 bytes and its share of a small batch.
pub const MOCK_RECORDS: u64 = 25_000;

/// What a reader should know of the mock broker.
const MOCK_NOTICE: &str = "\
broker    a mock within this process, for looking and not for keeping: it drops
          data past 5 MB a partition, hides no aborted data and applies no
          transactional offsets, so delivery is at-least-once here";

#[derive(Clone)]
pub struct Settings {
    /// `HOST:PORT` of a real broker.
    pub kafka: Option<String>,
    /// At least 100.
    pub records: u64,
    /// Records a second, at least 1.
    pub rate: u64,
    /// How plugins are compiled.
    pub compiler: Compiler,
}

/// Runs the demonstration once.
///
/// # Errors
/// When the broker or a plugin does not do what is asked, nothing moves any more, or `stop` is set.
pub fn run(settings: &Settings, view: &mut View, stop: &AtomicBool) -> Result<Summary> {
    let started = Instant::now();
    let directory =
        tempfile::Builder::new().prefix("sandpiper-demo-").tempdir().context("a temporary directory is needed")?;
    let state = directory.path().join("state");
    let broker = match &settings.kafka {
        None => Broker::mock()?,
        Some(address) => Broker::at(address)?,
    };
    view.say(&match broker.is_mock {
        true => MOCK_NOTICE.to_owned(),
        false => format!("broker    {}, delivery is exactly-once", broker.address),
    });
    let flowers = Flowers::split();
    let compiler = settings.compiler.clone();
    let models = Models::train(&flowers.training, &state.join("code"), compiler.clone())?;
    let training = flowers.training.len();
    view.say(&format!("models    {training} of 150 flowers taught a tree on the sepals, and a better model"));
    std::fs::write(directory.path().join(plan::MODEL), &models.first.bytes).context("writing the first model")?;
    let plan = plan::plan(&pipeline_name(&broker), &broker, models.first.plugin, directory.path())?;
    let topic_names: Vec<String> = topics::of(&plan).into_iter().map(str::to_owned).collect();
    broker.create_topics(&topics::of(&plan))?;
    view.say(&format!("topics    {}", shortened(&topic_names)));
    if !broker.is_mock {
        view.say(&format!(
            "          They stay, their records for a day, or until you delete them:\n          {}",
            deletion(&broker.address, &topic_names)
        ));
    }
    let measurements = plan.input.topics.first().cloned().unwrap_or_default();
    let labels = plan.feedback.as_ref().map(|feedback| feedback.labels.clone()).unwrap_or_default();
    let options = Options { state, instance: None, dev: false, compiler, control: None };
    let daemon = Daemon::open(vec![plan], &options)?;
    let running = daemon.start();
    let traffic = Traffic {
        producer: &broker.producer,
        measurements: &measurements,
        labels: &labels,
        flowers: &flowers.streamed,
        records: settings.records,
        rate: settings.rate,
        stop: &AtomicBool::new(false),
        swapped: &AtomicBool::new(false),
    };
    let status =
        running.and_then(|()| Scene { daemon: &daemon, traffic: &traffic, better: &models.better, stop }.play(view));
    view.end();
    daemon.stop();
    let address = if broker.is_mock { "mock" } else { &broker.address };
    Ok(Summary::new(address.to_owned(), topic_names, status?, started.elapsed().as_secs_f64()))
}

/// The topics on one line: `iris.measurements, .predictions, .labels`.
fn shortened(topics: &[String]) -> String {
    let (first, others) = topics.split_first().map_or(("", topics), |(first, others)| (first.as_str(), others));
    let others = others.iter().filter_map(|topic| topic.rsplit_once('.')).map(|(_, noun)| format!(", .{noun}"));
    std::iter::once(first.to_owned()).chain(others).collect()
}

/// The command that deletes a run's topics.
pub fn deletion(broker: &str, topics: &[String]) -> String {
    let name = topics.first().and_then(|topic| topic.rsplit_once('.')).map_or("", |(name, _)| name);
    format!("kafka-topics.sh --bootstrap-server {broker} --delete --topic '{name}\\..*'")
}

/// The pipeline's name; on a user's own broker a new one each time, so that no run meets another's records.
fn pipeline_name(broker: &Broker) -> String {
    if broker.is_mock {
        return "iris".into();
    }
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("sandpiper-demo-{}", unique.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_an_outcome_and_every_prediction_a_label() {
        let settings = Settings { kafka: None, records: 400, rate: 400, compiler: Compiler::InProcess };
        let mut view = View::unseen(settings.records);
        let summary = run(&settings, &mut view, &AtomicBool::new(false)).unwrap();
        assert_eq!((summary.records, summary.predictions, summary.scored), (400, 396, 396), "{summary}");
        let reasons = ["column-count", "invalid-utf8", "not-a-number", "null-value"];
        assert_eq!(summary.dead_letters, reasons.map(|reason| (reason.to_owned(), 1)).into());
        let [before, after] = summary.revisions.as_slice() else { panic!("{summary}") };
        assert_eq!(before.records + after.records, 400, "{summary}");
        assert!(before.accuracy < after.accuracy, "{summary}");
        assert_eq!(summary.swap_pause_us.len(), 1);
    }

    #[test]
    fn an_early_end_is_an_error_that_says_so() {
        let settings = Settings { kafka: None, records: 400, rate: 1, compiler: Compiler::InProcess };
        let mut view = View::unseen(settings.records);
        let error = run(&settings, &mut view, &AtomicBool::new(true)).unwrap_err();
        assert!(error.to_string().contains("ended before its time"), "{error:#}");
    }
}
