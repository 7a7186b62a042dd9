//! Kafka as a journal: one daemon, which Kafka elects, decides for all that share three topics.
//!
//! `PREFIX.commands` has what is asked for, in one order: one partition. `PREFIX.deployments` has what came of it, by pipeline:
//! compacted, so that a new daemon reads what holds and not all that happened. `PREFIX.artifacts` has plugins and models by digest.
//!
//! # Layout
//! - `commands`: a command as it is written; `records`: a pipeline's control as records, and back
//! - `decider`: the process of the loop that decides; what it writes is committed with its offset in one transaction
//! - `follower`: reads what was decided, for every pipeline of this daemon
//! - `link`: sends commands; `artifacts`: what releases are made of, in pieces
//! - `topics`: the three, made where they are missing

pub mod artifacts;
pub mod commands;
pub mod decider;
pub mod follower;
pub mod link;
pub mod records;
pub mod topics;

use crate::stream::failpoint;

/// The version of what is written. A record of a later version is not understood, and says so; fields that a later program of the
/// same version adds are kept.
const VERSION: u64 = 1;
/// Bytes of a record, at most: less than a topic takes by default.
pub const MAX_RECORD: usize = 900 << 10;

/// The version that this program writes, and the latest that it understands.
fn version() -> u64 {
    VERSION + u64::from(failpoint::is_on(failpoint::LATER_VERSION))
}
