//! Predictions judged by the labels that arrived for them.

use serde::de::DeserializeOwned;

use crate::config;

/// Judges what a prediction was worth.
pub trait Scorer: Sized + 'static {
    /// The plugin's configuration. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned;

    fn open(config: Self::Config) -> Result<Self, String>;

    /// Judges one outcome; its indices point into `classes`. None leaves it unjudged; an error
    /// fails the whole batch.
    fn score(&mut self, classes: &[String], outcome: &Outcome) -> Result<Option<Judgement>, String>;
}

/// A prediction and its truth, joined by id.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub id: String,
    /// Index of the predicted class.
    pub predicted: usize,
    /// A score a class, as the classifier gave them.
    pub scores: Vec<f32>,
    /// Index of the true class.
    pub truth: usize,
    /// Who says so: the label's `source` header, empty when it has none.
    pub source: String,
    /// Milliseconds from the prediction to the label; 0 when the label came first.
    pub delay_ms: u64,
    /// The deployment's revision that predicted.
    pub revision: u64,
}

/// What an outcome is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// How wrong the prediction was: finite, 0 is perfect.
    pub loss: f64,
    /// How much the outcome counts: finite, ≥ 0.
    pub weight: f64,
    /// Why the label is not fit to learn from and to count; none when it is.
    pub refused: Option<String>,
}

impl Judgement {
    /// An accepted outcome that counts once.
    pub fn of(loss: f64) -> Self {
        Self { loss, weight: 1.0, refused: None }
    }

    /// A label that must not count.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { loss: 0.0, weight: 0.0, refused: Some(reason.into()) }
    }
}

/// A scorer with its configuration, driven batch by batch: in a component by the host, natively by tests.
pub struct OpenScorer<S> {
    scorer: S,
}

impl<S: Scorer> OpenScorer<S> {
    /// `config` is a JSON object as text.
    pub fn open(config: &str) -> Result<Self, String> {
        let scorer = S::open(config::read(config)?)?;
        Ok(Self { scorer })
    }

    /// The judgements, each with the row of its outcome.
    pub fn score(
        &mut self,
        classes: &[String],
        outcomes: impl IntoIterator<Item = Outcome>,
    ) -> Result<Vec<(u32, Judgement)>, String> {
        let mut judgements = Vec::new();
        for (row, outcome) in (0..).zip(outcomes) {
            let judgement = self.scorer.score(classes, &outcome)?;
            judgements.extend(judgement.map(|judgement| (row, judgement)));
        }
        Ok(judgements)
    }
}
