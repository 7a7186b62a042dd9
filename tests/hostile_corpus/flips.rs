//! The stock csv plugin with one bit flipped, again and again: loading, opening and calling it must end in an answer or an
//! error, whatever the flip made of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::stage::{Parse as _, WasmParser};
use sandpiper_sandbox::{Limits, Plugin};

use crate::cases::stock;
use crate::harness::{ENGINE, ROWS, batch};

/// Few, since each costs a validation, and a compilation where that passes.
const FLIPS: u32 = 100;
const FLIPS_LONG: u32 = 10_000;

pub fn run() -> Result<String> {
    let long = std::env::var("SANDPIPER_CHAOS").is_ok_and(|form| form == "long");
    let flips = if long { FLIPS_LONG } else { FLIPS };
    let plugin = stock("csv");
    let mut random = Random(0x5eed_0b17_f11b_5eed);
    let (mut refused, mut unopened, mut failed, mut answered) = (0, 0, 0, 0);
    for _ in 0..flips {
        let mut flipped = plugin.clone();
        let bit = random.below(flipped.len() as u64 * 8);
        flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
        let Ok(plugin) = Plugin::load(&ENGINE, "flipped", &flipped) else {
            refused += 1;
            continue;
        };
        let opening = Opening { config: r#"{"columns":["x"]}"#.into(), ..Opening::default() };
        let limits = Limits { deadline: Duration::from_millis(100), ..Limits::default() };
        let Ok((mut parser, _)) = WasmParser::open(Arc::new(plugin), limits, opening) else {
            unopened += 1;
            continue;
        };
        match parser.parse(&batch(0, ROWS, true), limits.deadline) {
            Ok(_) => answered += 1,
            Err(_) => failed += 1,
        }
    }
    Ok(format!(
        "{flips} flips of {} KiB: {refused} refused, {unopened} not opened, {failed} failed in a call, {answered} answered",
        plugin.len() >> 10
    ))
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same flips on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
