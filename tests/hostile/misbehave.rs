//! What a plugin can do to its host without answering anything.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "it is meant to do what plugins must not")]

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use crate::bindings::sandpiper::plugin::log;

thread_local! {
    /// What was never given back.
    static LEAKED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Does what needs no answer, or fails the call; any other name does nothing here.
pub fn misbehave(what: &str) -> Result<(), String> {
    match what {
        "error" => return Err("the hostile plugin fails as it was told to".to_owned()),
        "trap" => std::arch::wasm32::unreachable(),
        "panic" => panic!("the hostile plugin panics as it was told to"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "grow" => loop {
            std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
        },
        "grow-pages" => while std::arch::wasm32::memory_grow(0, 1) != usize::MAX {},
        "leak" => LEAKED.with_borrow_mut(|leaked| leaked.push(vec![1; 1 << 20])),
        "recurse" => {
            std::hint::black_box(recurse(1));
        }
        "print" => {
            for _ in 0..100_000 {
                println!("{}", "flood ".repeat(100));
            }
        }
        "print-without-end" => loop {
            print!("{}", "flood ".repeat(100));
        },
        "log" => {
            for _ in 0..100_000 {
                log::log(log::Level::Warn, "flood");
            }
        }
        "exit" => std::process::exit(3),
        "exit-in-peace" => std::process::exit(0),
        "abort" => std::process::abort(),
        "wild-pointer" => {
            // SAFETY: there is none, which is the point: the address lies beyond any memory that the guest has.
            std::hint::black_box(unsafe {
                std::ptr::read_volatile(std::hint::black_box(0xffff_fff0_usize) as *const u64)
            });
        }
        "sleep" => std::thread::sleep(Duration::from_secs(3_600)),
        "slow" => {
            let started = Instant::now();
            while started.elapsed() < SLOW {
                std::hint::black_box(());
            }
        }
        "look-around" => look_around(),
        _ => return repeat(what),
    }
    Ok(())
}

/// Says what stands behind `error ` or `panic ` in the name, by every way to say something; any other name is silent.
fn repeat(what: &str) -> Result<(), String> {
    let Some((how, text)) = what.split_once(' ') else { return Ok(()) };
    if let "error" | "panic" = how {
        log::log(log::Level::Warn, text);
        println!("{text}");
    }
    match how {
        "error" => Err(text.to_owned()),
        "panic" => panic!("{text}"),
        _ => Ok(()),
    }
}

/// How long `slow` takes, by the guest's own clock.
const SLOW: Duration = Duration::from_millis(1_500);

/// Asks for whatever a program of its own could have, and traps where it gets any.
fn look_around() {
    // Both clocks and the random numbers are granted.
    std::hint::black_box((Instant::now(), SystemTime::now(), std::collections::HashMap::<u8, u8>::new()));
    let mut line = String::new();
    let granted = [
        std::fs::read("/etc/passwd").is_ok(),
        std::fs::read_dir("/").is_ok(),
        std::fs::write("found", "here").is_ok(),
        std::env::vars().next().is_some(),
        std::env::args().next().is_some(),
        std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0),
        std::thread::Builder::new().spawn(|| ()).is_ok(),
    ];
    if granted.contains(&true) {
        panic!("granted: {granted:?}");
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

/// Does what stands before `-in-open` in the name; any other name lets the plugin open.
pub fn misbehave_in_open(what: &str) -> Result<(), String> {
    match what.strip_suffix("-in-open") {
        Some("error") => Err("the hostile plugin refuses to open as it was told to".to_owned()),
        Some(what) => misbehave(what),
        None => Ok(()),
    }
}
