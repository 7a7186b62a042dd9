//! A parser that misbehaves as its configuration says: `{"do": …, "on": "text in a row", "column_count": 1}`. `nothing`
//! behaves: it reads each value as a number into the column `x`.
//!
//! Besides what `misbehave` can do: `wrong-count`, `no-rows`, `more-rows`, `wrong-columns`, `bad-row`, `bad-code`,
//! `twice-rejected`, `huge-message`, `bad-dropped`, `huge-answer`, `unknown-row`, and in open `no-columns`, `long-names`,
//! `same-columns` and `…-in-open` for all that `misbehave` can do.
#![cfg(target_arch = "wasm32")]

#[macro_use]
#[path = "../../guest.rs"]
mod guest;
#[path = "../../types.rs"]
mod types;

use bindings::exports::sandpiper::plugin::parser::{Column, Guest, Matrix, Parsed, RawBatch};
use bindings::sandpiper::plugin::record_context;
use guest::misbehave;
use types::{columns, reject_badly, rejection, values};

hostile_guest!("parser-plugin", on: String);

impl Guest for Hostile {
    fn open(config: String) -> Result<Vec<Column>, String> {
        let config = configure(&config)?;
        Ok(match config.what.as_str() {
            "no-columns" => Vec::new(),
            "long-names" => vec![Column { name: "x".repeat(1 << 20), ..columns(1).remove(0) }],
            "same-columns" => [columns(1), columns(1)].concat(),
            _ => columns(config.column_count),
        })
    }

    fn parse(batch: RawBatch) -> Result<Parsed, String> {
        let config = configured()?;
        let rows: Vec<&[u8]> = values(&batch).collect();
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
        let is_late = config
            .after_offset
            .is_none_or(|after| (0..rows.len() as u32).any(|row| record_context::origin(row).offset >= after));
        let is_among = |on: &String| rows.iter().any(|row| contains(row, on.as_bytes()));
        if config.is_set_off(rows.len(), is_among) && is_late {
            answer_badly(&config.what, &mut parsed, rows.len() as u32)?;
        }
        Ok(parsed)
    }
}

fn answer_badly(what: &str, parsed: &mut Parsed, rows: u32) -> Result<(), String> {
    misbehave(what)?;
    reject_badly(what, &mut parsed.rejected, rows);
    match what {
        "wrong-count" => {
            parsed.rows.values.pop();
        }
        "no-rows" => parsed.rows.values.clear(),
        "more-rows" => parsed.rows.values.push(0.0),
        "wrong-columns" => parsed.rows.columns += 1,
        "bad-dropped" => parsed.dropped.push(rows),
        "huge-answer" => parsed.rows.values = vec![0.0; 8 << 20],
        "unknown-row" => {
            record_context::key(rows);
        }
        _ => {}
    }
    Ok(())
}

fn contains(row: &[u8], text: &[u8]) -> bool {
    text.is_empty() || row.windows(text.len()).any(|window| window == text)
}
