//! Components that pass every static bound and are hard to compile all the same: the process that compiles them ends at its
//! own bounds, and takes nothing along.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sandpiper_sandbox::Plugin;
use sandpiper_sandbox::compiler::Bounds;

use crate::harness::engine;

const MEMORY: usize = 512 << 20;

pub fn run() -> Result<String> {
    let bomb = bomb();
    let long = Duration::from_secs(600);
    refused(&bomb, Bounds { memory: MEMORY, time: long }, "--compile-memory")?;
    refused(&bomb, Bounds { memory: 64 << 30, time: Duration::from_millis(100) }, "--compile-time")?;
    Ok("refused by the memory and by the time of its compiler".into())
}

fn refused(bomb: &[u8], bounds: Bounds, bound: &str) -> Result<()> {
    let engine = engine(bounds);
    let error = match Plugin::load(&engine, "bomb", bomb) {
        Ok(_) => bail!("it was compiled within {bounds:?}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(error.contains(bound), "the message does not name {bound}: {error}");
    Ok(())
}

/// Forty functions, each of which passes nearly a million values.
fn bomb() -> Vec<u8> {
    let values = "i32 ".repeat(1_000);
    let calls = "call $f ".repeat(490);
    let given: String = (0..1_000).map(|local| format!("local.get {local} ")).collect();
    let functions = format!("(func (param {values}) (result {values}) {given} {calls})").repeat(40);
    let text =
        format!("(component (core module (func $f (param {values}) (result {values}) unreachable) {functions}))");
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}
