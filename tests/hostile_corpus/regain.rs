//! What a poison row costs its pipeline. A figure, not a test of time: this build is no release.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandpiper_sandbox::Limits;

use crate::scene::{Lane, POISON, Place, batch, expected, told};

/// Rows of a full batch.
const ROWS: usize = 1_024;
const TIMES: usize = 11;

pub fn run() -> Result<String> {
    let config = r#"{"do":"trap","on":-113}"#;
    let mut lane = Lane::open(Place::Classifier, told(Place::Classifier)?, config, Limits::default())?;
    let mut median = |poisoned: bool| -> Result<Duration> {
        let mut due = expected(Place::Classifier, 0, ROWS, poisoned);
        if poisoned {
            due[POISON].1 = Err("plugin-trap".into());
        }
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let records = batch(0, ROWS, poisoned);
            let started = Instant::now();
            let answers = lane.process(&records)?;
            times.push(started.elapsed());
            ensure!(answers == due, "{answers:?}");
        }
        times.sort();
        Ok(times[TIMES / 2])
    };
    let (clean, poisoned) = (median(false)?, median(true)?);
    Ok(format!(
        "a batch of {ROWS} takes {clean:.1?}, with a row that traps {poisoned:.1?}: {:.1?} more",
        poisoned.saturating_sub(clean)
    ))
}
