//! What a plugin can do to its host without answering anything: shared by the hostile parser and
//! the hostile classifier. Written against the bare contract, for the SDK would prevent it.

use serde::Deserialize;

/// The configuration: what to do, and when.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config<On> {
    /// The misbehaviour's name.
    #[serde(rename = "do")]
    pub what: String,
    /// The row that sets it off; without it every call does.
    pub on: Option<On>,
    /// How many columns the plugin announces.
    #[serde(default = "one")]
    pub column_count: u32,
}

fn one() -> u32 {
    1
}

/// Does what needs no answer; any other name does nothing here.
pub fn misbehave(what: &str) {
    match what {
        "trap" => std::arch::wasm32::unreachable(),
        "panic" => panic!("the hostile plugin panics as it was told to"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "grow" => loop {
            std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
        },
        "recurse" => {
            std::hint::black_box(recurse(1));
        }
        "print" => {
            for _ in 0..100_000 {
                println!("{}", "flood ".repeat(100));
            }
        }
        "exit" => std::process::exit(3),
        _ => {}
    }
}

/// Runs out of stack.
fn recurse(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    match depth {
        0 => 0,
        _ => recurse(std::hint::black_box(depth + 1)) + room[0],
    }
}

/// The same, inside `open`.
pub fn misbehave_in_open(what: &str) -> Result<(), String> {
    match what.strip_suffix("-in-open") {
        Some("error") => Err("the hostile plugin refuses to open as it was told to".to_owned()),
        Some(what) => {
            misbehave(what);
            Ok(())
        }
        None => Ok(()),
    }
}
