//! Several daemons' control on a Kafka of the test's own, one step at a time, in an order that a seed decides.
//!
//! Runner, fold, reconciler, the decider and the records of the control topics are as they are; what is simulated is what is around
//! them: the three topics with their transactions, the two groups, time, the disk, staging, and workers that write by what they run.
//! Between two steps anything may fail. What must hold is looked at after each step, and after the last one, when nothing fails any
//! more, all daemons must come to the same.
//!
//! `SANDPIPER_SIMULATION_SEED` repeats one seed; `SANDPIPER_SIMULATION=long` runs 100,000 and goes on where it was stopped.
//!
//! # Layout
//! - `cluster`: the topics, and who owns which partition
//! - `daemon`: a daemon's control, worker and part in deciding
//! - `fleet`: the steps, what must hold, and what everything has come to
//! - `story`: the shortest story of a seed that fails

mod cluster;
mod daemon;
mod fleet;
mod story;

use fleet::Size;
use story::{find, shortest};

use crate::stream::failpoint::{self, plant};

const SEED: &str = "SANDPIPER_SIMULATION_SEED";
const LENGTH: &str = "SANDPIPER_SIMULATION";

/// Seeds of the short form: with them the test takes a quarter of a minute.
const SHORT: u64 = 200;
const LONG: u64 = 100_000;
/// How many seeds a planted mistake may take to be found.
const WITHIN: u64 = 2_000;

#[test]
fn whatever_fails_no_invariant_is_broken_and_all_daemons_come_to_the_same() {
    if let Ok(seed) = std::env::var(SEED) {
        let seed = seed.parse().unwrap();
        if let Some(broken) = find(seed, Size::of(seed)) {
            panic!("{}", shortest(seed, Size::of(seed), &broken));
        }
        return;
    }
    let is_long = std::env::var(LENGTH).is_ok_and(|length| length == "long");
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/simulation");
    let from =
        if is_long { std::fs::read_to_string(&kept).ok().and_then(|text| text.parse().ok()).unwrap_or(0) } else { 0 };
    for seed in from..if is_long { LONG } else { SHORT } {
        if is_long && seed % 1_000 == 0 {
            // Where it cannot be kept the next run begins anew.
            let _ = std::fs::write(&kept, seed.to_string());
        }
        if let Some(broken) = find(seed, Size::of(seed)) {
            panic!("{}", shortest(seed, Size::of(seed), &broken));
        }
    }
    if is_long {
        // The next run is of another program.
        let _ = std::fs::remove_file(&kept);
    }
}

#[test]
fn a_large_fleet_comes_to_the_same_too() {
    for (seed, daemons, partitions) in [(1, 25, 100), (2, 100, 1_000)] {
        let size = Size { daemons, partitions, steps: 20 * daemons };
        if let Some(broken) = find(seed, size) {
            panic!("seed {seed}, {daemons} daemons: {broken}");
        }
    }
}

#[test]
fn each_mistake_that_is_planted_is_found() {
    for mistake in [
        failpoint::DECIDES_TWICE,
        failpoint::ACCEPTS_STALE,
        failpoint::ACTIVATES_UNFIT,
        failpoint::KEEPS_FENCED,
        failpoint::NEVER_HANDS_OVER,
    ] {
        let _planted = plant(mistake);
        let found = (0..WITHIN).find_map(|seed| find(seed, Size::of(seed)).map(|broken| (seed, broken)));
        let (seed, broken) = found.unwrap_or_else(|| panic!("{mistake} is not found by {WITHIN} seeds"));
        println!("{mistake}: seed {seed}: {broken}");
    }
}

/// What a deployment at a fleet of that size takes: commands and their bytes, transactions, records and bytes of what is decided.
fn cost(daemons: usize) -> [usize; 5] {
    let mut fleet = fleet::Fleet::new(Size { daemons, partitions: 2 * daemons, steps: 0 });
    fleet.settle().unwrap();
    let before = fleet.traffic();
    fleet.step(&fleet::Step::Deploy { at: 0, release: 3, steps: false, against: fleet::Against::Nothing });
    fleet.settle().unwrap();
    std::array::from_fn(|at| fleet.traffic()[at] - before[at])
}

#[test]
fn what_a_deployment_costs_grows_by_a_few_commands_a_daemon() {
    let sizes = [10, 100];
    let costs = sizes.map(cost);
    for (daemons, [commands, command_bytes, transactions, records, bytes]) in sizes.into_iter().zip(costs) {
        println!(
            "{daemons} daemons: {commands} commands of {command_bytes} bytes; {transactions} transactions of {records} records and {bytes} bytes"
        );
        assert!(commands <= 6 * daemons + 6, "{commands} commands for {daemons} daemons");
    }
}

#[test]
fn a_story_is_shortened_to_what_breaks_it() {
    let _planted = plant(failpoint::ACCEPTS_STALE);
    let (seed, broken) = (0..WITHIN).find_map(|seed| find(seed, Size::of(seed)).map(|broken| (seed, broken))).unwrap();
    let story = shortest(seed, Size::of(seed), &broken);
    assert!(story.contains(SEED) && story.contains(&seed.to_string()), "{story}");
    let lines = story.lines().count();
    assert!(lines < Size::of(seed).steps, "{lines} lines:\n{story}");
}
