//! The stock model `logistic`: multinomial logistic regression on standardised numbers.
//!
//! - `model`: the model's file and the checks that it must pass
//! - `classify`: rows to probabilities
//! - `learn`: labelled rows to a model, by linfa
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod classify;
mod learn;
mod model;

pub use classify::Logistic;
pub use learn::LogisticLearner;
pub use model::Model;

sandpiper_sdk::export_learner!(Logistic, LogisticLearner);
