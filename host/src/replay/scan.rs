//! A dead-letter topic read once, from its start to its end as it is now.

use std::time::Duration;

use anyhow::{Result, bail};

use super::letter::Found;
use crate::config::plan::Plan;
use crate::kafka::properties;
use crate::kafka::reader::{Next, Partitions, ReadFrom, Reader};

/// Time for one question to the brokers, and how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);
/// A broker checks that often for transactions that have outlived their time, and aborts them.
const ABORT_INTERVAL: Duration = Duration::from_secs(10);
/// A transaction that is open for so long is no pause between two commits: the wait for it is announced.
const ANNOUNCED: Duration = Duration::from_secs(2);
/// How often a wait for records is interrupted to see how long it is.
const POLL: Duration = Duration::from_millis(100);

/// Shows every committed record to `take` with its partition and offset, in the order of each partition; what is in open
/// transactions too, when they have committed. `announce` is told once, if one of them makes it wait.
///
/// # Errors
/// When no broker answers, the topic does not exist, or a transaction stays open for longer than its writers may take.
pub fn scan(plan: &Plan, mut announce: impl FnMut(&str), mut take: impl FnMut((i32, i64), Found)) -> Result<()> {
    let topic = plan.errors.dead_letters.as_str();
    let properties = properties::reader(plan, "dlq");
    let mut reader = Reader::open(&properties, topic, &Partitions::All, &ReadFrom::Beginning, PATIENCE)?;
    let (mut trouble, mut announced) = (None, false);
    loop {
        match reader.next(POLL)? {
            Next::End => return Ok(()),
            Next::Record(record) => {
                let at = (record.partition, record.offset);
                take(at, Found::read(at, record.key.as_deref(), record.value.as_deref(), &record.headers));
                trouble = None;
                continue;
            }
            Next::Trouble(text) => trouble = Some(text),
            Next::Idle => {}
        }
        let silence = reader.silence();
        if let Some((partition, offset)) = reader.open_transaction() {
            if silence >= plan.delivery.transaction_timeout + ABORT_INTERVAL + PATIENCE {
                bail!(
                    "a transaction on {topic} is open since {partition}@{offset}: nothing behind it can be read before its \
                     producer or the broker ends it"
                );
            }
            if silence >= ANNOUNCED && !std::mem::replace(&mut announced, true) {
                announce(&format!(
                    "waiting for the end of a transaction on {topic} that is open since {partition}@{offset}"
                ));
            }
        } else if silence >= PATIENCE {
            let brokers = plan.kafka.0.get("bootstrap.servers").map_or("", String::as_str);
            bail!(trouble.unwrap_or_else(|| format!("nothing more comes from {topic} at {brokers}")));
        }
    }
}
