//! Rows to classes.

use serde::de::DeserializeOwned;

use crate::types::{Rejection, Signature};
use crate::{Reject, config};

/// Gives each row a score for each class.
pub trait Classifier: Sized + 'static {
    /// The plugin's configuration. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned;

    /// `model` is empty when the release has none. The error is a sentence for the person who
    /// deploys the model.
    fn open(config: Self::Config, model: &[u8]) -> Result<Self, String>;

    /// The columns in the order in which `classify` reads them, and at least two classes; the same
    /// at each call.
    fn signature(&self) -> Signature;

    /// Scores one row: finite numbers, a class each, probabilities where the model has them. The
    /// highest is the row's class; of equals the first.
    fn classify(&mut self, row: &[f32], scores: &mut [f32]) -> Result<(), Reject>;

    /// Scores all rows. Override it where one pass over the batch is faster than one over each row.
    fn classify_batch(&mut self, rows: &[f32], columns: usize, answer: &mut Predictions) {
        classify_each(self, rows, columns, answer);
    }
}

/// Classifies row by row: what [`Classifier::classify_batch`] does unless it is overridden. An
/// override that only wants other code to be generated around the rows calls it.
#[inline(always)]
pub fn classify_each(classifier: &mut impl Classifier, rows: &[f32], columns: usize, answer: &mut Predictions) {
    let classes = answer.classes.max(1);
    let scores = answer.scores.chunks_exact_mut(classes);
    for (index, (row, scores)) in rows.chunks_exact(columns).zip(scores).enumerate() {
        match classifier.classify(row, scores) {
            Ok(()) => answer.labels.push(highest(scores)),
            Err(reject) => {
                // The host checks that all scores are finite, those of rejected rows too.
                scores.fill(0.0);
                answer.labels.push(0);
                answer.rejected.push(reject.of_row(index as u32));
            }
        }
    }
}

/// Index of the highest score; of equals the first.
#[inline]
fn highest(scores: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, score) in (0..).zip(scores) {
        let better = *score > best.1;
        // Two selections rather than one branch, which would often be mispredicted: any class may win.
        best.0 = if better { index } else { best.0 };
        best.1 = if better { *score } else { best.1 };
    }
    best.0
}

/// The answer to one batch.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// How many scores a row has.
    pub classes: usize,
    /// A class's index a row.
    pub labels: Vec<u32>,
    /// rows × `classes`, row-major, finite.
    pub scores: Vec<f32>,
    pub rejected: Vec<Rejection>,
}

/// A classifier with its model, driven batch by batch: in a component by the host, natively by
/// tests and benchmarks.
pub struct OpenClassifier<C> {
    classifier: C,
    signature: Signature,
}

impl<C: Classifier> OpenClassifier<C> {
    /// `config` is a JSON object as text.
    pub fn open(config: &str, model: &[u8]) -> Result<Self, String> {
        let classifier = C::open(config::read(config)?, model)?;
        let signature = classifier.signature();
        Ok(Self { classifier, signature })
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// `values` holds rows of `columns` cells each, in the order of the signature.
    pub fn classify(&mut self, columns: u32, values: &[f32]) -> Result<Predictions, String> {
        let expected = self.signature.columns.len();
        let width = columns as usize;
        if width != expected || width == 0 || !values.len().is_multiple_of(width) {
            return Err(format!(
                "the signature has {expected} columns, the matrix has {width} and {} cells",
                values.len()
            ));
        }
        let rows = values.len() / width;
        let classes = self.signature.classes.len();
        let mut answer = Predictions {
            classes,
            labels: Vec::with_capacity(rows),
            scores: vec![0.0; rows * classes],
            rejected: Vec::new(),
        };
        self.classifier.classify_batch(values, width, &mut answer);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;

    /// Its scores are its cells; refuses what is missing.
    struct Echo;

    impl Classifier for Echo {
        type Config = serde_json::Map<String, serde_json::Value>;

        fn open(_: Self::Config, _: &[u8]) -> Result<Self, String> {
            Ok(Self)
        }

        fn signature(&self) -> Signature {
            Signature {
                columns: vec![Column::number("a"), Column::number("b")],
                classes: vec!["a".to_owned(), "b".to_owned()],
            }
        }

        fn classify(&mut self, row: &[f32], scores: &mut [f32]) -> Result<(), Reject> {
            scores.copy_from_slice(row);
            match row.iter().any(|cell| cell.is_nan()) {
                true => Err(crate::reject("missing-value", "a cell is missing")),
                false => Ok(()),
            }
        }
    }

    #[test]
    fn the_label_is_the_highest_score_and_of_equals_the_first() {
        let mut echo = OpenClassifier::<Echo>::open("{}", b"").unwrap();
        let answer = echo.classify(2, &[0.1, 0.9, 0.9, 0.1, 0.5, 0.5]).unwrap();
        assert_eq!(answer.labels, [1, 0, 0]);
    }

    #[test]
    fn a_rejected_row_leaves_its_neighbours_alone_and_finite_scores() {
        let mut echo = OpenClassifier::<Echo>::open("{}", b"").unwrap();
        let answer = echo.classify(2, &[0.1, f32::NAN, 0.1, 0.9]).unwrap();
        assert_eq!(answer.rejected.len(), 1);
        assert_eq!(answer.labels, [0, 1]);
        assert!(answer.scores.iter().all(|score| score.is_finite()));
    }

    #[test]
    fn a_matrix_of_another_width_is_an_error() {
        let mut echo = OpenClassifier::<Echo>::open("{}", b"").unwrap();
        assert!(echo.classify(3, &[0.0; 3]).is_err());
        assert!(echo.classify(2, &[0.0; 3]).is_err());
    }
}
