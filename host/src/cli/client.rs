//! Calls to a daemon's admin API. An error that the daemon answers is passed on in its own words.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Global;

/// Time for one call: longer than a deployment takes to be staged and accepted.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one daemon.
pub struct Client {
    base: String,
    agent: ureq::Agent,
}

impl Client {
    pub fn new(global: &Global) -> Self {
        Self::waiting(global, Some(TIMEOUT))
    }

    /// For calls that take as long as a topic is.
    pub fn patient(global: &Global) -> Self {
        Self::waiting(global, None)
    }

    fn waiting(global: &Global, timeout: Option<Duration>) -> Self {
        let base = match global.admin.split_once("://") {
            Some(_) => global.admin.clone(),
            None => format!("http://{}", global.admin),
        };
        let config = ureq::Agent::config_builder().timeout_global(timeout).http_status_as_error(false).build();
        Self { base: base.trim_end_matches('/').to_owned(), agent: config.new_agent() }
    }

    /// # Errors
    /// When no daemon answers, or it refuses; the message is the daemon's.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.parse(self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// # Errors
    /// As `get`.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body)?;
        let request = self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        self.parse(request.send(&body))
    }

    /// # Errors
    /// As `get`.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T> {
        self.parse(self.agent.put(format!("{}{path}", self.base)).send(body))
    }

    fn parse<T: DeserializeOwned>(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<T> {
        let mut answer = answer.with_context(|| {
            format!(
                "no daemon answers at {}; start one with `sandpiper run`, or name its address with --admin",
                self.base
            )
        })?;
        let status = answer.status();
        let bytes = answer.body_mut().with_config().limit(64 << 20).read_to_vec()?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no daemon of this version", self.base));
        }
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match body.get("error").and_then(serde_json::Value::as_str) {
            Some(message) => bail!("{message}"),
            None => bail!("{} answered {status}", self.base),
        }
    }
}
