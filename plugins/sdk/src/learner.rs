//! Labelled rows to a model.

use serde::de::DeserializeOwned;

use crate::config;
use crate::types::Signature;

/// Makes the model that the same plugin's classifier opens.
pub trait Learner: Sized + 'static {
    /// The plugin's configuration. Derive `Deserialize` with `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned;

    /// `signature` says what is to be learned; `model` continues an earlier snapshot and is empty
    /// to start afresh.
    fn open(config: Self::Config, signature: Signature, model: &[u8]) -> Result<Self, String>;

    /// Learns from one row: `label` is an index into the signature's classes, `weight` finite and ≥ 0.
    fn learn(&mut self, row: &[f32], label: usize, weight: f32) -> Result<(), String>;

    /// The model. Equal learning gives equal bytes.
    fn snapshot(&self) -> Result<Vec<u8>, String>;
}

/// A learner driven batch by batch: in a component by the host, natively by tests.
pub struct OpenLearner<L> {
    learner: L,
    columns: usize,
    classes: usize,
}

impl<L: Learner> OpenLearner<L> {
    /// `config` is a JSON object as text.
    pub fn open(config: &str, signature: Signature, model: &[u8]) -> Result<Self, String> {
        let columns = signature.columns.len();
        let classes = signature.classes.len();
        if columns == 0 || classes < 2 {
            return Err(format!(
                "a signature has at least one column and two classes, this one {columns} and {classes}"
            ));
        }
        let learner = L::open(config::read(config)?, signature, model)?;
        Ok(Self { learner, columns, classes })
    }

    /// `values` holds rows of `columns` cells each; `labels` and `weights` have an entry a row.
    pub fn learn(&mut self, columns: u32, values: &[f32], labels: &[u32], weights: &[f32]) -> Result<(), String> {
        if columns as usize != self.columns
            || values.len() != labels.len() * self.columns
            || weights.len() != labels.len()
        {
            return Err(format!(
                "the signature has {} columns; the call has {columns}, {} cells, {} labels and {} weights",
                self.columns,
                values.len(),
                labels.len(),
                weights.len()
            ));
        }
        let rows = values.chunks_exact(self.columns);
        for ((row, label), weight) in rows.zip(labels).zip(weights) {
            let label = *label as usize;
            if label >= self.classes {
                return Err(format!("label {label} is none of the {} classes", self.classes));
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(format!("weight {weight} is not a finite number ≥ 0"));
            }
            self.learner.learn(row, label, *weight)?;
        }
        Ok(())
    }

    pub fn snapshot(&self) -> Result<Vec<u8>, String> {
        self.learner.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;

    /// Sums the weights of each class.
    struct Tally(Vec<f32>);

    impl Learner for Tally {
        type Config = serde_json::Map<String, serde_json::Value>;

        fn open(_: Self::Config, signature: Signature, _: &[u8]) -> Result<Self, String> {
            Ok(Self(vec![0.0; signature.classes.len()]))
        }

        fn learn(&mut self, _: &[f32], label: usize, weight: f32) -> Result<(), String> {
            self.0[label] += weight;
            Ok(())
        }

        fn snapshot(&self) -> Result<Vec<u8>, String> {
            Ok(format!("{:?}", self.0).into_bytes())
        }
    }

    fn tally() -> OpenLearner<Tally> {
        let signature = Signature { columns: vec![Column::number("x")], classes: vec!["a".to_owned(), "b".to_owned()] };
        OpenLearner::open("{}", signature, b"").unwrap()
    }

    #[test]
    fn learning_adds_up_over_calls() {
        let mut tally = tally();
        tally.learn(1, &[1.0, 2.0], &[0, 1], &[1.0, 0.5]).unwrap();
        tally.learn(1, &[3.0], &[1], &[2.0]).unwrap();
        assert_eq!(tally.snapshot().unwrap(), b"[1.0, 2.5]");
    }

    #[test]
    fn a_label_a_weight_or_a_shape_out_of_contract_is_refused() {
        assert!(tally().learn(1, &[1.0], &[2], &[1.0]).unwrap_err().contains("label 2"));
        assert!(tally().learn(1, &[1.0], &[1], &[-1.0]).unwrap_err().contains("weight -1"));
        assert!(tally().learn(1, &[1.0], &[1], &[f32::NAN]).is_err());
        assert!(tally().learn(2, &[1.0, 2.0], &[1], &[1.0]).is_err());
        assert!(tally().learn(1, &[1.0], &[1, 1], &[1.0]).is_err());
    }
}
