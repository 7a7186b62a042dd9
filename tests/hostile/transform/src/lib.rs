//! A transform that misbehaves as its configuration says: `{"do": …, "on": "text in a row"}`. `nothing`
//! behaves: each value goes as it came to the output `out`; there is another, `aside`.
//!
//! Besides what `misbehave` can do: `error`, `offsets-decrease`, `offsets-overrun`, `offsets-start-late`,
//! `few-offsets`, `no-offsets`, `source-row`, `output-range`, `backwards`, `emitted-and-rejected`,
//! `emitted-and-dropped`, `bad-code`, `huge-answer`, `thousandfold` (which is no misbehaviour), `unknown-row`,
//! and in open `no-outputs`, `same-outputs` and `…-in-open`.
#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    reason = "it is meant to do what plugins must not"
)]

use std::cell::RefCell;

wit_bindgen::generate!({
    world: "transform-plugin",
    path: "../../../wit",
    generate_all,
});

use exports::sandpiper::plugin::transform::{Emitted, EmittedKey, Guest, RawBatch, Rejection, Transformed};
use misbehave::{Config, misbehave, misbehave_in_open};
use sandpiper::plugin::record_context;

#[path = "../../misbehave.rs"]
mod misbehave;

thread_local! {
    static CONFIG: RefCell<Option<Config<String>>> = const { RefCell::new(None) };
}

struct Hostile;

impl Guest for Hostile {
    fn open(config: String) -> Result<Vec<String>, String> {
        let config: Config<String> = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        misbehave_in_open(&config.what)?;
        let outputs: &[&str] = match config.what.as_str() {
            "no-outputs" => &[],
            "same-outputs" => &["out", "out"],
            _ => &["out", "aside"],
        };
        CONFIG.set(Some(config));
        Ok(outputs.iter().map(|output| (*output).to_owned()).collect())
    }

    fn transform(batch: RawBatch) -> Result<Transformed, String> {
        CONFIG.with_borrow(|config| match config {
            Some(config) => transform(config, batch),
            None => Err("not open".to_owned()),
        })
    }
}

fn transform(config: &Config<String>, batch: RawBatch) -> Result<Transformed, String> {
    let rows = batch.offsets.len() - 1;
    let values = || batch.offsets.windows(2).map(|ends| &batch.payload[ends[0] as usize..ends[1] as usize]);
    let named = config.on.as_ref().is_none_or(|on| values().any(|value| value == on.as_bytes()));
    let mut answer = Transformed {
        emitted: (0..rows as u32).map(emitted).collect(),
        payload: batch.payload,
        offsets: batch.offsets,
        rejected: Vec::new(),
        dropped: Vec::new(),
    };
    if config.has_seen(rows) && named {
        answer_badly(&config.what, &mut answer, rows as u32)?;
    }
    Ok(answer)
}

fn answer_badly(what: &str, answer: &mut Transformed, rows: u32) -> Result<(), String> {
    misbehave(what);
    let end = answer.payload.len() as u32;
    match what {
        "error" => return Err("the hostile plugin fails as it was told to".to_owned()),
        "offsets-decrease" => {
            // Of two records, so that a row alone breaks the rule as well.
            answer.emitted = vec![emitted(0), emitted(0)];
            answer.offsets = vec![0, end + 7, end];
        }
        "offsets-overrun" => *answer.offsets.last_mut().unwrap_or(&mut 0) = u32::MAX,
        "offsets-start-late" => answer.offsets[0] = 1,
        "few-offsets" => {
            answer.offsets.pop();
        }
        "no-offsets" => answer.offsets.clear(),
        "source-row" => answer.emitted[0].source_row = rows,
        "output-range" => answer.emitted[0].output = 2,
        "backwards" => {
            answer.emitted.push(emitted(0));
            answer.emitted[0].source_row = rows;
            answer.offsets.push(end);
        }
        "emitted-and-rejected" => answer.rejected.push(rejection("both")),
        "emitted-and-dropped" => answer.dropped.push(0),
        "bad-code" => {
            *answer = Transformed {
                payload: Vec::new(),
                offsets: vec![0],
                emitted: Vec::new(),
                rejected: vec![rejection("Bad code!")],
                dropped: Vec::new(),
            };
        }
        "huge-answer" => {
            answer.payload = vec![b'!'; 32 << 20];
            answer.offsets = (0..=rows).map(|_| 0).collect();
        }
        "thousandfold" => {
            answer.emitted = (0..rows).flat_map(|row| (0..1_000).map(move |_| emitted(row))).collect();
            answer.payload = vec![b'!'; answer.emitted.len()];
            answer.offsets = (0..=answer.emitted.len() as u32).collect();
        }
        "unknown-row" => {
            record_context::is_null(rows);
        }
        _ => {}
    }
    Ok(())
}

fn emitted(source_row: u32) -> Emitted {
    Emitted { source_row, output: 0, key: EmittedKey::Input, headers: Vec::new(), tombstone: false }
}

fn rejection(code: &str) -> Rejection {
    Rejection { row: 0, code: code.to_owned(), message: String::new() }
}

export!(Hostile);
