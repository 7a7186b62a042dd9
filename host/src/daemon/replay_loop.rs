//! A replay of dead letters: a loop of the usual kind in a group of its own, which ends when its last letter is done.

use std::sync::Arc;

use super::loop_spec::{ClientNames, LoopSpec, SourceSettings, lacks};
use crate::config::plan::{Guarantee, Plan, Start};
use crate::control::staging::sink_topics;
use crate::kafka::properties::Assignor;
use crate::kafka::sink::{Holder, PartitionCounts, Placement, SinkSettings};
use crate::record::Topics;
use crate::replay::process::{Replay, Shared};
use crate::stream::hold::{Hold, WorkerEvent};
use crate::stream::stop::Stop;
use crate::stream::transaction::Bounds;
use crate::stream::worker::Handles;

/// `plan` is the pipeline's, as the replay has changed it.
pub fn spec(
    mut plan: Plan,
    names: &ClientNames,
    process: Replay,
    handles: Handles<Replay>,
    progress: Shared,
) -> LoopSpec<Replay> {
    // A letter carries headers of ours beside its record's, which may have ours before their names.
    plan.limits.max_headers += 64;
    plan.limits.max_header_bytes += (64 << 10) + 64 * plan.limits.max_headers;
    // Whatever the pipeline promises: a letter and the note of it are written together, so that none is replayed twice.
    plan.delivery.guarantee = Guarantee::ExactlyOnce;
    let group = format!("sandpiper.{}.replay.{}", plan.name, uuid::Uuid::new_v4());
    let mut topics = sink_topics(&plan);
    for topic in topics.iter_mut() {
        if topic.placement == Placement::Input {
            // The record's own partition; the dead letters' topic may have fewer.
            topic.placement = Placement::Folded;
        }
    }
    let inputs = Topics::new([&plan.errors.dead_letters]);
    let mut consumer = names.consumer(&plan, &group, Assignor::Range);
    // Its last letter may be gone by the time: then the end of the partition tells that nothing more comes.
    consumer.0.insert("enable.partition.eof".into(), "true".into());
    let stop = handles.stop.clone();
    LoopSpec {
        name: format!("{}/replay", plan.name),
        source: SourceSettings { properties: consumer, topics: inputs.clone(), start: Start::Earliest },
        sink: SinkSettings {
            properties: names.producer(&plan),
            // One for all daemons: Kafka lets the last that asks go on.
            transactional_id: Some(format!("{}.replay", plan.name)),
            holder: Holder::Work,
            topics,
            inputs,
            group,
            counts: PartitionCounts::default(),
        },
        // What fails again is expected to.
        bounds: Bounds { pause_above: 1.0, ..(&plan).into() },
        batch: (&plan.limits).into(),
        lacks: lacks(&Arc::new(plan)),
        process,
        handles,
        ends_when_denied: true,
        persists: false,
        ended: Box::new(move |fault| {
            progress.change(|progress| {
                progress.running = false;
                // It sets its own when its last letter is done.
                let stopped = (fault.is_none() && !stop.is_set_itself()).then(|| "the daemon stopped".to_owned());
                progress.error = progress.error.take().or(fault.map(ToString::to_string)).or(stopped);
            });
        }),
    }
}

/// Ends the replay with the reason when its release fails or a record asks for a stop: nobody would resume it.
pub fn hold(progress: Shared, stop: Stop) -> Hold {
    Hold::new(false, move |event| match event {
        WorkerEvent::Failed { why, .. } => end(&progress, &stop, why),
        WorkerEvent::Paused(pause) => end(&progress, &stop, pause.why),
        WorkerEvent::Passed { .. }
        | WorkerEvent::Adopt { .. }
        | WorkerEvent::Outrun { .. }
        | WorkerEvent::Runs { .. } => {}
    })
}

fn end(progress: &Shared, stop: &Stop, why: String) {
    progress.change(|progress| progress.error = Some(why));
    stop.set();
}
