//! A pipeline's feedback loop: its predictions and the labels that arrive for them, joined and scored.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::loop_spec::{ClientNames, LoopSpec, SourceSettings, lacks};
use super::running::RunningFeedback;
use crate::config::plan::{self, Plan, Start};
use crate::feedback::{Feedback, Settings};
use crate::kafka::properties::Assignor;
use crate::kafka::sink::{Holder, PartitionCounts, Placement, SinkSettings, SinkTopic};
use crate::record::{Routes, Topics};
use crate::stream::state::Empty;
use crate::stream::transaction::Bounds;

/// What scores first waits in its slot: control has left it there.
///
/// # Errors
/// When it does not.
pub fn spec(
    plan: &Arc<Plan>,
    feedback: &plan::Feedback,
    names: &ClientNames,
    instance: &str,
    running: &RunningFeedback,
) -> Result<LoopSpec<Feedback>> {
    let name = format!("{}/feedback", plan.name);
    let handles = running.handles.clone();
    let scorer = handles.slot.take().with_context(|| format!("{name} has nothing to score with"))?;
    let (topics, [predictions, _]) = Topics::of([&plan.output.topic, &feedback.labels]);
    let counts = PartitionCounts::default();
    let settings = Settings::new(feedback, plan, predictions, instance, counts.clone());
    Ok(LoopSpec {
        name,
        source: SourceSettings {
            // Predictions and labels of one partition number must come to one member.
            properties: names.consumer(plan, &feedback.group, Assignor::Range),
            topics: topics.clone(),
            start: Start::Earliest,
        },
        sink: SinkSettings {
            properties: names.producer(plan),
            transactional_id: names.transactional_id(plan, "feedback", 0),
            holder: Holder::Worker,
            topics: Routes {
                output: SinkTopic { name: feedback.scores.clone(), placement: Placement::Input },
                dead_letters: SinkTopic { name: plan.errors.dead_letters.clone(), placement: Placement::Folded },
                named: Vec::new(),
            },
            inputs: topics,
            group: feedback.group.clone(),
            counts: counts.clone(),
        },
        // Nobody could resume it, and what is wrong with labels is counted by kind.
        bounds: Bounds { pause_above: 1.0, ..(&**plan).into() },
        batch: (&plan.limits).into(),
        lacks: lacks(plan),
        process: Feedback::new(settings, scorer, Box::new(Empty), running.figures.clone()),
        handles,
        ends_when_denied: false,
        persists: false,
        ended: Box::new(|_| {}),
    })
}
