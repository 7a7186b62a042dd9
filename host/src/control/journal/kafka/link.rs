//! Sends this daemon's commands, and knows how it stands with those who decide.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use sandpiper_sandbox::Digest;

use super::{artifacts, commands};
use crate::config::daemon::Control;
use crate::control::command::{Action, Command, CommandId};
use crate::control::directory::StateDirectory;
use crate::control::fold::Artifact;
use crate::control::journal::{Link, Sent};
use crate::kafka::properties;
use crate::stream::fault::Fault;

/// What this daemon knows of the control topics; shared by the loop that may decide, the follower and whoever reports.
#[derive(Default)]
pub struct Standing {
    decides: AtomicBool,
    /// It has read what was decided to its end once.
    follows: AtomicBool,
    /// Of the brokers; it passes.
    trouble: ArcSwapOption<String>,
    /// A record that this program does not understand; that does not.
    unknown: ArcSwapOption<String>,
}

impl Standing {
    /// Whether this daemon decides for all.
    pub fn decides_here(&self) -> bool {
        self.decides.load(Ordering::Relaxed)
    }

    pub(super) fn decides(&self, decides: bool) {
        self.decides.store(decides, Ordering::Relaxed);
    }

    /// Whether it has heard what was decided so far.
    pub fn has_caught_up(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    pub(super) fn caught_up(&self) {
        self.follows.store(true, Ordering::Relaxed);
        self.trouble.store(None);
    }

    /// Why what is decided cannot be read at the moment.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.unknown.load_full().or_else(|| self.trouble.load_full())
    }

    pub(super) fn is_in_trouble(&self, why: String) {
        self.trouble.store(Some(Arc::new(why)));
    }

    pub(super) fn is_well(&self) {
        self.trouble.store(None);
    }

    pub(super) fn does_not_understand(&self, why: String) {
        self.unknown.store(Some(Arc::new(why)));
    }
}

/// A producer of commands.
#[derive(Clone)]
struct Commands {
    producer: Arc<ThreadedProducer<Deliveries>>,
    topic: String,
    daemon: String,
}

/// Puts artifacts of this daemon's where the others take them.
#[derive(Clone)]
pub struct Giver {
    control: Control,
    directory: Arc<StateDirectory>,
    /// One at a time: all have one transactional id.
    giving: Arc<Mutex<()>>,
}

pub struct KafkaLink {
    commands: Commands,
    pub giver: Giver,
    standing: Arc<Standing>,
}

struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        sent(match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.to_string()),
        });
    }
}

impl KafkaLink {
    /// # Errors
    /// When librdkafka refuses the properties.
    pub fn new(control: &Control, directory: &Arc<StateDirectory>, standing: Arc<Standing>) -> Result<Self, Fault> {
        let config: rdkafka::ClientConfig = properties::commands(control).0.into_iter().collect();
        let producer = config
            .create_with_context(Deliveries)
            .map_err(|error| Fault::Configuration(format!("[control.kafka]: {error}")))?;
        let daemon = directory.instance().to_owned();
        let commands = Commands { producer: Arc::new(producer), topic: control.commands(), daemon };
        let giver = Giver { control: control.clone(), directory: directory.clone(), giving: Arc::default() };
        Ok(Self { commands, giver, standing })
    }
}

impl Giver {
    /// Gives one to the artifacts' topic.
    ///
    /// # Errors
    /// When it cannot be read here, or cannot be written there.
    pub fn give(&self, pipeline: &str, digest: Digest) -> anyhow::Result<Artifact> {
        let _alone = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.directory.artifact(digest)?;
        let id = format!("{}.artifacts.{}", self.control.topics, self.directory.instance());
        let producer = properties::artifacts(&self.control, &id);
        artifacts::give(&producer, &self.control.artifacts(), pipeline, digest, &bytes)
    }
}

impl KafkaLink {
    /// Says something that nobody waits for.
    pub fn report(&self, pipeline: &str, action: Action) {
        self.commands.report(pipeline, action);
    }
}

impl Commands {
    fn report(&self, pipeline: &str, action: Action) {
        let command = Command { id: CommandId(0), from: self.daemon.clone(), by: None, against: None, action };
        self.send(pipeline, &command, Box::new(|_| {}));
    }

    fn send(&self, pipeline: &str, command: &Command, sent: Sent) {
        let value = match commands::write(command) {
            Ok(value) => value,
            Err(refused) => return fail(sent, refused.to_string()),
        };
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(sent)).key(pipeline).payload(&value).partition(0);
        if let Err((error, record)) = self.producer.send(record) {
            let why = match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => "more commands wait for the brokers than may".to_owned(),
                _ => error.to_string(),
            };
            fail(*record.delivery_opaque, why);
        }
    }
}

impl Link for KafkaLink {
    fn send(&self, pipeline: &str, command: &Command, sent: Sent) {
        self.commands.send(pipeline, command, sent);
    }

    fn share(&self, pipeline: &str, artifacts: Vec<Digest>) {
        let (giver, commands, pipeline) = (self.giver.clone(), self.commands.clone(), pipeline.to_owned());
        std::thread::spawn(move || {
            for digest in artifacts {
                match giver.give(&pipeline, digest) {
                    Ok(artifact) => commands.report(&pipeline, Action::Shared { digest, artifact }),
                    Err(error) => {
                        let why = format!("{error:#}");
                        tracing::warn!(pipeline, why, "another daemon may not be able to take an artifact");
                    }
                }
            }
        });
    }

    fn daemon(&self) -> &str {
        &self.commands.daemon
    }

    fn decides_here(&self) -> bool {
        self.standing.decides_here()
    }
}

/// Says so on another thread: whoever sends may be the one that hears.
fn fail(sent: Sent, why: String) {
    std::thread::spawn(move || sent(Err(why)));
}

impl Drop for KafkaLink {
    fn drop(&mut self) {
        // What a worker has said last, as that it runs nothing any more, is worth a moment.
        let _ = self.commands.producer.flush(std::time::Duration::from_secs(2));
    }
}
