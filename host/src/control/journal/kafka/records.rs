//! A pipeline's control as records of the deployments' topic, and back.
//!
//! Each part has a key of its own, so that a change writes what it changed: `NAME/revision/17`, `NAME/calls`, `NAME/member/eu-1`,
//! `NAME/artifact/sha256:…`, `NAME/answer/5`. Last in its transaction comes the head, whose key is the pipeline's name: only with it
//! the others hold. A part that this program does not know wholly keeps the rest when it is written again.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use sandpiper_sandbox::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MAX_RECORD, version};
use crate::control::command::CommandId;
use crate::control::deployment::Deployment;
use crate::control::fold::{Artifact, Control, Handover, Member, Staging};
use crate::control::history::{Call, History};
use crate::control::journal::News;
use crate::control::rollout::Rollout;
use crate::control::runner::Answer;
use crate::record::Revision;
use crate::stream::pause::Pause;

/// Answers that are kept: whoever waits for one reads them as they come.
const ANSWERS: u64 = 1_024;

/// What a transaction writes of one pipeline, by key and in this order; `None` is a tombstone.
pub type Changes = Vec<(String, Option<Vec<u8>>)>;

/// What holds a pipeline's parts together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Head {
    /// As in `News`.
    position: i64,
    base: u64,
    /// When the last command was written, milliseconds since the Unix epoch.
    at: i64,
    /// The deployments that there are.
    revisions: Vec<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied_score: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<Pause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<Rollout>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    staging: BTreeMap<CommandId, Staging>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handover: Option<Handover>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed_scorer: Option<Revision>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Calls {
    calls: Vec<Call>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answered {
    id: CommandId,
    answer: Answer,
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u64,
}

/// What one pipeline's records say.
#[derive(Clone, Debug, Default)]
pub struct View {
    head: Head,
    deployments: BTreeMap<Revision, Arc<Deployment>>,
    calls: Vec<Call>,
    members: BTreeMap<String, Member>,
    artifacts: BTreeMap<Digest, Artifact>,
    answers: BTreeMap<CommandId, Answer>,
    /// As they stand in the topic.
    written: BTreeMap<String, Arc<Value>>,
}

/// How far commands have been decided.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decided {
    pub position: i64,
    pub base: u64,
    pub at: i64,
}

/// A key's pipeline, and what of it.
pub fn split(key: &[u8]) -> Option<(&str, &str)> {
    let key = std::str::from_utf8(key).ok()?;
    Some(key.split_once('/').unwrap_or((key, "")))
}

impl View {
    /// Takes a record; whether it is the head, with which those before it hold.
    ///
    /// # Errors
    /// When this program does not understand it.
    pub fn take(&mut self, part: &str, value: Option<&[u8]>) -> Result<bool> {
        let Some(bytes) = value else {
            self.forget(part)?;
            return Ok(part.is_empty());
        };
        let Versioned { v } = serde_json::from_slice(bytes).context("it is no record of control")?;
        let known = version();
        ensure!(v <= known, "it has version {v}, and this program knows {known}: start a newer one");
        match part.split_once('/').unwrap_or((part, "")) {
            ("", _) => self.head = serde_json::from_slice(bytes)?,
            ("revision", _) => {
                let deployment: Deployment = serde_json::from_slice(bytes)?;
                self.deployments.insert(deployment.revision, Arc::new(deployment));
            }
            ("calls", _) => self.calls = serde_json::from_slice::<Calls>(bytes)?.calls,
            ("member", name) => drop(self.members.insert(name.to_owned(), serde_json::from_slice(bytes)?)),
            ("artifact", digest) => drop(self.artifacts.insert(digest.parse()?, serde_json::from_slice(bytes)?)),
            ("answer", _) => {
                let Answered { id, answer } = serde_json::from_slice(bytes)?;
                self.answers.retain(|other, _| other.0 % ANSWERS != id.0 % ANSWERS);
                self.answers.insert(id, answer);
            }
            // A later program's, which this one does not need to understand.
            _ => {}
        }
        self.written.insert(part.to_owned(), Arc::new(serde_json::from_slice(bytes)?));
        Ok(part.is_empty())
    }

    fn forget(&mut self, part: &str) -> Result<()> {
        self.written.remove(part);
        match part.split_once('/').unwrap_or((part, "")) {
            ("", _) => self.head = Head::default(),
            ("revision", number) => drop(self.deployments.remove(&revision(number)?)),
            ("calls", _) => self.calls.clear(),
            ("member", name) => drop(self.members.remove(name)),
            ("artifact", digest) => drop(self.artifacts.remove(&digest.parse()?)),
            _ => {}
        }
        Ok(())
    }

    pub fn decided(&self) -> Decided {
        let Head { position, base, at, .. } = self.head;
        Decided { position, base, at }
    }

    pub fn artifacts(&self) -> impl Iterator<Item = (Digest, &Artifact)> {
        self.artifacts.iter().map(|(digest, artifact)| (*digest, artifact))
    }

    /// The control that they say. Where a part of the history is gone there is none: a daemon that remembers it gives it back.
    pub fn control(&self, pipeline: &str) -> Control {
        let Head { revisions, applied, applied_score, paused, rollout, .. } = self.head.clone();
        let deployments: Option<Vec<Deployment>> = revisions
            .iter()
            .map(|revision| self.deployments.get(revision).map(|each| Deployment::clone(each)))
            .collect();
        let (members, artifacts) = (self.members.clone(), self.artifacts.clone());
        let control =
            Control { pipeline: pipeline.to_owned(), is_shared: true, members, artifacts, ..Control::default() };
        match deployments {
            None => control,
            Some(deployments) => {
                let calls = self.calls.clone();
                let history = History { applied, applied_score, deployments, paused, rollout, calls };
                let Head { staging, handover, failed, failed_scorer, .. } = self.head.clone();
                Control { history: Arc::new(history), staging, handover, failed, failed_scorer, ..control }
            }
        }
    }

    pub fn news(&self, pipeline: &str) -> News {
        let Decided { position, base, .. } = self.decided();
        let is_whole = self.head.revisions.iter().all(|revision| self.deployments.contains_key(revision));
        News { control: self.control(pipeline), position, base, answers: self.answers.clone(), is_whole }
    }

    /// What has to be written so that another reader has that control; everything where `whole`.
    ///
    /// # Errors
    /// When a record of it would be larger than a topic takes.
    pub fn changes(
        &self,
        pipeline: &str,
        control: &Control,
        decided: Decided,
        answers: &[(CommandId, Answer)],
        whole: bool,
    ) -> Result<Changes> {
        let mut changes = Changes::new();
        let history = &control.history;
        let mut write = |part: String, known: Option<Value>, value: Value| {
            changes.push((key(pipeline, &part), Some(self.merged(&part, known, value)?)));
            anyhow::Ok(())
        };
        for deployment in &history.deployments {
            let known = self.deployments.get(&deployment.revision);
            if whole || known.is_none_or(|known| **known != *deployment) {
                let known = known.map(|known| serde_json::to_value(&**known)).transpose()?;
                write(format!("revision/{}", deployment.revision), known, serde_json::to_value(deployment)?)?;
            }
        }
        if whole || history.calls != self.calls {
            let known = serde_json::to_value(Calls { calls: self.calls.clone() })?;
            write("calls".into(), Some(known), serde_json::to_value(Calls { calls: history.calls.clone() })?)?;
        }
        for (name, member) in &control.members {
            let known = self.members.get(name);
            if whole || known != Some(member) {
                let known = known.map(serde_json::to_value).transpose()?;
                write(format!("member/{name}"), known, serde_json::to_value(member)?)?;
            }
        }
        for (digest, artifact) in &control.artifacts {
            let known = self.artifacts.get(digest);
            if whole || known != Some(artifact) {
                let known = known.map(serde_json::to_value).transpose()?;
                write(format!("artifact/{digest}"), known, serde_json::to_value(artifact)?)?;
            }
        }
        for (id, answer) in answers {
            let answered = Answered { id: *id, answer: answer.clone() };
            write(format!("answer/{}", id.0 % ANSWERS), None, serde_json::to_value(answered)?)?;
        }
        let is_gone = |part: &str| match part.split_once('/') {
            Some(("revision", number)) => revision(number).is_ok_and(|number| history.deployment(number).is_none()),
            Some(("member", name)) => !control.members.contains_key(name),
            Some(("artifact", digest)) => digest.parse().is_ok_and(|digest| !control.artifacts.contains_key(&digest)),
            _ => false,
        };
        changes.extend(self.written.keys().filter(|part| is_gone(part)).map(|part| (key(pipeline, part), None)));
        let Decided { position, base, at } = decided;
        let head = Head {
            position,
            base,
            at,
            revisions: history.deployments.iter().map(|deployment| deployment.revision).collect(),
            applied: history.applied,
            applied_score: history.applied_score,
            paused: history.paused.clone(),
            rollout: history.rollout.clone(),
            staging: control.staging.clone(),
            handover: control.handover,
            failed: control.failed,
            failed_scorer: control.failed_scorer,
        };
        let known = self.written.contains_key("").then(|| serde_json::to_value(&self.head)).transpose()?;
        let head = self.merged("", known, serde_json::to_value(head)?)?;
        changes.push((pipeline.to_owned(), Some(head)));
        Ok(changes)
    }

    /// A part as it is to be written: with the fields that this program does not know, as they stand.
    fn merged(&self, part: &str, known: Option<Value>, mut value: Value) -> Result<Vec<u8>> {
        if let (Some(written), Some(known)) = (self.written.get(part), &known) {
            keep_unknown(written, known, &mut value);
        }
        if let Value::Object(object) = &mut value {
            object.insert("v".into(), version().into());
        }
        let bytes = serde_json::to_vec(&value)?;
        if bytes.len() > MAX_RECORD {
            bail!(
                "what is to be written of it has {} bytes, and a record of the control topics {MAX_RECORD} at most: give a large \
                 configuration to the plugin as its model",
                bytes.len()
            );
        }
        Ok(bytes)
    }
}

fn key(pipeline: &str, part: &str) -> String {
    format!("{pipeline}/{part}")
}

fn revision(number: &str) -> Result<Revision> {
    Revision::new(number.parse()?).context("a revision is above 0")
}

/// Adds to an object what it had and this program does not know: `known` is all that this program understood of it.
fn keep_unknown(written: &Value, known: &Value, value: &mut Value) {
    let (Value::Object(written), Value::Object(known), Value::Object(value)) = (written, known, value) else { return };
    for (name, was) in written {
        match (known.get(name), value.get_mut(name)) {
            (None, None) => drop(value.insert(name.clone(), was.clone())),
            (Some(known), Some(value)) => keep_unknown(was, known, value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
