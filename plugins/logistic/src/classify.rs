//! Rows to probabilities.
//!
//! Mean and scale are folded into weights and intercepts when the model is opened, so a row costs
//! one dot product and one exponential a class, in f32 and without an allocation. Classes are laid
//! out in fours: every step is the same for all four, so that it becomes one vector instruction.

use sandpiper_sdk::{Classifier, Predictions, Reject, Signature, reject};
use serde::Deserialize;

use crate::model::Model;

/// The classifier has nothing to configure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// A number for each of four classes.
type Four = [f32; 4];

pub struct Logistic {
    columns: Vec<String>,
    classes: Vec<String>,
    fours: Vec<FourClasses>,
    /// The scores of the row in hand, kept here so that no row allocates.
    scores: Vec<Four>,
}

/// The part of the model for four classes. Where there are fewer, the rest can never be the answer:
/// its intercepts are −∞ and its weights 0.
struct FourClasses {
    intercepts: Four,
    /// One entry a column, for cells as they come.
    weights: Vec<Four>,
}

impl Classifier for Logistic {
    type Config = Config;

    fn open(_: Config, model: &[u8]) -> Result<Self, String> {
        let model = Model::read(model)?;
        let mut fours = Vec::new();
        for (rows, intercepts) in model.weights.chunks(4).zip(model.intercepts.chunks(4)) {
            let mut four =
                FourClasses { intercepts: [f32::NEG_INFINITY; 4], weights: vec![[0.0; 4]; model.columns.len()] };
            for (class, (row, intercept)) in rows.iter().zip(intercepts).enumerate() {
                let mut folded = *intercept;
                for (column, weight) in row.iter().enumerate() {
                    let mean = model.mean.get(column).copied().unwrap_or_default();
                    let scale = model.scale.get(column).copied().unwrap_or(1.0);
                    folded -= weight * mean / scale;
                    set(four.weights.get_mut(column), class, weight / scale)?;
                }
                set(Some(&mut four.intercepts), class, folded)?;
            }
            fours.push(four);
        }
        Ok(Self { columns: model.columns, classes: model.classes, scores: vec![[0.0; 4]; fours.len()], fours })
    }

    fn signature(&self) -> Signature {
        Signature::of_numbers(&self.columns, &self.classes)
    }

    #[inline(always)]
    fn classify(&mut self, row: &[f32], scores: &mut [f32]) -> Result<(), Reject> {
        let mut highest = [f32::NEG_INFINITY; 4];
        for (four, score) in self.fours.iter().zip(&mut self.scores) {
            *score = four.score(row);
            highest = each(highest, *score, greater);
        }
        let [a, b, c, d] = highest;
        let highest = greater(greater(a, b), greater(c, d));
        let mut sums = [0.0; 4];
        for score in &mut self.scores {
            *score = each(*score, [highest; 4], |score, highest| exp(score - highest));
            sums = each(sums, *score, |sum, score| sum + score);
        }
        let [a, b, c, d] = sums;
        let sum = (a + b) + (c + d);
        // NaN and overflow reach the sum whichever cell they come from: good rows pay one comparison.
        if !sum.is_finite() {
            return Err(self.refuse(row));
        }
        for (scores, four) in scores.chunks_mut(4).zip(&self.scores) {
            write(each(*four, [sum; 4], |score, sum| score / sum), scores);
        }
        Ok(())
    }

    fn classify_batch(&mut self, rows: &[f32], columns: usize, answer: &mut Predictions) {
        // Wasm has vector instructions only where a function asks for them.
        #[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
        fn vectorised(model: &mut Logistic, rows: &[f32], columns: usize, answer: &mut Predictions) {
            sandpiper_sdk::classify_each(model, rows, columns, answer);
        }
        vectorised(self, rows, columns, answer);
    }
}

/// Sets a class's number, which must be finite in f32.
fn set(four: Option<&mut Four>, class: usize, number: f64) -> Result<(), String> {
    let number = number as f32;
    if !number.is_finite() {
        return Err("the model's weights divided by its scale leave the range of f32".to_owned());
    }
    if let Some(entry) = four.and_then(|four| four.get_mut(class)) {
        *entry = number;
    }
    Ok(())
}

/// `with` of each two numbers that stand at the same place.
#[inline(always)]
fn each([a, b, c, d]: Four, [w, x, y, z]: Four, with: impl Fn(f32, f32) -> f32) -> Four {
    [with(a, w), with(b, x), with(c, y), with(d, z)]
}

impl FourClasses {
    /// Intercept + Σ weight · cell. The columns too go by fours: in wasm each turn of a loop also checks whether the
    /// call's deadline has passed, and four columns share one check.
    #[inline(always)]
    fn score(&self, row: &[f32]) -> Four {
        let add = |score: Four, cell: f32, weight: Four| each(score, weight, |score, weight| score + weight * cell);
        let (weights, last_weights) = self.weights.as_chunks::<4>();
        let (cells, last_cells) = row.as_chunks::<4>();
        let mut score = self.intercepts;
        for ([a, b, c, d], [w, x, y, z]) in cells.iter().zip(weights) {
            score = add(add(add(add(score, *a, *w), *b, *x), *c, *y), *d, *z);
        }
        for (cell, weight) in last_cells.iter().zip(last_weights) {
            score = add(score, *cell, *weight);
        }
        score
    }
}

/// Writes the scores of the up to four classes that there are.
#[inline(always)]
fn write(four: Four, scores: &mut [f32]) {
    match (scores, four) {
        ([a, b, c, d], four) => [*a, *b, *c, *d] = four,
        ([a, b, c], [w, x, y, _]) => [*a, *b, *c] = [w, x, y],
        ([a, b], [w, x, _, _]) => [*a, *b] = [w, x],
        (scores, four) => scores.iter_mut().zip(four).for_each(|(score, four)| *score = four),
    }
}

/// The greater of two, the second where one is NaN: one vector instruction, unlike [`f32::max`].
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
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
/// and coefficients of Cephes' expf (S. Moshier, 1992). It has no branches, so that vector instructions
/// compute four at once; wasm has no instruction for it, and libm's costs more than the rest of a row.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which stands in the lowest bits of the sum.
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
    if x < -87.0 { 0.0 } else { e_r * power }
}

#[cfg(test)]
mod tests {
    use sandpiper_sdk::{Column, OpenClassifier};

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
