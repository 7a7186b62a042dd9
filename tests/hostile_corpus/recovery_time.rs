//! The time that a poison row costs its pipeline. It is reported and not limited: this is no release build.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandpiper_sandbox::Limits;

use crate::harness::{POISON, Place, TestPipeline, batch, expected_answers, hostile_plugin};

/// Rows of a full batch.
const ROWS: usize = 1_024;
const TIMES: usize = 11;

pub fn run() -> Result<String> {
    let config = r#"{"do":"trap","on":-113}"#;
    let mut pipeline =
        TestPipeline::open(Place::Classifier, hostile_plugin(Place::Classifier)?, config, Limits::default())?;
    let mut median = |poisoned: bool| -> Result<Duration> {
        let mut expected = expected_answers(Place::Classifier, 0, ROWS, poisoned);
        if poisoned {
            expected[POISON].1 = Err("plugin-trap".into());
        }
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let records = batch(0, ROWS, poisoned);
            let started = Instant::now();
            let answers = pipeline.process(&records)?;
            times.push(started.elapsed());
            ensure!(answers == expected, "{answers:?}");
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
