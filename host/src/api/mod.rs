//! What a daemon answers over HTTP: health, metrics, status, and the commands that change what runs.

pub mod metrics;
pub mod routes;
pub mod status;
