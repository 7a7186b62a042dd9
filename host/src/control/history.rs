//! What is remembered of a pipeline's deployments.

use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};

use super::deployment::Deployment;
use crate::record::Revision;
use crate::stream::pause::Pause;

/// Deployments that are remembered of each pipeline.
const REMEMBERED: usize = 200;

/// What a journal keeps of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Digest of the releases that the pipeline's file asked for when it was last applied: when the file asks for
    /// something else, it is applied again; otherwise the last deployment stands.
    pub applied: Option<Digest>,
    /// By revision, the last is the current one.
    pub deployments: Vec<Deployment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
}

impl History {
    pub fn current(&self) -> Option<&Deployment> {
        self.deployments.last()
    }

    /// None before the first deployment.
    pub fn revision(&self) -> Option<Revision> {
        self.current().map(|current| current.revision)
    }

    /// What there is to go back to: the last deployment that ran something else and did not fail.
    pub fn previous(&self) -> Option<&Deployment> {
        let runs = self.current()?.releases.digest();
        self.deployments.iter().rev().find(|each| each.failed.is_none() && each.releases.digest() != runs)
    }

    /// Adds what is current from now on; the oldest goes beyond 200.
    pub(super) fn push(&mut self, deployment: Deployment) {
        self.deployments.push(deployment);
        let surplus = self.deployments.len().saturating_sub(REMEMBERED);
        self.deployments.drain(..surplus);
    }
}
