//! A pipeline's main loop: its input through its stages, one worker of several.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::loop_spec::{ClientNames, LoopSpec, SourceSettings, lacks};
use crate::config::plan::Plan;
use crate::control::staging::sink_topics;
use crate::kafka::properties::Assignor;
use crate::kafka::sink::{Holder, PartitionCounts, SinkSettings};
use crate::pipeline::Pipeline;
use crate::record::Topics;
use crate::stream::worker::Handles;

/// What it runs waits in its slot: control has left it there.
///
/// # Errors
/// When it does not.
pub fn spec(plan: &Arc<Plan>, names: &ClientNames, handles: Handles<Pipeline>) -> Result<LoopSpec<Pipeline>> {
    let name = format!("{}/{}", plan.name, handles.worker);
    let process = handles.slot.take().with_context(|| format!("{name} has nothing to run"))?;
    let topics = Topics::new(&plan.input.topics);
    Ok(LoopSpec {
        name,
        source: SourceSettings {
            properties: names.consumer(plan, &plan.input.group, Assignor::CooperativeSticky),
            topics: topics.clone(),
            start: plan.input.start,
        },
        sink: SinkSettings {
            properties: names.producer(plan),
            transactional_id: names.transactional_id(plan, "main", handles.worker),
            holder: Holder::Worker,
            topics: sink_topics(plan),
            inputs: topics,
            group: plan.input.group.clone(),
            counts: PartitionCounts::default(),
        },
        bounds: (&**plan).into(),
        batch: (&plan.limits).into(),
        lacks: lacks(plan),
        process,
        handles,
        ends_when_denied: false,
        persists: false,
        ended: Box::new(|_| {}),
    })
}
