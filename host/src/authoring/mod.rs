//! What people use who write plugins and train models.

pub mod dev;
pub mod train;
