//! The fuzz targets' seeds and mutations of them, fed to the same entry points, so that both keep working while nobody fuzzes.
//! `SANDPIPER_CHAOS=long` mutates a hundred times as often.

use anyhow::{Context as _, Result, bail, ensure};

use crate::flips::Random;

#[path = "../fuzz/entries.rs"]
mod entries;

pub use entries::allocation;

/// Mutations of each seed.
const MUTATIONS: u32 = 1_000;

pub fn run() -> Result<String> {
    let seeds = crate::root().join("tests/fuzz/seeds");
    let long = std::env::var("SANDPIPER_CHAOS").is_ok_and(|form| form == "long");
    let mutations = if long { MUTATIONS * 100 } else { MUTATIONS };
    let mut random = Random(0x5eed);
    let mut counts = Vec::new();
    for target in std::fs::read_dir(&seeds).with_context(|| seeds.display().to_string())? {
        let target = target?;
        let name = target.file_name().to_string_lossy().into_owned();
        let enter = match name.as_str() {
            "admin" => entries::admin,
            "config" => entries::config,
            "label" => entries::label,
            "join" => entries::join,
            "letter" => entries::letter,
            "prediction" => entries::prediction,
            "pointer" => entries::pointer,
            "component" => entries::component,
            "answer" => entries::answer,
            "history" => entries::history,
            "control" => entries::control,
            _ => bail!("no fuzz target is called {name}"),
        };
        let files: Vec<_> = std::fs::read_dir(target.path())?.collect::<Result<_, _>>()?;
        ensure!(!files.is_empty(), "{name} has no seeds");
        let mut seeds = Vec::new();
        for file in &files {
            seeds.push(std::fs::read(file.path())?);
        }
        let feed = |bytes: &[u8]| {
            let entered = std::panic::catch_unwind(|| enter(bytes));
            ensure!(entered.is_ok(), "{name} panics over {:?}", String::from_utf8_lossy(bytes));
            Ok(())
        };
        for seed in &seeds {
            feed(seed)?;
            // Components cost a compilation each, and `flips` mutates them already.
            for _ in 0..if name == "component" { 0 } else { mutations } {
                feed(&mutated(seed, &seeds, &mut random))?;
            }
        }
        counts.push(format!("{} of {name}", files.len()));
    }
    counts.sort();
    Ok(format!("{}, and {mutations} mutations of each", counts.join(", ")))
}

/// One to four mutations: a bit flipped, a byte replaced by one that has a meaning in some format, a stretch removed,
/// repeated, or inserted from another seed.
fn mutated(seed: &[u8], seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const SPECIAL: &[u8] = b"\0\n\"'\\{}[]/~.,:=#$-+e0189\x7f\x80\xc3\xff";
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let mut pick = |length: usize| random.below(length.max(1) as u64) as usize;
        let (at, end) = (pick(bytes.len()), pick(bytes.len()));
        let stretch = at.min(end)..at.max(end).min(at.min(end) + 16);
        match pick(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << pick(8),
            1 if !bytes.is_empty() => bytes[at] = SPECIAL[pick(SPECIAL.len())],
            2 => drop(bytes.drain(stretch)),
            3 => {
                let copy = bytes[stretch].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            _ => {
                let other = &seeds[pick(seeds.len())];
                let (from, to) = (pick(other.len()), pick(other.len()));
                let stretch = other[from.min(to)..from.max(to)].to_vec();
                drop(bytes.splice(at..at, stretch));
            }
        }
    }
    bytes
}
