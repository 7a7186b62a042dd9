//! A plugin's place in a pipeline: parse, classify, transform or score, with every answer checked.
//!
//! They are traits, so that a stage can be a component, a native loop in a benchmark or a fake in a test. A failure
//! concerns the whole call: which of its rows caused it is not looked for here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use wasmtime::Store;

use crate::batch::{Batch, Rows};
use crate::instance::Instance;
use crate::state::State;
use crate::wit::latest::{self, Judgement, Matrix, Outcome, Parsed, Predictions, Rejection, Signature, Transformed};
use crate::world::Opening;
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

/// A component in a stage. What `open` answered is kept, since every later answer is checked against it.
pub struct WasmStage<W: World> {
    instance: Instance<W>,
    opened: W::Opened,
}

pub type WasmParser = WasmStage<latest::parser::ParserPlugin>;
pub type WasmClassifier = WasmStage<latest::classifier::ClassifierPlugin>;
pub type WasmTransform = WasmStage<latest::transform::TransformPlugin>;
pub struct WasmScorer(WasmStage<latest::scorer::ScorerPlugin>);

impl<W: World> WasmStage<W> {
    /// Returns what `open` answered, too.
    ///
    /// # Errors
    /// When the plugin lacks the stage's interface, refuses its configuration or model, or answers `open` against the rules.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<(Self, W::Opened)> {
        let (instance, opened) = Instance::<W>::open(plugin, limits, opening)?;
        W::check_opened(&opened)
            .map_err(|error| anyhow!("plugin {} answered open against the rules: {error}", instance.plugin().name))?;
        Ok((Self { instance, opened: opened.clone() }, opened))
    }

    /// Calls the guest and checks its answer. One that breaks the rules is a failure, and costs the instance.
    fn call<T: Rejecting>(
        &mut self,
        deadline: Duration,
        rows: Option<&Arc<Rows>>,
        call: impl FnOnce(&W, &mut Store<State>) -> wasmtime::Result<Result<T, String>>,
        check: impl FnOnce(&T, &W::Opened) -> Result<(), String>,
    ) -> Result<T, Failure> {
        let mut answer = self.instance.call(deadline, rows, call)?;
        for rejection in answer.rejections() {
            if let Cow::Owned(hidden) = self.instance.secrets().hide(&rejection.message) {
                rejection.message = hidden;
            }
        }
        if let Err(message) = check(&answer, &self.opened) {
            self.instance.discard();
            return Err(Failure::new(FailureKind::Answer, format!("its answer breaks the rules: {message}")));
        }
        Ok(answer)
    }
}

/// An answer whose rejections carry the plugin's own words.
trait Rejecting {
    fn rejections(&mut self) -> &mut [Rejection];
}

macro_rules! rejecting {
    ($($answer:ty),*) => {
        $(impl Rejecting for $answer {
            fn rejections(&mut self) -> &mut [Rejection] {
                &mut self.rejected
            }
        })*
    };
}

rejecting!(Parsed, Predictions, Transformed);

impl Rejecting for Vec<Judgement> {
    fn rejections(&mut self) -> &mut [Rejection] {
        &mut []
    }
}

impl Parse for WasmParser {
    fn parse(&mut self, batch: &Batch, deadline: Duration) -> Result<Parsed, Failure> {
        self.call(
            deadline,
            Some(&batch.rows),
            |guest, store| guest.sandpiper_plugin_parser().call_parse(store, &batch.raw),
            |parsed, columns| answers::check_parsed(parsed, batch.len(), columns.len()),
        )
    }
}

impl Classify for WasmClassifier {
    fn classify(&mut self, rows: &Matrix, deadline: Duration) -> Result<Predictions, Failure> {
        self.call(
            deadline,
            None,
            |guest, store| guest.sandpiper_plugin_classifier().call_classify(store, rows),
            |predictions, Signature { columns, classes }| {
                answers::check_predictions(predictions, rows.values.len() / columns.len().max(1), classes.len())
            },
        )
    }
}

impl Transform for WasmTransform {
    fn transform(&mut self, batch: &Batch, deadline: Duration) -> Result<Transformed, Failure> {
        self.call(
            deadline,
            Some(&batch.rows),
            |guest, store| guest.sandpiper_plugin_transform().call_transform(store, &batch.raw),
            |transformed, outputs| answers::check_transformed(transformed, batch.len(), outputs.len()),
        )
    }
}

impl WasmScorer {
    /// # Errors
    /// When the plugin cannot be opened as a scorer.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<Self> {
        WasmStage::open(plugin, limits, opening).map(|(stage, ())| Self(stage))
    }
}

impl Score for WasmScorer {
    fn score(
        &mut self,
        classes: &[String],
        outcomes: &[Outcome],
        deadline: Duration,
    ) -> Result<Vec<Judgement>, Failure> {
        self.0.call(
            deadline,
            None,
            |guest, store| guest.sandpiper_plugin_scorer().call_score(store, classes, outcomes),
            |judgements, ()| answers::check_judgements(judgements, outcomes),
        )
    }
}

#[cfg(test)]
mod tests;
