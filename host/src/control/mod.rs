//! What runs, what is to run next, and what is remembered of both.

pub mod controller;
pub mod deployment;
pub mod staging;
pub mod state;
