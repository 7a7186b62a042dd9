//! The model's file: JSON, `sandpiper.tree/1`.

use sandpiper_sdk::{all_different, read_model};
use serde::{Deserialize, Deserializer, Serialize};

pub const FORMAT: &str = "sandpiper.tree/1";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub format: String,
    pub columns: Vec<String>,
    pub classes: Vec<String>,
    /// The first is the root. A child stands behind its parent, so that every path ends.
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Node {
    /// A cell ≤ `threshold` goes `left`, any other `right`: indices of nodes.
    Split {
        feature: String,
        #[serde(deserialize_with = "threshold")]
        threshold: f32,
        left: usize,
        right: usize,
    },
    /// The weight of the learned rows that ended here, an entry a class.
    Leaf(Vec<f32>),
}

/// A threshold as the f32 that divides cells, which are f32, as the number in the file does.
///
/// The shortest decimal of an f32 is that f32, as a cell of the same text is; any other number is rounded down, since a cell
/// between it and the f32 above it does not exist, and rounding up would send that f32 to the wrong side.
fn threshold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let exact = f64::deserialize(deserializer)?;
    let nearest = exact as f32;
    let shortest = nearest.to_string().parse::<f64>().unwrap_or(f64::NAN);
    // serde_json reads a number of many digits to within a unit in the last place.
    let is_its_decimal = (shortest - exact).abs() <= exact.abs() * f64::EPSILON * 2.0;
    Ok(match nearest.is_finite() && f64::from(nearest) > exact && !is_its_decimal {
        true => nearest.next_down(),
        false => nearest,
    })
}

impl Model {
    /// Reads a model's file. The error is a sentence for the person who deploys it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        read_model("tree", FORMAT, bytes, Self::check)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("`format` is {:?}", self.format));
        }
        all_different("columns", &self.columns)?;
        all_different("classes", &self.classes)?;
        if self.columns.is_empty() || self.classes.len() < 2 || self.nodes.is_empty() {
            return Err("it needs at least one column, two classes and one node".to_owned());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            self.check_node(index, node).map_err(|what| format!("node {index} {what}"))?;
        }
        Ok(())
    }

    fn check_node(&self, index: usize, node: &Node) -> Result<(), String> {
        match node {
            Node::Split { feature, .. } if !self.columns.contains(feature) => {
                Err(format!("splits by `{feature}`, which is none of the columns"))
            }
            Node::Split { threshold, .. } if !threshold.is_finite() => {
                Err("has a threshold that is not finite".to_owned())
            }
            Node::Split { left, right, .. } => {
                let within = index + 1..self.nodes.len();
                match within.contains(left) && within.contains(right) {
                    true => Ok(()),
                    false => Err(format!("leads to {left} and {right}, not to later nodes")),
                }
            }
            Node::Leaf(weights) if weights.len() != self.classes.len() => {
                let (found, classes) = (weights.len(), self.classes.len());
                Err(format!("has {found} weights, there are {classes} classes"))
            }
            Node::Leaf(weights) => {
                let total: f32 = weights.iter().sum();
                match total.is_finite() && weights.iter().all(|weight| *weight >= 0.0) {
                    true => Ok(()),
                    false => Err("has weights that are not finite numbers ≥ 0".to_owned()),
                }
            }
        }
    }
}
