//! The model's file: JSON, `sandpiper.logistic/1`.

use sandpiper_sdk::{all_different, read_model};
use serde::{Deserialize, Serialize};

pub const FORMAT: &str = "sandpiper.logistic/1";

/// P(class | row) ∝ exp(intercept + Σ weight · (cell − mean) / scale).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub format: String,
    pub columns: Vec<String>,
    pub classes: Vec<String>,
    /// One entry a column.
    pub mean: Vec<f64>,
    /// One entry a column, above 0.
    pub scale: Vec<f64>,
    /// Classes × columns.
    pub weights: Vec<Vec<f64>>,
    /// One entry a class.
    pub intercepts: Vec<f64>,
}

impl Model {
    /// Reads a model's file. The error is a sentence for the person who deploys it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        read_model("logistic", FORMAT, bytes, Self::check)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("`format` is {:?}", self.format));
        }
        let (columns, classes) = (self.columns.len(), self.classes.len());
        all_different("columns", &self.columns)?;
        all_different("classes", &self.classes)?;
        if columns == 0 || classes < 2 {
            return Err(format!("it has {columns} columns and {classes} classes instead of at least 1 and 2"));
        }
        numbers("mean", &self.mean, columns)?;
        numbers("scale", &self.scale, columns)?;
        numbers("intercepts", &self.intercepts, classes)?;
        if self.weights.len() != classes {
            let found = self.weights.len();
            return Err(format!("`weights` has {found} rows, there are {classes} classes"));
        }
        for (class, weights) in self.classes.iter().zip(&self.weights) {
            numbers(&format!("weights of {class}"), weights, columns)?;
        }
        match self.scale.iter().all(|scale| *scale > 0.0) {
            true => Ok(()),
            false => Err("`scale` holds a number that is not above 0".to_owned()),
        }
    }
}

/// The classifier counts in f32, so a number must be finite there.
fn numbers(what: &str, numbers: &[f64], expected: usize) -> Result<(), String> {
    if numbers.len() != expected {
        let found = numbers.len();
        return Err(format!("`{what}` has {found} entries instead of {expected}"));
    }
    match numbers.iter().all(|number| (*number as f32).is_finite()) {
        true => Ok(()),
        false => Err(format!("`{what}` holds a number that is not finite")),
    }
}
