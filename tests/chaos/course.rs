//! How long the rows are, what is random in them, and what came of them.

use crate::kafka::jars::target;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Rows, in the order in which they ended.
static NOTES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

const SEED: &str = "SANDPIPER_CHAOS_SEED";
const LENGTH: &str = "SANDPIPER_CHAOS";

/// An error when the environment says something that cannot be read.
pub fn check() -> Result<()> {
    seed()?;
    is_long().map(drop)
}

pub fn is_long() -> Result<bool> {
    let length = std::env::var(LENGTH).unwrap_or_default();
    ensure!(["", "short", "long"].contains(&length.as_str()), "{LENGTH} is {length:?}: short or long");
    Ok(length == "long")
}

/// As often as the form says.
pub fn times(short: usize, long: usize) -> Result<usize> {
    Ok(if is_long()? { long } else { short })
}

fn seed() -> Result<u64> {
    match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED} is {text:?} and not a whole number")),
        Err(_) => Ok(20_261_122),
    }
}

/// Numbers that are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    /// Says how this course is repeated.
    pub fn new(row: &str) -> Result<Dice> {
        let seed = seed()?;
        eprintln!(
            "{row}: repeat with {SEED}={seed} cargo test -p sandpiper --test {} --locked -- {row}",
            env!("CARGO_CRATE_NAME")
        );
        Ok(Dice(seed))
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

/// Says what came of a row that holds.
pub fn note(row: &str, what: &str) {
    eprintln!("{row}: {what}");
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.push((row.to_owned(), what.to_owned()));
}

/// Writes what came of the rows as a table, beside what was built; answers where.
pub fn report() -> Result<PathBuf> {
    let form = if is_long()? { "long" } else { "short" };
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = format!("# The fault matrix, {form} form\n\n| row | what came of it |\n|---|---|\n");
    for (row, what) in notes.iter() {
        text += &format!("| `{row}` | {} |\n", what.replace('\n', " ").replace('|', "\\|"));
    }
    let folder = target()?.join("chaos");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{form}.md"));
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
