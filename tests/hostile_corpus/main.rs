//! The hostile corpus: plugins and files made to harm their host, each with the outcome that it must have.
//!
//! Each has a bound of the host's own memory, measured while it runs, and all together one of the process's resident memory.
//! No Kafka is needed: the library's own pipelines run them, beside others that behave and share their engine. A host
//! that dies takes this test along. `SANDPIPER_CHAOS=long` flips 10,000 bits instead of a hundred.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bombs;
mod case;
mod cases;
mod flips;
mod foreign;
mod harness;
#[path = "../support/hostile.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod hostile;
#[path = "../kafka/jars.rs"]
#[allow(dead_code, reason = "it knows the target directory; the jars are for the end-to-end tests")]
mod jars;
mod last_words;
mod raw;
mod recovery_time;
mod seeds;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use jars::target;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// The limit of this process's peak memory, for all of the corpus: hundreds of plugins that allocate 64 MiB and more.
const MAX_PEAK_MEMORY: u64 = 2 << 30;

/// The project's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let outcomes: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let note = |name: String, run: Box<dyn FnOnce() -> anyhow::Result<String> + Send>| {
        let outcomes = outcomes.clone();
        Trial::test(name.clone(), move || {
            let outcome = run().map_err(|error| Failed::from(format!("{error:#}")))?;
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((name, outcome));
            Ok(())
        })
    };
    let mut trials: Vec<Trial> = cases::all()
        .into_iter()
        .map(|case| note(format!("{}::{}", case.place.name(), case.name), Box::new(move || case.run())))
        .collect();
    trials.push(note("flips::a_stock_plugin_with_flipped_bits".into(), Box::new(flips::run)));
    trials.extend(foreign::ALL.map(|foreign| {
        let name = format!("{}::{}", foreign.place.name(), foreign.name);
        let outcomes = outcomes.clone();
        Trial::ignorable_test(name.clone(), move || {
            let run = || -> anyhow::Result<Completion> {
                if let Some(lacks) = foreign.lacks()? {
                    // Its name and the reason stand in the list of what came of all cases, too.
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((name, format!("skipped: {lacks}")));
                    return Ok(Completion::ignored_with(lacks));
                }
                let outcome = foreign.case()?.run()?;
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((name, outcome));
                Ok(Completion::Completed)
            };
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
    }));
    trials.push(note("bombs::a_component_that_is_hard_to_compile".into(), Box::new(bombs::run)));
    trials.push(note("regain::speed_after_a_poison_row".into(), Box::new(recovery_time::run)));
    trials.push(note("messages::of_failures".into(), Box::new(last_words::run)));
    trials.push(note("seeds::of_the_fuzz_targets".into(), Box::new(seeds::run)));
    let conclusion = libtest_mimic::run(&arguments, trials);

    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort();
    let width = outcomes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, outcome) in outcomes.iter() {
        println!("{name:width$}  {outcome}");
    }
    let peak = peak_memory();
    println!("{} outcomes, {} MiB of memory at the highest", outcomes.len(), peak >> 20);
    if peak > MAX_PEAK_MEMORY {
        eprintln!("the host's memory is not bounded");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Peak resident memory of this process, bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() << 10
}
