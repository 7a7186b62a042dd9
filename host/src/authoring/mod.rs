//! For people who write plugins and train models: redeploying while they edit, and training outside of a pipeline.

pub mod dev;
pub mod train;
