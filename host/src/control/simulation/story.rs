//! A seed's story, and the shortest one that breaks the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::SEED;
use super::fleet::{Fleet, Random, Size, Step};

/// What a seed breaks, if it breaks something.
pub fn find(seed: u64, size: Size) -> Option<String> {
    let (mut fleet, mut random) = (Fleet::new(size), Random::new(seed));
    for _ in 0..size.steps {
        let step = fleet.choose(&mut random);
        fleet.step(&step);
        if let Err(broken) = fleet.check() {
            return Some(broken);
        }
    }
    fleet.settle().err()
}

/// The steps that a seed chooses. They are the same whatever is left out of them afterwards.
fn steps(seed: u64, size: Size) -> Vec<Step> {
    let (mut fleet, mut random) = (Fleet::new(size), Random::new(seed));
    let mut steps = Vec::new();
    for _ in 0..size.steps {
        let step = fleet.choose(&mut random);
        fleet.step(&step);
        steps.push(step);
        if fleet.check().is_err() {
            break;
        }
    }
    steps
}

/// What those steps break, if they break something.
fn breaks(steps: &[Step], size: Size) -> Option<String> {
    let run = || {
        let mut fleet = Fleet::new(size);
        for step in steps {
            fleet.step(step);
            if let Err(broken) = fleet.check() {
                return Some(broken);
            }
        }
        fleet.settle().err()
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Some("it panics".into()))
}

/// Leaves out whatever is not needed to break something (delta debugging, Zeller and Hildebrandt 2002), and tells the rest.
pub fn shortest(seed: u64, size: Size, broken: &str) -> String {
    let mut kept = steps(seed, size);
    let mut part = kept.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < kept.len() {
            let to = (from + part).min(kept.len());
            let without: Vec<Step> = [&kept[..from], &kept[to..]].concat();
            if breaks(&without, size).is_some() {
                kept = without;
            } else {
                from = to;
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    let shorter = breaks(&kept, size).unwrap_or_default();
    let mut story = format!("seed {seed}, {size:?}: {broken}; what follows breaks: {shorter}\n");
    for (at, step) in kept.iter().enumerate() {
        story.push_str(&format!("{:>4}  {step:?}\n", at + 1));
    }
    story.push_str(&format!("again: {SEED}={seed} cargo test -p sandpiper --lib simulation"));
    story
}
