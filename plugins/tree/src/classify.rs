//! Rows to the class distribution of the leaf that they reach.
//!
//! The distributions are smoothed when the model is opened, so a row costs its comparisons.

use sandpiper_sdk::{Classifier, Reject, Signature, reject};
use serde::Deserialize;

use crate::model::{Model, Node};

/// The classifier has nothing to configure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

pub struct Tree {
    columns: Vec<String>,
    classes: Vec<String>,
    nodes: Vec<Step>,
}

/// What to do at a node, with features and children as indices, so that a row looks up no name.
enum Step {
    Compare { feature: usize, threshold: f32, left: usize, right: usize },
    Answer(Vec<f32>),
}

impl Classifier for Tree {
    type Config = Config;

    fn open(_: Config, model: &[u8]) -> Result<Self, String> {
        let model = Model::read(model)?;
        let step = |node: &Node| match node {
            Node::Leaf(weights) => Step::Answer(smoothed(weights)),
            Node::Split { feature, threshold, left, right } => Step::Compare {
                feature: model.columns.iter().position(|name| name == feature).unwrap_or_default(),
                threshold: *threshold,
                left: *left,
                right: *right,
            },
        };
        Ok(Self { nodes: model.nodes.iter().map(step).collect(), columns: model.columns, classes: model.classes })
    }

    fn signature(&self) -> Signature {
        Signature::of_numbers(&self.columns, &self.classes)
    }

    /// Refuses a row only where the path to its leaf asks for a value that is missing.
    fn classify(&mut self, row: &[f32], scores: &mut [f32]) -> Result<(), Reject> {
        let mut at = 0;
        // The model was checked: it has a first node, and each child stands behind its parent, so the walk ends.
        while let Some(step) = self.nodes.get(at) {
            match step {
                Step::Answer(distribution) => {
                    scores.copy_from_slice(distribution);
                    return Ok(());
                }
                Step::Compare { feature, threshold, left, right } => {
                    let cell = row.get(*feature).copied().unwrap_or(f32::NAN);
                    if cell.is_nan() {
                        return Err(self.missing(*feature));
                    }
                    at = if cell <= *threshold { *left } else { *right };
                }
            }
        }
        Err(reject("no-leaf", "the tree has no leaf for this row"))
    }
}

impl Tree {
    #[cold]
    fn missing(&self, feature: usize) -> Reject {
        let column = self.columns.get(feature).map_or("?", String::as_str);
        reject("missing-value", format!("column `{column}` has no value"))
    }
}

/// Laplace's rule: (weight + 1) / (total + classes). No class is impossible because a leaf has not
/// seen it.
fn smoothed(weights: &[f32]) -> Vec<f32> {
    let total: f32 = weights.iter().sum::<f32>() + weights.len() as f32;
    weights.iter().map(|weight| (weight + 1.0) / total).collect()
}

#[cfg(test)]
mod tests {
    use sandpiper_sdk::OpenClassifier;

    use super::*;

    const MODEL: &str = r#"{"format": "sandpiper.tree/1", "columns": ["x", "y"],
        "classes": ["a", "b"], "nodes": [
        {"split": {"feature": "y", "threshold": 2.5, "left": 1, "right": 2}},
        {"leaf": [8, 0]},
        {"split": {"feature": "x", "threshold": 0, "left": 3, "right": 4}},
        {"leaf": [1, 1]}, {"leaf": [0, 2]}]}"#;

    fn open(model: &str) -> Result<OpenClassifier<Tree>, String> {
        OpenClassifier::open("{}", model.as_bytes())
    }

    #[test]
    fn a_row_gets_the_smoothed_distribution_of_its_leaf() {
        let rows = [9.0, 2.5, 0.0, 3.0, 1.0, 3.0];
        let answer = open(MODEL).unwrap().classify(2, &rows).unwrap();
        assert_eq!(answer.scores, [0.9, 0.1, 0.5, 0.5, 0.25, 0.75]);
        assert_eq!(answer.labels, [0, 0, 1]);
    }

    #[test]
    #[allow(clippy::excessive_precision, reason = "the numbers as a file has them")]
    fn a_threshold_divides_what_f32_tells_apart_as_the_number_in_the_file_does() {
        let labels = |threshold: &str, rows: &[f32]| {
            let model = MODEL.replace("\"threshold\": 2.5", &format!("\"threshold\": {threshold}"));
            let cells: Vec<f32> = rows.iter().flat_map(|y| [1.0, *y]).collect();
            open(&model).unwrap().classify(2, &cells).unwrap().labels
        };
        // Midway between two neighbours of f32, and nearer to the upper one: the upper one is above.
        assert_eq!(labels("1000000.09375", &[1000000.0625, 1000000.125]), [0, 1]);
        assert_eq!(labels("1000000.12", &[1000000.0625, 1000000.125]), [0, 1]);
        assert_eq!(labels("-1000000.07", &[-1000000.125, -1000000.0625]), [0, 1]);
        // The text of a cell is the cell, though f32 is a little above or below it.
        for text in ["0.1", "0.3", "1000000.1", "1.1e-30", "16777217", "0.15000000596046448"] {
            let cell: f32 = text.parse().unwrap();
            assert_eq!(labels(text, &[cell, cell.next_up()]), [0, 1], "{text}");
        }
    }

    #[test]
    fn only_a_value_that_the_path_asks_for_is_missed() {
        let rows = [f32::NAN, 2.0, f32::NAN, 3.0, 0.0, f32::NAN];
        let answer = open(MODEL).unwrap().classify(2, &rows).unwrap();
        let refused: Vec<_> = answer
            .rejected
            .iter()
            .map(|rejection| (rejection.row, rejection.code.as_str(), rejection.message.as_str()))
            .collect();
        assert_eq!(
            refused,
            [(1, "missing-value", "column `x` has no value"), (2, "missing-value", "column `y` has no value")]
        );
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_reason() {
        for (from, to, reason) in [
            ("tree/1", "tree/2", "`format`"),
            ("[\"x\", \"y\"]", "[\"x\", \"x\"]", "`x` twice"),
            ("[\"a\", \"b\"]", "[\"a\"]", "two classes"),
            ("\"feature\": \"y\"", "\"feature\": \"z\"", "node 0 splits by `z`"),
            ("\"left\": 3", "\"left\": 2", "node 2 leads to 2"),
            ("\"right\": 4", "\"right\": 5", "node 2 leads to 3 and 5"),
            ("[8, 0]", "[8]", "node 1 has 1 weights"),
            ("[8, 0]", "[8, -1]", "node 1 has weights"),
            ("\"threshold\": 0", "\"threshold\": 1e39", "not finite"),
            ("\"leaf\": [8", "\"leave\": [8", "leave"),
        ] {
            assert!(MODEL.contains(from), "{from}");
            let error = open(&MODEL.replace(from, to)).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
        assert!(open("").err().unwrap().contains("needs a model"));
    }
}
