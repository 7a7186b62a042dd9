//! A pause: since when and why a pipeline processes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who paused a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// `sandpiper pause`.
    Operator,
    /// More dead letters than `[errors] pause_above`.
    Breaker,
    /// A record that `[errors]` says to stop at.
    Record,
    /// The release failed, and there is none to go back to.
    Release,
}

/// Since when and why a pipeline processes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    pub cause: Cause,
    pub why: String,
    /// Dead letters of the last minute, reason → records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
}

impl Pause {
    /// What to do about it.
    pub fn advice(&self, pipeline: &str) -> String {
        let resume = format!("`sandpiper resume {pipeline}`");
        match self.cause {
            Cause::Operator => format!("{resume} goes on where it stopped"),
            Cause::Breaker => format!(
                "mend what writes the input, deploy a release that takes it, or raise [errors] pause_above; then {resume}"
            ),
            Cause::Record => format!(
                "deploy a release that takes the record, or set [errors] to \"dead-letter\" or \"drop\"; then {resume}"
            ),
            Cause::Release => format!("deploy a release that works (`sandpiper deploy {pipeline}`); then {resume}"),
        }
    }
}
