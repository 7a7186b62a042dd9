//! For people who write plugins and train models: redeploying while they edit, dead letters as tests, and training outside of
//! a pipeline.

pub mod dev;
pub mod letter_test;
pub mod train;
