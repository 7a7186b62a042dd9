//! What a member's whole group has committed by, asked for now and then: nobody waits for the answer.

use std::ffi::CString;
use std::time::{Duration, Instant};

use super::super::raw::{Client, Queue};
use crate::config::plan::Properties;
use crate::record::Topics;
use crate::stream::transaction::{Deployed, deployed_in};

/// From the start to the first question: by then whoever started at once has committed something too.
const FIRST: Duration = Duration::from_secs(5);
/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(15);

pub(super) struct GroupOffsets {
    answers: Queue,
    group: CString,
    due: Instant,
}

impl GroupOffsets {
    pub(super) fn new(client: &Client, properties: &Properties) -> Self {
        let group = properties.0.get("group.id").map(String::as_str).unwrap_or_default();
        Self {
            answers: Queue::own(client),
            group: CString::new(group).unwrap_or_default(),
            due: Instant::now() + FIRST,
        }
    }

    /// The deployments that an answer names for any partition of these topics. One that does not come, or says why not, is
    /// asked for again in its time.
    pub(super) fn deployments(&mut self, client: &Client, topics: &Topics, now: Instant) -> Vec<Deployed> {
        if now >= self.due {
            client.ask_for_group_offsets(&self.group, INTERVAL, &self.answers);
            self.due = now + INTERVAL;
        }
        let Some(answer) = self.answers.poll(Duration::ZERO) else { return Vec::new() };
        let of_ours = answer.group_offsets().into_iter().filter(|element| topics.index(&element.topic).is_some());
        of_ours.filter_map(|element| deployed_in(&element.metadata)).collect()
    }
}
