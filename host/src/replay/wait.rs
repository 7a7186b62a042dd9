//! How long a reader is waited for that stands still, and what is said meanwhile.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::plan::Plan;
use crate::kafka::reader::Reader;

/// Time for one question to the brokers, and how long nothing may come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A broker checks that often for transactions that have outlived their time, and aborts them.
const ABORT_INTERVAL: Duration = Duration::from_secs(10);
/// A transaction that is open for so long is no pause between two commits: the wait for it is announced.
const ANNOUNCED: Duration = Duration::from_secs(2);

/// The wait for one topic's reader.
pub(super) struct Wait {
    topic: String,
    brokers: String,
    /// How long a transaction may stay open.
    open_for: Duration,
    trouble: Option<String>,
    announced: bool,
}

impl Wait {
    pub(super) fn new(plan: &Plan, topic: &str) -> Self {
        let brokers = plan.kafka.0.get("bootstrap.servers").cloned().unwrap_or_default();
        let open_for = plan.delivery.transaction_timeout + ABORT_INTERVAL + PATIENCE;
        Self { topic: topic.to_owned(), brokers, open_for, trouble: None, announced: false }
    }

    /// A record came.
    pub(super) fn note_record(&mut self) {
        self.trouble = None;
    }

    /// The client reports what it mends by itself.
    pub(super) fn note_trouble(&mut self, text: String) {
        self.trouble = Some(text);
    }

    /// Nothing came for a while. `announce` is told once, if an open transaction is what is waited for.
    ///
    /// # Errors
    /// When nothing more comes, or a transaction stays open for longer than its writers may take.
    pub(super) fn note_silence(&mut self, reader: &Reader, announce: &mut impl FnMut(&str)) -> Result<()> {
        let (topic, silence) = (&self.topic, reader.silence());
        if let Some((partition, offset)) = reader.open_transaction() {
            if silence >= self.open_for {
                bail!(
                    "a transaction on {topic} is open since {partition}@{offset}: nothing behind it can be read before its \
                     producer or the broker ends it"
                );
            }
            if silence >= ANNOUNCED && !std::mem::replace(&mut self.announced, true) {
                announce(&format!(
                    "waiting for the end of a transaction on {topic} that is open since {partition}@{offset}"
                ));
            }
        } else if silence >= PATIENCE {
            bail!(
                self.trouble.clone().unwrap_or_else(|| format!("nothing more comes from {topic} at {}", self.brokers))
            );
        }
        Ok(())
    }
}
