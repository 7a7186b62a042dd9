//! A pipeline's feedback loop: its predictions and the labels that arrive for them, joined and scored.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use sandpiper_sandbox::stage::WasmScorer;

use super::loop_spec::{ClientNames, LoopSpec, SourceSettings};
use crate::config::plan::{self, Plan, Start};
use crate::control::staging::{Stager, limits};
use crate::feedback::{Feedback, Figures, Settings};
use crate::kafka::properties::Assignor;
use crate::kafka::sink::{PartitionCounts, Placement, SinkSettings, SinkTopic};
use crate::record::{Routes, Topics};
use crate::stream::state::Empty;
use crate::stream::transaction::Bounds;
use crate::stream::worker::Handles;

/// # Errors
/// When the scorer cannot be opened.
pub fn spec(
    plan: &Arc<Plan>,
    feedback: &plan::Feedback,
    names: &ClientNames,
    stager: &Stager,
    figures: Figures,
    handles: Handles<Feedback>,
) -> Result<LoopSpec<Feedback>> {
    let release = stager.release(&feedback.score)?;
    let scorer = WasmScorer::open(stager.plugin(&release)?, limits(plan), stager.opening(plan, &release)?)
        .with_context(|| format!("pipeline {}, stage score", plan.name))?;
    let (topics, [predictions, _]) = Topics::of([&plan.output.topic, &feedback.labels]);
    let counts = PartitionCounts::default();
    let settings = Settings::new(feedback, plan, predictions, stager.instance(), release.label(), counts.clone());
    Ok(LoopSpec {
        name: format!("{}/feedback", plan.name),
        source: SourceSettings {
            // Predictions and labels of one partition number must come to one member.
            properties: names.consumer(plan, &feedback.group, Assignor::Range),
            topics: topics.clone(),
            start: Start::Earliest,
        },
        sink: SinkSettings {
            properties: names.producer(plan),
            transactional_id: names.transactional_id(plan, "feedback", 0),
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
        plan: plan.clone(),
        process: Feedback::new(settings, Box::new(scorer), Box::new(Empty), figures),
        handles,
        ends_when_denied: false,
        ended: Box::new(|_| {}),
    })
}
