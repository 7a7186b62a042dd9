//! A daemon's part where one decides for several: its link to who decides, what it hears, and the artifacts that it gives and takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use sandpiper_sandbox::Digest;

use super::command::{Action, Refused};
use super::directory::StateDirectory;
use super::journal::kafka::artifacts;
use super::journal::kafka::follower::{Artifacts, Follower, Subscriber};
use super::journal::kafka::link::{KafkaLink, Standing};
use super::runner::Inbox;
use crate::config::daemon::Control;
use crate::kafka::properties;
use crate::stream::stop::Stop;

/// Several daemons, as one of them sees them.
pub struct Fleet {
    pub control: Control,
    pub standing: Arc<Standing>,
    pub link: Arc<KafkaLink>,
    artifacts: Artifacts,
}

impl Fleet {
    /// # Errors
    /// When librdkafka refuses the properties. No broker need be there.
    pub fn new(control: Control, directory: &Arc<StateDirectory>) -> Result<Self> {
        let standing = Arc::new(Standing::default());
        let link = Arc::new(KafkaLink::new(&control, directory, standing.clone())?);
        Ok(Self { control, standing, link, artifacts: Artifacts::default() })
    }

    /// Follows what is decided, for those pipelines.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn follow(&self, subscribers: BTreeMap<String, Subscriber>, stop: Stop) -> Result<JoinHandle<()>> {
        let follower = Follower {
            properties: properties::reader(&self.control, "control"),
            control: self.control.clone(),
            standing: self.standing.clone(),
            artifacts: self.artifacts.clone(),
            subscribers,
            stop,
        };
        follower.start().context("starting the thread that follows what is decided")
    }

    /// Has every daemon able to stage those: what the artifacts' topic has not yet is given to it.
    ///
    /// # Errors
    /// When one cannot be read here, or cannot be written there.
    pub fn share<P: Send + 'static>(
        &self,
        pipeline: &str,
        digests: impl Iterator<Item = Digest>,
        inbox: &Inbox<P>,
    ) -> Result<(), Refused> {
        for digest in digests {
            if self.artifacts.get(pipeline, digest).is_some() {
                continue;
            }
            let given = self.link.giver.give(pipeline, digest);
            let artifact = given.map_err(|error| Refused::Unfit { why: format!("{error:#}") })?;
            inbox.ask(None, Action::Shared { digest, artifact })?;
        }
        Ok(())
    }

    /// Has the state directory hold those, from the artifacts' topic where it lacks them.
    ///
    /// # Errors
    /// When one is in neither, or is damaged.
    pub fn take(
        &self,
        pipeline: &str,
        digests: impl Iterator<Item = Digest>,
        directory: &StateDirectory,
    ) -> Result<()> {
        for digest in digests {
            if directory.check_artifact(digest).is_ok() {
                continue;
            }
            let artifact = self.artifacts.get(pipeline, digest).with_context(|| {
                format!(
                    "artifact {digest} is neither in {} nor in {}: deploy the file again",
                    directory.path().display(),
                    self.control.artifacts()
                )
            })?;
            let reader = properties::reader(&self.control, "artifacts");
            let taken = artifacts::take(&reader, &self.control.artifacts(), digest, &artifact);
            if taken.is_err() {
                // So that whoever has it can give it anew.
                self.link.report(pipeline, Action::Lacks { digest });
            }
            directory.keep_artifact(&taken?)?;
        }
        Ok(())
    }
}
