//! One description of a loop: all that the supervisor needs to start it, to watch it and to stop it.

use std::sync::Arc;

use crate::config::plan::{Guarantee, Plan, Properties, Start};
use crate::kafka::properties::{self, Assignor};
use crate::kafka::sink::SinkSettings;
use crate::kafka::source::BatchLimits;
use crate::kafka::{members, topics};
use crate::record::Topics;
use crate::stream::fault::Fault;
use crate::stream::process::Process;
use crate::stream::transaction::Bounds;
use crate::stream::worker::Handles;

/// A loop: where its records come from, what is made of them, and where that goes.
pub struct LoopSpec<P: Process> {
    /// `iris/0`: its thread's name, and its name in the log.
    pub name: String,
    /// What the cluster lacks for it, which is asked before each start.
    pub lacks: Lacks,
    /// Of one read of its source.
    pub batch: BatchLimits,
    pub source: SourceSettings,
    pub sink: SinkSettings,
    /// Of its transactions.
    pub bounds: Bounds,
    /// What it runs first.
    pub process: P,
    /// What it shares with whoever has it started.
    pub handles: Handles<P>,
    /// Whether it is over when the cluster denies it something: for one whose end somebody waits for.
    pub ends_when_denied: bool,
    /// Whether it tries again whatever it meets: what it needs it makes itself.
    pub persists: bool,
    /// Called when it runs no more.
    pub ended: Ended,
}

/// Everything that must be there before a loop starts and is not, each with its fix.
pub type Lacks = Box<dyn Fn() -> Result<Vec<String>, Fault> + Send>;

/// Whether a pipeline's topics are there.
pub fn lacks(plan: &Arc<Plan>) -> Lacks {
    let plan = plan.clone();
    Box::new(move || topics::problems(&plan))
}

/// Is given the fault that only a person can mend, if that ended the loop.
pub type Ended = Box<dyn FnOnce(Option<&Fault>) + Send>;

/// What a consumer is made of.
pub struct SourceSettings {
    pub properties: Properties,
    /// The loop's input topics.
    pub topics: Topics,
    /// Where a partition without a committed offset starts.
    pub start: Start,
}

/// What the clients of one daemon are called, so that brokers and people can tell them from others'.
#[derive(Clone, Debug)]
pub struct ClientNames {
    instance: String,
}

impl ClientNames {
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned() }
    }

    pub fn consumer(&self, plan: &Plan, group: &str, assignor: Assignor) -> Properties {
        self.named(plan, properties::consumer(plan, group, assignor))
    }

    pub fn producer(&self, plan: &Plan) -> Properties {
        self.named(plan, properties::producer(plan))
    }

    /// `role` is the loop's within its pipeline; `None` is at-least-once.
    pub fn transactional_id(&self, plan: &Plan, role: &str, slot: usize) -> Option<String> {
        let exactly_once = plan.delivery.guarantee == Guarantee::ExactlyOnce;
        exactly_once.then(|| format!("{}.{role}.{}.{slot}", plan.name, self.instance))
    }

    /// A name that the user chose stands.
    fn named(&self, plan: &Plan, mut properties: Properties) -> Properties {
        if !plan.kafka.0.contains_key("client.id") {
            properties.0.insert("client.id".into(), members::client_id(&self.instance));
        }
        properties
    }
}
