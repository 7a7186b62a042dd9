//! Rows to probabilities.
//!
//! Mean and scale are folded into weights and intercepts when the model is opened, so a row costs
//! one dot product and one exponential a class, in f32 and without an allocation.

use sandpiper_sdk::{Classifier, Column, Reject, Signature, reject};
use serde::Deserialize;

use crate::model::Model;

/// The classifier has nothing to configure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

pub struct Logistic {
    columns: Vec<String>,
    classes: Vec<String>,
    /// Classes × columns, for cells as they come.
    weights: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Classifier for Logistic {
    type Config = Config;

    fn open(_: Config, model: &[u8]) -> Result<Self, String> {
        let model = Model::read(model)?;
        let mut weights = Vec::new();
        let mut intercepts = Vec::new();
        for (row, intercept) in model.weights.iter().zip(&model.intercepts) {
            let mut folded = *intercept;
            for ((weight, mean), scale) in row.iter().zip(&model.mean).zip(&model.scale) {
                weights.push((weight / scale) as f32);
                folded -= weight * mean / scale;
            }
            intercepts.push(folded as f32);
        }
        if !weights.iter().chain(&intercepts).all(|number| number.is_finite()) {
            return Err("the model's weights divided by its scale leave the range of f32".to_owned());
        }
        Ok(Self {
            columns: model.columns,
            classes: model.classes,
            weights,
            intercepts,
        })
    }

    fn signature(&self) -> Signature {
        Signature {
            columns: self.columns.iter().map(Column::number).collect(),
            classes: self.classes.clone(),
        }
    }

    fn classify(&mut self, row: &[f32], scores: &mut [f32]) -> Result<(), Reject> {
        let mut highest = f32::NEG_INFINITY;
        let weights = self.weights.chunks_exact(row.len());
        for ((score, weights), intercept) in scores.iter_mut().zip(weights).zip(&self.intercepts) {
            *score = *intercept;
            for (weight, cell) in weights.iter().zip(row) {
                *score += weight * cell;
            }
            highest = highest.max(*score);
        }
        let mut sum = 0.0;
        for score in scores.iter_mut() {
            *score = exp(*score - highest);
            sum += *score;
        }
        // NaN and overflow reach the sum whichever cell they come from: good rows pay one comparison.
        if !sum.is_finite() {
            return Err(self.refuse(row));
        }
        for score in scores {
            *score /= sum;
        }
        Ok(())
    }
}

impl Logistic {
    #[cold]
    fn refuse(&self, row: &[f32]) -> Reject {
        let missing = self.columns.iter().zip(row).find(|(_, cell)| cell.is_nan());
        match missing {
            Some((column, _)) => reject("missing-value", format!("column `{column}` has no value")),
            None => reject("out-of-range", "the row's scores leave the range of f32"),
        }
    }
}

/// e^x for x ≤ 0, within 2 units in the last place; 0 below −87, NaN for NaN.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, a polynomial for e^r and n put into the exponent: the method
/// and coefficients of Cephes' expf (S. Moshier, 1992). It has no branches, so that rows of scores
/// vectorise; wasm has no such instruction, and libm's costs more than the rest of a row.
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding and taking it away rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let e_r = p * r * r + r + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    match x < -87.0 {
        true => 0.0,
        false => e_r * power,
    }
}

#[cfg(test)]
mod tests {
    use sandpiper_sdk::OpenClassifier;

    use super::*;

    const MODEL: &str = r#"{"format": "sandpiper.logistic/1", "columns": ["x", "y"],
        "classes": ["a", "b", "c"], "mean": [1, 2], "scale": [2, 4],
        "weights": [[1, 0], [0, 1], [-1, -1]], "intercepts": [0, 0.5, 1]}"#;

    fn open(model: &str) -> Result<OpenClassifier<Logistic>, String> {
        OpenClassifier::open("{}", model.as_bytes())
    }

    #[test]
    fn scores_are_the_softmax_of_the_standardised_row() {
        let scores = open(MODEL).unwrap().classify(2, &[5.0, -2.0]).unwrap().scores;
        // Standardised (2, -1): the scores before softmax are 2, -0.5 and 0.
        let exps = [2.0_f64, -0.5, 0.0].map(f64::exp);
        let sum: f64 = exps.iter().sum();
        for (score, exp) in scores.iter().zip(exps) {
            assert!((f64::from(*score) - exp / sum).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn the_signature_is_the_models() {
        let model = open(MODEL).unwrap();
        let signature = model.signature();
        assert_eq!(signature.columns, [Column::number("x"), Column::number("y")]);
        assert_eq!(signature.classes, ["a", "b", "c"]);
    }

    #[test]
    fn a_row_without_a_value_is_missing_value_and_names_the_column() {
        let answer = open(MODEL).unwrap().classify(2, &[1.0, f32::NAN, 1.0, 1.0]).unwrap();
        assert_eq!(answer.rejected.len(), 1);
        assert_eq!(answer.rejected[0].code, "missing-value");
        assert!(answer.rejected[0].message.contains("`y`"));
    }

    #[test]
    fn a_row_that_overflows_is_out_of_range() {
        let answer = open(MODEL).unwrap().classify(2, &[f32::INFINITY, 1.0]).unwrap();
        assert_eq!(answer.rejected[0].code, "out-of-range");
    }

    #[test]
    fn far_apart_scores_stay_probabilities() {
        let answer = open(MODEL).unwrap().classify(2, &[1e30, 1e30]).unwrap();
        assert_eq!(answer.rejected, []);
        assert_eq!(answer.scores.iter().sum::<f32>(), 1.0);
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for step in 0..870_000 {
            let x = step as f32 * -1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error}");
        }
        assert_eq!((exp(-0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_reason() {
        for (from, to, reason) in [
            ("logistic/1", "logistic/2", "`format`"),
            ("\"x\", \"y\"", "\"x\", \"x\"", "`x` twice"),
            ("\"b\", \"c\"", "\"b\", \"b\"", "`b` twice"),
            ("[1, 2]", "[1]", "`mean` has 1 entries instead of 2"),
            ("[2, 4]", "[2, 0]", "`scale`"),
            ("[2, 4]", "[2, 1e-44]", "range of f32"),
            ("[0, 0.5, 1]", "[0, 0.5, 1e300]", "`intercepts`"),
            ("[[1, 0], ", "[", "`weights` has 2 rows"),
            ("[[1, 0]", "[[1]", "`weights of a`"),
            ("\"mean\"", "\"means\"", "`means`"),
        ] {
            assert!(MODEL.contains(from), "{from}");
            let error = open(&MODEL.replace(from, to)).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
        assert!(open("").err().unwrap().contains("needs a model"));
        let one_class = r#"{"format": "sandpiper.logistic/1", "columns": ["x"], "classes": ["a"],
            "mean": [0], "scale": [1], "weights": [[1]], "intercepts": [0]}"#;
        assert!(open(one_class).err().unwrap().contains("1 classes"));
    }

    #[test]
    fn a_configuration_key_is_refused() {
        let error = OpenClassifier::<Logistic>::open(r#"{"alpha": 1}"#, MODEL.as_bytes());
        assert!(error.err().unwrap().contains("`alpha`"));
    }
}
