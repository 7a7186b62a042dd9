//! The fault matrix's form and seed, from the environment, and its report.

use crate::kafka::jars::target;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The rows that passed and their results, in the order in which they ended.
static RESULTS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

const SEED: &str = "SANDPIPER_CHAOS_SEED";
const LENGTH: &str = "SANDPIPER_CHAOS";

/// An error when the environment's form or seed cannot be read.
pub fn check_environment() -> Result<()> {
    seed()?;
    is_long().map(drop)
}

pub fn is_long() -> Result<bool> {
    let length = std::env::var(LENGTH).unwrap_or_default();
    ensure!(["", "short", "long"].contains(&length.as_str()), "{LENGTH} is {length:?}: short or long");
    Ok(length == "long")
}

/// How often something is repeated in the form that runs.
pub fn times(short: usize, long: usize) -> Result<usize> {
    Ok(if is_long()? { long } else { short })
}

fn seed() -> Result<u64> {
    match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED} is {text:?} and not a whole number")),
        Err(_) => Ok(20_261_122),
    }
}

/// Random numbers that are the same for the same seed.
pub struct SeededRandom(u64);

impl SeededRandom {
    /// Prints how to repeat this row with the same numbers.
    pub fn new(row: &str) -> Result<SeededRandom> {
        let seed = seed()?;
        eprintln!(
            "{row}: repeat with {SEED}={seed} cargo test -p sandpiper --test {} --locked -- {row}",
            env!("CARGO_CRATE_NAME")
        );
        Ok(SeededRandom(seed))
    }

    /// Below that bound. Steele, Lea and Flood's SplitMix64.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound.max(1)
    }
}

/// Prints and keeps the result of a row that passed.
pub fn record_result(row: &str, result: &str) {
    eprintln!("{row}: {result}");
    let mut results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
    results.push((row.to_owned(), result.to_owned()));
}

/// Writes the results as a table into the target directory; returns the file.
pub fn write_report() -> Result<PathBuf> {
    let form = if is_long()? { "long" } else { "short" };
    let results = RESULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = format!("# The fault matrix, {form} form\n\n| row | what came of it |\n|---|---|\n");
    for (row, result) in results.iter() {
        text += &format!("| `{row}` | {} |\n", result.replace('\n', " ").replace('|', "\\|"));
    }
    let folder = target()?.join("chaos");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{form}.md"));
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
