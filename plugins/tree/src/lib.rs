//! The stock model `tree`: one decision tree over numbers.
//!
//! - `model`: the model's file and the checks that it must pass
//! - `classify`: rows to the class distribution of their leaf
//! - `learn`: labelled rows to a model, by linfa
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod classify;
mod learn;
mod model;

pub use classify::Tree;
pub use learn::TreeLearner;
pub use model::{Model, Node};

sandpiper_sdk::export_learner!(Tree, TreeLearner);
