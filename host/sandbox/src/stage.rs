//! A plugin's place in a pipeline: parse, classify, transform or score, with every answer checked.
//!
//! They are traits, so that a stage can be a component, a native loop in a benchmark or a fake in a test. A failure
//! concerns the whole call: which of its rows caused it is not looked for here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use wasmtime::Store;

use crate::batch::{Batch, Rows};
use crate::instance::{Instance, Opening};
use crate::state::State;
use crate::wit::latest::{self, Column, Judgement, Matrix, Outcome, Parsed, Predictions, Signature, Transformed};
use crate::world::World;
use crate::{Failure, FailureKind, Limits, Plugin, answers};

/// Bytes to rows of a matrix. The answer keeps the rules of [`answers`].
pub trait Parse: Send {
    fn parse(&mut self, batch: &Batch, deadline: Duration) -> Result<Parsed, Failure>;
}

/// Rows to a class each. The answer keeps the rules of [`answers`].
pub trait Classify: Send {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure>;
}

/// Records to records. The answer keeps the rules of [`answers`].
pub trait Transform: Send {
    fn transform(&mut self, batch: &Batch, deadline: Duration) -> Result<Transformed, Failure>;
}

/// Predictions with their labels to a loss each. The answer keeps the rules of [`answers`].
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
        let (instance, columns) =
            open_checked(plugin, limits, opening, |columns: &Vec<_>| answers::check_columns(columns))?;
        Ok((Self { instance, columns: columns.len() }, columns))
    }
}

impl Parse for WasmParser {
    fn parse(&mut self, batch: &Batch, deadline: Duration) -> Result<Parsed, Failure> {
        call_checked(
            &mut self.instance,
            deadline,
            Some(&batch.rows),
            |guest, store| guest.sandpiper_plugin_parser().call_parse(store, &batch.raw),
            |parsed| answers::check_parsed(parsed, batch.len(), self.columns),
        )
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
        let (instance, signature) = open_checked(plugin, limits, opening, answers::check_signature)?;
        Ok((Self { instance, classes: signature.classes.len(), columns: signature.columns.len() }, signature))
    }
}

impl Classify for WasmClassifier {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure> {
        let count = rows.values.len() / self.columns.max(1);
        call_checked(
            &mut self.instance,
            deadline,
            None,
            |guest, store| guest.sandpiper_plugin_classifier().call_classify(store, rows),
            |predictions| answers::check_predictions(predictions, count, self.classes),
        )
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
        let (instance, outputs) =
            open_checked(plugin, limits, opening, |outputs: &Vec<_>| answers::check_outputs(outputs))?;
        Ok((Self { instance, outputs: outputs.len() }, outputs))
    }
}

impl Transform for WasmTransform {
    fn transform(&mut self, batch: &Batch, deadline: Duration) -> Result<Transformed, Failure> {
        call_checked(
            &mut self.instance,
            deadline,
            Some(&batch.rows),
            |guest, store| guest.sandpiper_plugin_transform().call_transform(store, &batch.raw),
            |transformed| answers::check_transformed(transformed, batch.len(), self.outputs),
        )
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
        call_checked(
            &mut self.0,
            deadline,
            None,
            |guest, store| guest.sandpiper_plugin_scorer().call_score(store, classes, outcomes),
            |judgements: &Vec<_>| answers::check_judgements(judgements, outcomes),
        )
    }
}

/// Opens an instance and checks what `open` answered.
fn open_checked<W: World>(
    plugin: Arc<Plugin>,
    limits: Limits,
    opening: Opening,
    check: impl FnOnce(&W::Opened) -> Result<(), String>,
) -> Result<(Instance<W>, W::Opened)> {
    let (instance, opened) = Instance::<W>::open(plugin, limits, opening)?;
    check(&opened)
        .map_err(|error| anyhow!("plugin {} answered open against the rules: {error}", instance.plugin().name))?;
    Ok((instance, opened))
}

/// Calls an instance and checks its answer. One that breaks the rules is a failure, and costs the instance.
fn call_checked<W: World, T>(
    instance: &mut Instance<W>,
    deadline: Duration,
    rows: Option<&Arc<Rows>>,
    call: impl FnOnce(&W, &mut Store<State>) -> wasmtime::Result<Result<T, String>>,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, Failure> {
    let answer = instance.call(deadline, rows, call)?;
    match check(&answer) {
        Ok(()) => Ok(answer),
        Err(message) => {
            instance.discard();
            Err(Failure::new(FailureKind::Answer, format!("its answer breaks the rules: {message}")))
        }
    }
}

#[cfg(test)]
mod tests;
