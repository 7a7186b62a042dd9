//! A parser that misbehaves as its configuration says: `{"do": …, "on": "text in a row",
//! "column_count": 1}`. `nothing` behaves: it reads each value as a number into the column `x`.
//!
//! Besides what `misbehave` can do: `error`, `wrong-count`, `no-rows`, `more-rows`, `wrong-columns`, `bad-row`, `bad-code`,
//! `twice-rejected`, `huge-message`, `bad-dropped`, `huge-answer`, `unknown-row`, `log`, and in open
//! `no-columns`, `same-columns` and `…-in-open` for `trap`, `loop`, `panic`, `grow` and `error`.
#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    reason = "it is meant to do what plugins must not"
)]

use std::cell::RefCell;

wit_bindgen::generate!({
    world: "parser-plugin",
    path: "../../../wit",
    generate_all,
});

use exports::sandpiper::plugin::parser::{Column, Guest, Matrix, Parsed, RawBatch, Rejection};
use misbehave::{Config, misbehave, misbehave_in_open};
use sandpiper::plugin::types::Kind;
use sandpiper::plugin::{log, record_context};

#[path = "../../misbehave.rs"]
mod misbehave;

thread_local! {
    static CONFIG: RefCell<Option<Config<String>>> = const { RefCell::new(None) };
}

struct Hostile;

impl Guest for Hostile {
    fn open(config: String) -> Result<Vec<Column>, String> {
        let config: Config<String> = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        misbehave_in_open(&config.what)?;
        let count = match config.what.as_str() {
            "no-columns" => 0,
            "same-columns" => 2,
            _ => config.column_count,
        };
        let same = config.what == "same-columns";
        CONFIG.set(Some(config));
        let column = |index: u32| Column {
            name: match index {
                0 => "x".to_owned(),
                _ if same => "x".to_owned(),
                _ => format!("x{index}"),
            },
            kind: Kind::Number,
        };
        Ok((0..count).map(column).collect())
    }

    fn parse(batch: RawBatch) -> Result<Parsed, String> {
        CONFIG.with_borrow(|config| match config {
            Some(config) => parse(config, &batch),
            None => Err("not open".to_owned()),
        })
    }
}

fn parse(config: &Config<String>, batch: &RawBatch) -> Result<Parsed, String> {
    let rows: Vec<&[u8]> =
        batch.offsets.windows(2).map(|ends| &batch.payload[ends[0] as usize..ends[1] as usize]).collect();
    let mut parsed = Parsed {
        rows: Matrix { columns: config.column_count, values: Vec::new() },
        rejected: Vec::new(),
        dropped: Vec::new(),
    };
    for (row, value) in (0..).zip(&rows) {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        let cells = (0..config.column_count).map(|_| number.unwrap_or(f32::NAN));
        parsed.rows.values.extend(cells);
        if number.is_none() {
            parsed.rejected.push(rejection(row, "not-a-number", "the value is not a number"));
        }
    }
    let named = match &config.on {
        None => true,
        Some(on) => rows.iter().any(|row| contains(row, on.as_bytes())),
    };
    let late = config
        .after_offset
        .is_none_or(|after| (0..rows.len() as u32).any(|row| record_context::origin(row).offset >= after));
    if config.has_seen(rows.len()) && named && late {
        answer_badly(&config.what, &mut parsed, rows.len() as u32)?;
    }
    Ok(parsed)
}

fn answer_badly(what: &str, parsed: &mut Parsed, rows: u32) -> Result<(), String> {
    misbehave(what);
    match what {
        "error" => return Err("the hostile plugin fails as it was told to".to_owned()),
        "wrong-count" => {
            parsed.rows.values.pop();
        }
        "no-rows" => parsed.rows.values.clear(),
        "more-rows" => parsed.rows.values.push(0.0),
        "wrong-columns" => parsed.rows.columns += 1,
        "bad-row" => parsed.rejected.push(rejection(rows, "bad-row", "beyond the batch")),
        "bad-code" => parsed.rejected.push(rejection(0, "Bad code!", "not a label")),
        "twice-rejected" => {
            parsed.rejected.push(rejection(0, "once", ""));
            parsed.rejected.push(rejection(0, "twice", ""));
        }
        "huge-message" => parsed.rejected.push(rejection(0, "huge", &"!".repeat(1 << 20))),
        "bad-dropped" => parsed.dropped.push(rows),
        "huge-answer" => parsed.rows.values = vec![0.0; 8 << 20],
        "unknown-row" => {
            record_context::key(rows);
        }
        "log" => {
            for _ in 0..100_000 {
                log::log(log::Level::Warn, "flood");
            }
        }
        _ => {}
    }
    Ok(())
}

fn rejection(row: u32, code: &str, message: &str) -> Rejection {
    Rejection { row, code: code.to_owned(), message: message.to_owned() }
}

fn contains(row: &[u8], text: &[u8]) -> bool {
    text.is_empty() || row.windows(text.len()).any(|window| window == text)
}

export!(Hostile);
