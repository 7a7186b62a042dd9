//! Labelled rows to a model: linfa's decision tree, grown by Gini impurity and pruned where both
//! children predict the same.
//!
//! Keeps the rows until the snapshot, at most [`CELLS`] numbers of them. linfa sums impurities in the
//! order of std's hash maps, so which of two equally good splits it takes depends on std's hash seed:
//! equal learning gives equal trees where the host gives every instance the same insecure random seed.

use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use linfa_trees::{DecisionTree, TreeNode};
use ndarray::{Array1, Array2};
use sandpiper_sdk::{Learner, Signature};
use serde::Deserialize;

use crate::model::{FORMAT, Model, Node};

/// The most that is kept: rows × (columns + 2). Growing needs about 28 bytes for each, and so stays
/// within the 64 MiB that a plugin has by default.
pub const CELLS: usize = 1_000_000;

/// The most levels that a configuration may ask for: linfa recurses once a level, and a component's stack is small.
const DEEPEST: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "eight")]
    max_depth: usize,
    /// The least weight of the rows of a leaf.
    #[serde(default = "one")]
    min_weight_leaf: f32,
}

fn eight() -> usize {
    8
}

fn one() -> f32 {
    1.0
}

pub struct TreeLearner {
    config: Config,
    columns: Vec<String>,
    classes: Vec<String>,
    /// Row-major, all finite.
    rows: Vec<f32>,
    labels: Vec<usize>,
    weights: Vec<f32>,
}

impl Learner for TreeLearner {
    type Config = Config;

    fn open(config: Config, signature: Signature, model: &[u8]) -> Result<Self, String> {
        if !(1..=DEEPEST).contains(&config.max_depth) {
            return Err(format!("`max_depth` is {}, it must be 1 to {DEEPEST}", config.max_depth));
        }
        if !(config.min_weight_leaf.is_finite() && config.min_weight_leaf > 0.0) {
            return Err(format!("`min_weight_leaf` is {}, it must be a finite number above 0", config.min_weight_leaf));
        }
        if !model.is_empty() {
            return Err("a tree cannot be continued: it is grown from all of its rows at once; \
                        learn afresh, without a model"
                .to_owned());
        }
        Ok(Self {
            config,
            columns: signature.number_columns("tree")?,
            classes: signature.classes,
            rows: Vec::new(),
            labels: Vec::new(),
            weights: Vec::new(),
        })
    }

    /// A row of weight 0 is left out. So is one with a missing value: the tree could not place it.
    fn learn(&mut self, row: &[f32], label: usize, weight: f32) -> Result<(), String> {
        if weight == 0.0 || !row.iter().all(|cell| cell.is_finite()) {
            return Ok(());
        }
        let most = CELLS / (self.columns.len() + 2);
        if self.labels.len() >= most {
            return Err(format!("tree learns from at most {most} rows of this signature; sample the data"));
        }
        self.rows.extend_from_slice(row);
        self.labels.push(label);
        self.weights.push(weight);
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, String> {
        if self.labels.is_empty() {
            return Err("there is no row to learn from".to_owned());
        }
        let values = self.distinct();
        let rows = Array2::from_shape_vec((self.labels.len(), self.columns.len()), self.ranks(&values))
            .map_err(|error| format!("the rows are not of one width: {error}"))?;
        let dataset =
            Dataset::new(rows, Array1::from(self.labels.clone())).with_weights(Array1::from(self.weights.clone()));
        let tree = DecisionTree::params()
            .max_depth(Some(self.config.max_depth))
            .min_weight_leaf(self.config.min_weight_leaf)
            .check()
            .and_then(|params| params.fit(&dataset))
            .map_err(|error| format!("the tree cannot be grown: {error}"))?;

        let mut model = Model {
            format: FORMAT.to_owned(),
            columns: self.columns.clone(),
            classes: self.classes.clone(),
            nodes: Vec::new(),
        };
        let all = (0..self.labels.len()).collect();
        self.write(tree.root_node(), &values, all, &mut model.nodes);
        serde_json::to_vec(&model).map_err(|error| format!("the model cannot be written: {error}"))
    }
}

impl TreeLearner {
    /// By column, the values that occur, ascending.
    fn distinct(&self) -> Vec<Vec<f32>> {
        let column = |at: usize| {
            let mut values: Vec<f32> = self.rows.iter().skip(at).step_by(self.columns.len()).copied().collect();
            values.sort_unstable_by(f32::total_cmp);
            values.dedup();
            values
        };
        (0..self.columns.len()).map(column).collect()
    }

    /// The rows with each cell's place among its column's values instead of the cell. linfa takes values less than 0.00001
    /// apart for equal, and loses bits in the middle between two; places are 1 apart, and exact.
    fn ranks(&self, values: &[Vec<f32>]) -> Vec<f32> {
        let rank = |(cell, values): (&f32, &Vec<f32>)| values.partition_point(|value| value < cell) as f32;
        self.rows.iter().zip(values.iter().cycle()).map(rank).collect()
    }

    /// Writes a node and what is below it, with `here` the rows that reach it. Answers its index.
    fn write(
        &self,
        node: &TreeNode<f32, usize>,
        values: &[Vec<f32>],
        here: Vec<usize>,
        nodes: &mut Vec<Node>,
    ) -> usize {
        let at = nodes.len();
        nodes.push(self.leaf(&here));
        let (feature, rank, _) = node.split();
        if let (false, [Some(left), Some(right)]) = (node.is_leaf(), node.children().as_slice())
            && let (Some(name), Some(values_here)) = (self.columns.get(feature), values.get(feature))
        {
            let threshold = between(values_here, rank);
            let (low, high) = here.into_iter().partition(|row| {
                let cell = self.rows.get(row * self.columns.len() + feature);
                cell.is_some_and(|cell| *cell <= threshold)
            });
            let split = Node::Split {
                feature: name.clone(),
                threshold,
                left: self.write(left, values, low, nodes),
                right: self.write(right, values, high, nodes),
            };
            if let Some(node) = nodes.get_mut(at) {
                *node = split;
            }
        }
        at
    }

    /// A leaf for the rows `here`: the weight of each class.
    fn leaf(&self, here: &[usize]) -> Node {
        let mut weights = vec![0.0; self.classes.len()];
        for row in here {
            if let (Some(label), Some(weight)) = (self.labels.get(*row), self.weights.get(*row))
                && let Some(sum) = weights.get_mut(*label)
            {
                *sum += weight;
            }
        }
        Node::Leaf(weights)
    }
}

/// A threshold between the values around a rank: their middle, or the lower one where f32 has nothing between them.
fn between(values: &[f32], rank: f32) -> f32 {
    let at = |place: f32| values.get(place as usize).copied().unwrap_or_default();
    let (low, high) = (at(rank.floor()), at(rank.ceil()));
    let middle = (f64::from(low) / 2.0 + f64::from(high) / 2.0) as f32;
    if middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use sandpiper_sdk::{Column, OpenClassifier, OpenLearner};

    use super::*;
    use crate::Tree;

    fn signature() -> Signature {
        Signature {
            columns: vec![Column::number("x"), Column::number("y")],
            classes: vec!["low".to_owned(), "middle".to_owned(), "high".to_owned()],
        }
    }

    fn open(config: &str) -> Result<OpenLearner<TreeLearner>, String> {
        OpenLearner::open(config, signature(), b"")
    }

    /// Three clusters along x, of different sizes so that no two splits are equally good.
    fn taught(config: &str) -> OpenLearner<TreeLearner> {
        let mut learner = open(config).unwrap();
        for (label, size) in [(0, 10), (1, 20), (2, 40)] {
            for step in 0..size {
                let row = [label as f32 * 10.0 + step as f32 * 0.1, (step % 3) as f32];
                learner.learn(2, &row, &[label], &[1.0]).unwrap();
            }
        }
        learner
    }

    #[test]
    fn what_is_learned_is_what_is_classified() {
        let model = taught("{}").snapshot().unwrap();
        let mut tree = OpenClassifier::<Tree>::open("{}", &model).unwrap();
        assert_eq!(tree.signature(), &signature());
        let answer = tree.classify(2, &[21.0, 7.0, 1.0, 7.0, 11.0, 7.0]).unwrap();
        assert_eq!(answer.labels, [2, 0, 1]);
        assert_eq!(answer.scores[0], 1.0 / 43.0);
    }

    #[test]
    fn equal_learning_gives_equal_bytes_where_no_two_splits_are_equally_good() {
        assert_eq!(taught("{}").snapshot().unwrap(), taught("{}").snapshot().unwrap());
    }

    #[test]
    fn the_depth_is_bounded() {
        let model = Model::read(&taught(r#"{"max_depth": 1}"#).snapshot().unwrap()).unwrap();
        assert_eq!(model.nodes.len(), 3);
    }

    #[test]
    fn a_leaf_holds_at_least_its_weight() {
        let model = taught(r#"{"min_weight_leaf": 25}"#).snapshot().unwrap();
        for node in Model::read(&model).unwrap().nodes {
            if let Node::Leaf(weights) = node {
                assert!(weights.iter().sum::<f32>() >= 25.0);
            }
        }
    }

    #[test]
    fn weights_count_and_rows_of_weight_zero_or_with_missing_values_do_not() {
        let mut learner = taught("{}");
        let model = learner.snapshot().unwrap();
        learner.learn(2, &[0.0, 0.0, f32::NAN, 0.0], &[2, 2], &[0.0, 1.0]).unwrap();
        assert_eq!(learner.snapshot().unwrap(), model);
        learner.learn(2, &[5.0, 0.0], &[0], &[2.5]).unwrap();
        let weighted = String::from_utf8(learner.snapshot().unwrap()).unwrap();
        assert!(weighted.contains("[12.5,0.0,0.0]"), "{weighted}");
    }

    #[test]
    #[allow(clippy::excessive_precision, reason = "the numbers as a file has them")]
    fn what_f32_tells_apart_is_told_apart() {
        let huge = f32::MAX.next_down();
        for (low, high) in [
            (1_000_000.062_5_f32, 1_000_000.125_f32),
            (1e-7, 2e-7),
            (0.0, f32::MIN_POSITIVE),
            (1.0, 1.0_f32.next_up()),
            (16_777_215.0, 16_777_216.0),
            (-1_000_000.125, -1_000_000.062_5),
            (huge, f32::MAX),
        ] {
            let mut learner = open("{}").unwrap();
            for _ in 0..4 {
                learner.learn(2, &[low, 0.0, high, 0.0], &[0, 2], &[1.0; 2]).unwrap();
            }
            let model = learner.snapshot().unwrap();
            let mut tree = OpenClassifier::<Tree>::open("{}", &model).unwrap();
            assert_eq!(tree.classify(2, &[low, 0.0, high, 0.0]).unwrap().labels, [0, 2], "{low} and {high}");
        }
    }

    #[test]
    fn one_class_alone_is_one_leaf() {
        let mut learner = open("{}").unwrap();
        learner.learn(2, &[1.0, 1.0, 2.0, 2.0], &[1, 1], &[1.0; 2]).unwrap();
        let model = Model::read(&learner.snapshot().unwrap()).unwrap();
        assert_eq!(model.nodes.len(), 1);
    }

    #[test]
    fn rows_are_taken_up_to_the_bound_and_no_further() {
        let mut learner = open("{}").unwrap();
        let most = CELLS / 4;
        learner.learn(2, &vec![1.0; most * 2], &vec![0; most], &vec![1.0; most]).unwrap();
        let error = learner.learn(2, &[1.0, 1.0], &[0], &[1.0]).unwrap_err();
        assert!(error.contains("at most 250000 rows"), "{error}");
    }

    #[test]
    fn what_cannot_be_learned_is_refused() {
        assert!(open(r#"{"max_depth": 0}"#).err().unwrap().contains("`max_depth`"));
        assert!(open(r#"{"max_depth": 33}"#).err().unwrap().contains("`max_depth`"));
        assert!(open(r#"{"min_weight_leaf": 0}"#).err().unwrap().contains("`min_weight_leaf`"));
        assert!(open(r#"{"depth": 3}"#).err().unwrap().contains("`depth`"));
        assert!(open("{}").unwrap().snapshot().unwrap_err().contains("no row"));
        let continued = OpenLearner::<TreeLearner>::open("{}", signature(), b"{}");
        assert!(continued.err().unwrap().contains("cannot be continued"));
        let mut categories = signature();
        categories.columns.push(Column::category("colour", vec!["red".to_owned()]));
        let refused = OpenLearner::<TreeLearner>::open("{}", categories, b"");
        assert!(refused.err().unwrap().contains("`colour`"));
    }
}
