//! A dead-letter topic read once, from its start to its end as it is now, and kept nowhere.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::letter::{Found, Place};
use crate::config::plan::Plan;
use crate::kafka::properties;
use crate::kafka::reader::{Next, Partitions, Progress, ReadFrom, Reader};

/// Time for one question to the brokers, and how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);
/// A broker checks that often for transactions that have outlived their time, and aborts them.
const ABORT_INTERVAL: Duration = Duration::from_secs(10);
/// A transaction that is open for so long is no pause between two commits: the wait for it is announced.
const ANNOUNCED: Duration = Duration::from_secs(2);
/// How often a scan is interrupted to say how far it is.
const STEP: Duration = Duration::from_millis(100);

/// A scan on its way.
pub struct Scan {
    reader: Reader,
    topic: String,
    brokers: String,
    /// How long a transaction may stay open.
    open_for: Duration,
    trouble: Option<String>,
    announced: bool,
}

impl Scan {
    /// Takes the topic's ends as they are now.
    ///
    /// # Errors
    /// When no broker answers or the topic does not exist.
    pub fn open(plan: &Plan) -> Result<Self> {
        let topic = plan.errors.dead_letters.clone();
        let properties = properties::reader(plan, "dlq");
        let reader = Reader::open(&properties, &topic, &Partitions::All, &ReadFrom::Beginning, PATIENCE)?;
        let brokers = plan.kafka.0.get("bootstrap.servers").cloned().unwrap_or_default();
        let open_for = plan.delivery.transaction_timeout + ABORT_INTERVAL + PATIENCE;
        Ok(Self { reader, topic, brokers, open_for, trouble: None, announced: false })
    }

    /// Goes on for about that long, and answers whether it is at the end. Shows every committed record to `take` with its
    /// place, in the order of each partition; what is in open transactions too, when they have committed. `announce` is told
    /// once, if one of them makes it wait.
    ///
    /// # Errors
    /// When nothing more comes, or a transaction stays open for longer than its writers may take.
    pub fn step(
        &mut self,
        time: Duration,
        announce: &mut impl FnMut(&str),
        take: &mut impl FnMut(Place, Found),
    ) -> Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            match self.reader.next(deadline.saturating_duration_since(Instant::now()))? {
                Next::End => return Ok(true),
                Next::Record(record) => {
                    let at = (record.partition, record.offset);
                    take(at, Found::read(at, record.key.as_deref(), record.value.as_deref(), &record.headers));
                    self.trouble = None;
                }
                Next::Trouble(text) => self.trouble = Some(text),
                Next::Idle => self.wait(announce)?,
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    pub fn progress(&self) -> Progress {
        self.reader.progress()
    }

    fn wait(&mut self, announce: &mut impl FnMut(&str)) -> Result<()> {
        let (topic, silence) = (&self.topic, self.reader.silence());
        if let Some((partition, offset)) = self.reader.open_transaction() {
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

/// A whole scan. `progress` is told now and then how far it is, and ends it by answering false.
///
/// # Errors
/// As `Scan`'s.
pub fn scan(
    plan: &Plan,
    mut announce: impl FnMut(&str),
    mut progress: impl FnMut(Progress) -> bool,
    mut take: impl FnMut(Place, Found),
) -> Result<()> {
    let mut scan = Scan::open(plan)?;
    while !scan.step(STEP, &mut announce, &mut take)? {
        if !progress(scan.progress()) {
            bail!("it was stopped");
        }
    }
    Ok(())
}
