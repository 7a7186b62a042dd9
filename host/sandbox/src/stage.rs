//! A plugin's place in a pipeline. Traits, so that a stage can be a component, a native loop in a benchmark or
//! a fake in a test; the pipeline cannot tell.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::batch::Batch;
use crate::instance::{Instance, Opening};
use crate::wit::latest::{self, Column, Judgement, Matrix, Outcome, Parsed, Predictions, Signature, Transformed};
use crate::{Failure, FailureKind, Limits, Plugin, answers};

/// Answers keep the rules of `wasm::answers`; a failure concerns the whole call.
pub trait Parse: Send {
    fn parse(&mut self, batch: &Batch, deadline: Duration) -> Result<Parsed, Failure>;
}

pub trait Classify: Send {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure>;
}

pub trait Transform: Send {
    fn transform(&mut self, batch: &Batch, deadline: Duration) -> Result<Transformed, Failure>;
}

pub trait Score: Send {
    fn score(
        &mut self,
        classes: &[String],
        outcomes: &[Outcome],
        deadline: Duration,
    ) -> Result<Vec<Judgement>, Failure>;
}

/// A parser component.
pub struct WasmParser {
    instance: Instance<latest::parser::ParserPlugin>,
    columns: usize,
}

impl WasmParser {
    /// # Errors
    /// When the plugin cannot be opened as a parser, or answers columns that break the rules.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<(Self, Vec<Column>)> {
        let (instance, columns): (_, Vec<Column>) = Instance::open(plugin, limits, opening)?;
        answers::columns(&columns).map_err(|error| broke_rules(&instance, &error))?;
        Ok((Self { instance, columns: columns.len() }, columns))
    }
}

impl Parse for WasmParser {
    fn parse(&mut self, batch: &Batch, deadline: Duration) -> Result<Parsed, Failure> {
        let parsed = self.instance.call(deadline, Some(&batch.rows), |guest, store| {
            guest.sandpiper_plugin_parser().call_parse(store, &batch.raw)
        })?;
        let check = answers::parsed(&parsed, batch.len(), self.columns);
        checked(&mut self.instance, parsed, check)
    }
}

/// A classifier component.
pub struct WasmClassifier {
    instance: Instance<latest::classifier::ClassifierPlugin>,
    classes: usize,
    columns: usize,
}

impl WasmClassifier {
    /// # Errors
    /// When the plugin cannot be opened as a classifier, refuses its model, or answers a signature that breaks the rules.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<(Self, Signature)> {
        let (instance, signature) = Instance::open(plugin, limits, opening)?;
        answers::signature(&signature).map_err(|error| broke_rules(&instance, &error))?;
        Ok((Self { instance, classes: signature.classes.len(), columns: signature.columns.len() }, signature))
    }
}

impl Classify for WasmClassifier {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure> {
        let predictions = self
            .instance
            .call(deadline, None, |guest, store| guest.sandpiper_plugin_classifier().call_classify(store, rows))?;
        let check = answers::predictions(&predictions, rows.values.len() / self.columns.max(1), self.classes);
        checked(&mut self.instance, predictions, check)
    }
}

/// A transform component.
pub struct WasmTransform {
    instance: Instance<latest::transform::TransformPlugin>,
    outputs: usize,
}

impl WasmTransform {
    /// # Errors
    /// When the plugin cannot be opened as a transform, or answers outputs that break the rules.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<(Self, Vec<String>)> {
        let (instance, outputs): (_, Vec<String>) = Instance::open(plugin, limits, opening)?;
        answers::outputs(&outputs).map_err(|error| broke_rules(&instance, &error))?;
        Ok((Self { instance, outputs: outputs.len() }, outputs))
    }
}

impl Transform for WasmTransform {
    fn transform(&mut self, batch: &Batch, deadline: Duration) -> Result<Transformed, Failure> {
        let transformed = self.instance.call(deadline, Some(&batch.rows), |guest, store| {
            guest.sandpiper_plugin_transform().call_transform(store, &batch.raw)
        })?;
        let check = answers::transformed(&transformed, batch.len(), self.outputs);
        checked(&mut self.instance, transformed, check)
    }
}

/// A scorer component.
pub struct WasmScorer(Instance<latest::scorer::ScorerPlugin>);

impl WasmScorer {
    /// # Errors
    /// When the plugin cannot be opened as a scorer.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<Self> {
        Ok(Self(Instance::open(plugin, limits, opening)?.0))
    }
}

impl Score for WasmScorer {
    fn score(
        &mut self,
        classes: &[String],
        outcomes: &[Outcome],
        deadline: Duration,
    ) -> Result<Vec<Judgement>, Failure> {
        let judgements = self.0.call(deadline, None, |guest, store| {
            guest.sandpiper_plugin_scorer().call_score(store, classes, outcomes)
        })?;
        let check = answers::judgements(&judgements, outcomes);
        checked(&mut self.0, judgements, check)
    }
}

fn broke_rules<W: crate::instance::World>(instance: &Instance<W>, error: &str) -> anyhow::Error {
    anyhow!("plugin {} answered open against the rules: {error}", instance.plugin().name)
}

fn checked<W: crate::instance::World, T>(
    instance: &mut Instance<W>,
    answer: T,
    check: Result<(), String>,
) -> Result<T, Failure> {
    match check {
        Ok(()) => Ok(answer),
        Err(message) => {
            instance.discard();
            Err(Failure {
                kind: FailureKind::Answer,
                message: format!("its answer breaks the rules: {message}"),
                log: String::new(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
