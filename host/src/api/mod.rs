//! What a daemon answers over HTTP: health, metrics, status, and the commands that change what runs.
//!
//! # Layout
//! - `server`: connections, each with its time; `tls`
//! - `access`: who may ask what; `tokens`: their secrets; `audit`: what was asked
//! - `routes`: what is answered; `bodies`, `uploads`: what callers send; `refusal`: an error as they see it
//! - `health`: whether it is well; `status`, `metrics`: what a daemon says of itself

pub mod access;
mod audit;
pub mod bodies;
mod health;
pub mod metrics;
pub mod refusal;
pub mod routes;
pub mod server;
pub mod status;
pub mod tls;
pub mod tokens;
mod uploads;
