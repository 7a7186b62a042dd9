//! What a member's whole group has committed by, asked for now and then: nobody waits for the answer.

use std::ffi::CString;
use std::time::{Duration, Instant};

use super::super::raw::{Client, LONGEST_REQUEST, Queue};
use crate::config::plan::Properties;
use crate::record::Topics;
use crate::stream::fault::Fault;
use crate::stream::transaction::{Deployed, deployed_in};

/// From the start to the first question: by then whoever started at once has committed something too.
const FIRST: Duration = Duration::from_secs(5);
/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(15);
/// A client whose question has waited for so long, because no coordinator is found, is given up before librdkafka gives up the
/// question: it would free what the late answer then uses.
const PATIENCE: Duration = LONGEST_REQUEST.saturating_sub(Duration::from_mins(5));

pub(super) struct GroupOffsets {
    answers: Queue,
    group: CString,
    due: Instant,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
}

impl GroupOffsets {
    pub(super) fn new(client: &Client, properties: &Properties) -> Self {
        let group = properties.0.get("group.id").map(String::as_str).unwrap_or_default();
        Self {
            answers: Queue::own(client),
            group: CString::new(group).unwrap_or_default(),
            due: Instant::now() + FIRST,
            asked: None,
        }
    }

    /// The deployments that an answer names for any partition of these topics. One that says why it cannot is asked for again in
    /// its time; there is never more than one question on its way.
    pub(super) fn deployments(&mut self, client: &Client, topics: &Topics, now: Instant) -> Vec<Deployed> {
        if now >= self.due && self.asked.is_none() {
            client.ask_for_group_offsets(&self.group, &self.answers);
            self.asked = Some(now);
            self.due = now + INTERVAL;
        }
        let Some(answer) = self.answers.poll(Duration::ZERO) else { return Vec::new() };
        self.asked = None;
        let of_ours = answer.group_offsets().into_iter().filter(|element| topics.index(&element.topic).is_some());
        of_ours.filter_map(|element| deployed_in(&element.metadata)).collect()
    }

    /// # Errors
    /// `Denied` when the group's coordinator is sought for as long as this client may seek it.
    pub(super) fn check(&self, now: Instant) -> Result<(), Fault> {
        match self.asked.map(|asked| now.saturating_duration_since(asked)) {
            Some(waited) if waited >= PATIENCE => Err(Fault::Denied(format!(
                "the coordinator of group {} was not found for {} minutes: see that the brokers are up",
                self.group.to_string_lossy(),
                waited.as_secs() / 60
            ))),
            _ => Ok(()),
        }
    }
}
