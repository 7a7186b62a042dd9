//! The audit log: a line for every call that would change something, with who, what, from where and what came of it. Its
//! lines have the target `audit`, and no filter of the log takes them out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;

use super::bodies::short;
use crate::control::command::By;

/// Between two lines about callers who are turned away: whoever reaches the port could fill the disk with them.
const TURNED_AWAY: Duration = Duration::from_secs(1);

/// What came of a command, in words: an extension of its response.
#[derive(Clone)]
pub struct CameOf(pub String);

/// Method and path.
pub fn call(request: &Request) -> String {
    format!("{} {}", request.method(), short(request.uri().path()))
}

/// The line about one admitted call. Where nobody waits for the answer any more, it says so.
pub struct Line {
    by: By,
    call: String,
    is_written: bool,
}

impl Line {
    pub fn new(by: &By, call: String) -> Self {
        Self { by: by.clone(), call, is_written: false }
    }

    pub fn answered(mut self, response: &Response) {
        let status = response.status().as_u16();
        match response.extensions().get::<CameOf>() {
            Some(CameOf(came_of)) => self.write(status, came_of),
            None => self.write(status, response.status().canonical_reason().unwrap_or_default()),
        }
    }

    fn write(&mut self, status: u16, came_of: &str) {
        let By { who, from } = &self.by;
        tracing::info!(target: "audit", who, from, call = self.call, status, came_of, "audit");
        self.is_written = true;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(0, "the caller did not wait for the answer");
        }
    }
}

/// What is remembered of callers who were turned away.
#[derive(Default)]
pub struct Audit(Mutex<TurnedAway>);

#[derive(Default)]
struct TurnedAway {
    last: Option<Instant>,
    unsaid: u64,
}

impl Audit {
    /// Somebody without the right token: one line a second, and how many there were besides.
    pub fn turned_away(&self, from: &str, call: String, why: &str) {
        let mut turned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turned.last.is_some_and(|last| last.elapsed() < TURNED_AWAY) {
            turned.unsaid += 1;
            return;
        }
        tracing::warn!(target: "audit", from, call, others = turned.unsaid, "turned away: {why}");
        *turned = TurnedAway { last: Some(Instant::now()), unsaid: 0 };
    }
}
