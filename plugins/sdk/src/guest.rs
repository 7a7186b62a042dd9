//! The way from the generated bindings to the `Open…` types: nothing but moves of fields.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::classifier::exports::sandpiper::plugin::classifier;
use crate::bindings::learner::exports::sandpiper::plugin::learner;
use crate::bindings::parser::exports::sandpiper::plugin::parser;
use crate::bindings::scorer::exports::sandpiper::plugin::scorer;
use crate::bindings::transform::exports::sandpiper::plugin::transform;
use crate::transform::Key;
use crate::{Classifier, Column, Emission, Learner, Matrix, Outcome, Parser, RawBatch, Scorer, Signature, Transform};
use crate::{OpenClassifier, OpenLearner, OpenParser, OpenScorer, OpenTransform};

/// What a call before `open` gets. The host opens first, so it points at a host that does not.
const NOT_OPEN: &str = "the plugin was called before it was opened";

/// Where a component keeps its plugin; empty until `open`.
pub type Slot<P> = LocalKey<RefCell<Option<P>>>;

/// A component that exports one plugin. The export macros implement it on a type of the plugin's own crate.
pub trait Component {
    /// One of the `Open…` types; which one decides what the component exports.
    type Plugin: 'static;

    fn slot() -> &'static Slot<Self::Plugin>;

    fn keep(plugin: Self::Plugin) {
        Self::slot().set(Some(plugin));
    }

    fn call<R>(call: impl FnOnce(&mut Self::Plugin) -> Result<R, String>) -> Result<R, String> {
        Self::slot().with_borrow_mut(|plugin| call(plugin.as_mut().ok_or(NOT_OPEN)?))
    }
}

impl<P: Parser, C: Component<Plugin = OpenParser<P>>> parser::Guest for C {
    fn open(config: String) -> Result<Vec<Column>, String> {
        let parser = OpenParser::open(&config)?;
        let columns = parser.columns().to_vec();
        Self::keep(parser);
        Ok(columns)
    }

    fn parse(batch: RawBatch) -> Result<parser::Parsed, String> {
        let parsed = Self::call(|parser| parser.parse(&batch.payload, &batch.offsets))?;
        Ok(parser::Parsed {
            rows: Matrix { columns: parsed.columns as u32, values: parsed.values },
            rejected: parsed.rejected,
            dropped: parsed.dropped,
        })
    }
}

impl<P: Classifier, C: Component<Plugin = OpenClassifier<P>>> classifier::Guest for C {
    fn open(config: String, model: Vec<u8>) -> Result<Signature, String> {
        let classifier = OpenClassifier::open(&config, &model)?;
        let signature = classifier.signature().clone();
        Self::keep(classifier);
        Ok(signature)
    }

    fn classify(rows: Matrix) -> Result<classifier::Predictions, String> {
        let predictions = Self::call(|classifier| classifier.classify(rows.columns, &rows.values))?;
        Ok(classifier::Predictions {
            labels: predictions.labels,
            scores: predictions.scores,
            rejected: predictions.rejected,
        })
    }
}

impl<P: Learner, C: Component<Plugin = OpenLearner<P>>> learner::Guest for C {
    fn open(config: String, signature: Signature, model: Vec<u8>) -> Result<(), String> {
        Self::keep(OpenLearner::open(&config, signature, &model)?);
        Ok(())
    }

    fn learn(rows: Matrix, labels: Vec<u32>, weights: Vec<f32>) -> Result<(), String> {
        Self::call(|learner| learner.learn(rows.columns, &rows.values, &labels, &weights))
    }

    fn snapshot() -> Result<Vec<u8>, String> {
        Self::call(|learner| learner.snapshot())
    }
}

impl<P: Scorer, C: Component<Plugin = OpenScorer<P>>> scorer::Guest for C {
    fn open(config: String) -> Result<(), String> {
        Self::keep(OpenScorer::open(&config)?);
        Ok(())
    }

    fn score(classes: Vec<String>, outcomes: Vec<scorer::Outcome>) -> Result<Vec<scorer::Judgement>, String> {
        let outcomes = outcomes.into_iter().map(|outcome| Outcome {
            id: outcome.id,
            predicted: outcome.predicted as usize,
            scores: outcome.scores,
            truth: outcome.truth as usize,
            source: outcome.source,
            delay_ms: outcome.delay_ms,
            revision: outcome.revision,
        });
        let judgements = Self::call(|scorer| scorer.score(&classes, outcomes))?.into_iter();
        let lowered = judgements.map(|(row, judgement)| scorer::Judgement {
            row,
            loss: judgement.loss,
            weight: judgement.weight,
            accepted: judgement.refused.is_none(),
            reason: judgement.refused,
        });
        Ok(lowered.collect())
    }
}

impl<P: Transform, C: Component<Plugin = OpenTransform<P>>> transform::Guest for C {
    fn open(config: String) -> Result<Vec<String>, String> {
        let transform = OpenTransform::open(&config)?;
        let outputs = transform.outputs().to_vec();
        Self::keep(transform);
        Ok(outputs)
    }

    fn transform(batch: RawBatch) -> Result<transform::Transformed, String> {
        let transformed = Self::call(|transform| transform.transform(&batch.payload, &batch.offsets))?;
        Ok(transform::Transformed {
            payload: transformed.payload,
            offsets: transformed.offsets,
            emitted: transformed.emitted.into_iter().map(emitted).collect(),
            rejected: transformed.rejected,
            dropped: transformed.dropped,
        })
    }
}

fn emitted(emission: Emission) -> transform::Emitted {
    let headers = emission.headers.into_iter();
    transform::Emitted {
        source_row: emission.row,
        output: emission.output,
        key: match emission.key {
            Key::Input => transform::EmittedKey::Input,
            Key::Null => transform::EmittedKey::None,
            Key::Bytes(bytes) => transform::EmittedKey::Bytes(bytes),
        },
        headers: headers.map(|(name, value)| transform::Header { name, value }).collect(),
        tombstone: emission.tombstone,
    }
}
