//! The loop that decides for all daemons that share the control topics: of its group's members one has the commands' one partition.

use std::sync::Arc;
use std::time::Duration;

use super::loop_spec::{LoopSpec, SourceSettings};
use crate::config::daemon::Control;
use crate::config::plan::Start;
use crate::control::journal::kafka::decider::Decider;
use crate::control::journal::kafka::link::Standing;
use crate::control::journal::kafka::topics;
use crate::kafka::members;
use crate::kafka::properties;
use crate::kafka::raw::HeaderLimits;
use crate::kafka::sink::{Holder, PartitionCounts, Placement, SinkSettings, SinkTopic};
use crate::kafka::source::BatchLimits;
use crate::record::{Routes, Topics};
use crate::stream::transaction::Bounds;
use crate::stream::worker::Handles;

/// A command is decided as soon as it comes.
const INTERVAL: Duration = Duration::from_millis(1);
/// A transaction's time. What is decided takes milliseconds, and the brokers the rest.
const BUDGET: Duration = Duration::from_secs(15);
/// Commands that are decided together, and their bytes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 8 << 20;

pub fn spec(
    control: &Control,
    instance: &str,
    standing: Arc<Standing>,
    handles: Handles<Decider>,
) -> LoopSpec<Decider> {
    let group = format!("{}.controller", control.topics);
    let commands = Topics::new([&control.commands()]);
    let to = |name: String| SinkTopic { name, placement: Placement::Folded };
    let mut consumer = properties::decider(control, &group);
    let mut producer = properties::producer(control);
    for properties in [&mut consumer, &mut producer] {
        if !control.kafka.0.contains_key("client.id") {
            properties.0.insert("client.id".into(), members::client_id(instance));
        }
    }
    // What is written is small, and waited for.
    producer.0.insert("linger.ms".into(), "0".into());
    let made = control.clone();
    LoopSpec {
        name: "controller".into(),
        source: SourceSettings { properties: consumer, topics: commands.clone(), start: Start::Earliest },
        sink: SinkSettings {
            properties: producer,
            transactional_id: Some(group.clone()),
            holder: Holder::Owner,
            topics: Routes {
                output: to(control.deployments()),
                // Nothing of it is a dead letter: a command that cannot be decided is refused.
                dead_letters: to(control.deployments()),
                named: vec![to(control.artifacts())],
            },
            inputs: commands,
            group,
            counts: PartitionCounts::default(),
        },
        bounds: Bounds { interval: INTERVAL, records: BATCH, bytes: BATCH_BYTES, budget: BUDGET, pause_above: 1.0 },
        batch: BatchLimits { records: BATCH, bytes: BATCH_BYTES, headers: HeaderLimits::NONE },
        lacks: Box::new(move || topics::make(&made).map(|()| Vec::new())),
        process: Decider::new(properties::reader(control, "control"), control.deployments(), standing),
        handles,
        ends_when_denied: false,
        persists: true,
        ended: Box::new(|_| {}),
    }
}
