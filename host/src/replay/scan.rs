//! A dead-letter topic read once, from its start to its end as it is now, and kept nowhere.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::letter::{Found, Place};
use super::wait::{PATIENCE, Wait};
use crate::config::plan::Plan;
use crate::kafka::properties;
use crate::kafka::reader::{Next, Partitions, Progress, ReadFrom, Reader};

/// How often a scan is interrupted to say how far it is.
const STEP: Duration = Duration::from_millis(100);

/// A scan on its way.
pub struct Scan {
    reader: Reader,
    wait: Wait,
}

impl Scan {
    /// Takes the topic's ends as they are now.
    ///
    /// # Errors
    /// When no broker answers or the topic does not exist.
    pub fn open(plan: &Plan) -> Result<Self> {
        let topic = &plan.errors.dead_letters;
        let properties = properties::reader(plan, "dlq");
        let reader = Reader::open(&properties, topic, &Partitions::All, &ReadFrom::Beginning, PATIENCE)?;
        Ok(Self { reader, wait: Wait::new(plan, topic) })
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
                    self.wait.note_record();
                }
                Next::Trouble(text) => self.wait.note_trouble(text),
                Next::Idle => self.wait.note_silence(&self.reader, announce)?,
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    pub fn progress(&self) -> Progress {
        self.reader.progress()
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
