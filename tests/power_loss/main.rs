//! Power loss: what a daemon does to its state directory is recorded, and at every point of it a disk is made that lost some
//! or all of what was not synced. From each a daemon must start as it was, or as it was about to be.
//!
//! The recorded process is this test, started anew under `strace`. Without it the tests are reported as ignored. What fails
//! is repeated by its point and by what the disk did, which the message names: nothing is random but by them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod calls;
mod daemon;
mod disk;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use daemon::Start;
use disk::{Disk, Loss};
use libtest_mimic::{Arguments, Failed, Trial};

/// Says to this test that it is the process that is recorded: the state directory's path follows.
const RECORDED: &str = "--recorded-daemon";

/// Ways to lose a part of what was not synced, at each point; the other four lose it in the worst order each.
const CHANCES: u64 = 12;

fn main() -> ExitCode {
    let mut words = std::env::args().skip_while(|word| word != RECORDED).skip(1);
    if let (Some(state), Some(start)) = (words.next(), words.next()) {
        return match daemon::live(Path::new(&state), Start::named(&start)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let trials = [
        ("a_daemon_that_names_itself_starts_after_any_loss_of_power", Start::Fresh),
        ("a_daemon_that_is_named_starts_after_any_loss_of_power", Start::Named),
    ];
    let why = calls::is_missing();
    let trial = |(name, start): (&str, Start)| {
        let run = move || cut_the_power(start).map_err(|error| Failed::from(format!("{error:#}")));
        match &why {
            None => Trial::test(name, run),
            Some(why) => Trial::test(format!("{name} (needs {why})"), run).with_ignored_flag(true),
        }
    };
    libtest_mimic::run(&Arguments::from_args(), trials.map(trial).into()).exit_code()
}

fn cut_the_power(start: Start) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (trace, base) = (folder.path().join("trace"), folder.path().join("base"));
    std::fs::create_dir(&base)?;
    let mut recorded = calls::recorder(&trace);
    recorded.arg(std::env::current_exe()?).arg(RECORDED).arg(base.join("state")).arg(start.name());
    run(&mut recorded)?;
    let calls = calls::read(&trace, &base)?;

    let mut disk = Disk::default();
    let mut said = Vec::new();
    let mut seen = HashMap::new();
    for (point, call) in calls.iter().enumerate() {
        match call {
            calls::Call::Said(text) => said.push(text.clone()),
            call => disk.apply(call).with_context(|| format!("call {point}, {call:?}"))?,
        }
        let losses = [Loss::Nothing, Loss::Everything, Loss::Contents, Loss::ToZeros];
        for loss in losses.into_iter().chain((0..CHANCES).map(|seed| Loss::ByChance(seed + point as u64 * CHANCES))) {
            let left = disk.left(loss);
            // What was said since changes what must hold, so that the same disk is another case.
            if *seen.entry(left.clone()).or_insert(usize::MAX) == said.len() {
                continue;
            }
            seen.insert(left.clone(), said.len());
            let directory = folder.path().join("left");
            left.write(&directory)?;
            daemon::check(&directory.join("state"), start, &said)
                .with_context(|| format!("{loss:?} at call {point} of {}, {call:?}, after {said:?}", calls.len()))?;
            std::fs::remove_dir_all(&directory)?;
        }
    }
    eprintln!("{}: {} calls, {} disks", start.name(), calls.len(), seen.len());
    let synced = calls.iter().filter(|call| matches!(call, calls::Call::Sync { .. })).count();
    ensure!(synced >= daemon::DEPLOYMENTS * 4 && said.len() > daemon::DEPLOYMENTS, "little was recorded: {calls:?}");
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
