//! A transform that misbehaves as its configuration says: `{"do": …, "on": "value of a row"}`. `nothing` behaves: each
//! value goes as it came to the output `out`; there is another, `aside`.
//!
//! Besides what `misbehave` can do: `offsets-decrease`, `offsets-overrun`, `offsets-start-late`, `few-offsets`,
//! `no-offsets`, `source-row`, `output-range`, `backwards`, `emitted-and-rejected`, `emitted-and-dropped`, `bad-code`,
//! `huge-answer`, `amplify`, `header-flood`, `many-headers`, `long-header`, `thousandfold` and `append TEXT` (which the contract allows), `unknown-row`, and in open `no-outputs`, `same-outputs`, `long-names`
//! and `…-in-open` for all that `misbehave` can do.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::indexing_slicing, reason = "it is meant to do what plugins must not")]

#[macro_use]
#[path = "../../guest.rs"]
mod guest;
#[path = "../../types.rs"]
mod types;

use bindings::exports::sandpiper::plugin::transform::{Emitted, EmittedKey, Guest, Header, RawBatch, Transformed};
use bindings::sandpiper::plugin::record_context;
use guest::misbehave;
use types::{rejection, values};

hostile_guest!("transform-plugin", on: String);

impl Guest for Hostile {
    fn open(config: String) -> Result<Vec<String>, String> {
        let long = "x".repeat(1 << 20);
        let outputs: &[&str] = match configure(&config)?.what.as_str() {
            "long-names" => &["out", &long],
            "no-outputs" => &[],
            "same-outputs" => &["out", "out"],
            _ => &["out", "aside"],
        };
        Ok(outputs.iter().map(|output| (*output).to_owned()).collect())
    }

    fn transform(batch: RawBatch) -> Result<Transformed, String> {
        let config = configured()?;
        let rows = batch.offsets.len() - 1;
        let is_set_off = config.is_set_off(rows, |on| values(&batch).any(|value| value == on.as_bytes()));
        let mut answer = Transformed {
            emitted: (0..rows as u32).map(emitted).collect(),
            payload: batch.payload,
            offsets: batch.offsets,
            rejected: Vec::new(),
            dropped: Vec::new(),
        };
        if is_set_off {
            amplify(&config.what, &mut answer);
            answer_badly(&config.what, &mut answer, rows as u32)?;
        }
        Ok(answer)
    }
}

fn answer_badly(what: &str, answer: &mut Transformed, rows: u32) -> Result<(), String> {
    misbehave(what)?;
    let end = answer.payload.len() as u32;
    if let (Some(text), Some(last)) = (what.strip_prefix("append "), answer.offsets.last_mut()) {
        answer.payload.extend_from_slice(text.as_bytes());
        *last += text.len() as u32;
    }
    match what {
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
        "emitted-and-rejected" => answer.rejected.push(rejection(0, "both", "")),
        "emitted-and-dropped" => answer.dropped.push(0),
        "bad-code" => {
            *answer = Transformed {
                payload: Vec::new(),
                offsets: vec![0],
                emitted: Vec::new(),
                rejected: vec![rejection(0, "Bad code!", "")],
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

/// Makes far more of the row that sets it off, within the contract: what is small in the guest is large in the host.
fn amplify(what: &str, answer: &mut Transformed) {
    let row = answer
        .offsets
        .windows(2)
        .position(|ends| answer.payload[ends[0] as usize..ends[1] as usize].starts_with(b"-113"));
    let Some(row) = row else { return };
    let header = |name: String| Header { name, value: None };
    let (count, headers) = match what {
        // With the key of the row, which is not in the answer.
        "amplify" => (300_000, Vec::new()),
        "header-flood" => (1, vec![header("h".to_owned()); 100_000]),
        "many-headers" => (2_000, vec![header("h".repeat(100)); 60]),
        "long-header" => (1, vec![header("h".repeat(1 << 20))]),
        _ => return,
    };
    let end = answer.offsets[row + 1];
    answer.offsets.splice(row + 1..row + 1, std::iter::repeat_n(end, count));
    let more = Emitted { headers, ..emitted(row as u32) };
    answer.emitted.splice(row + 1..row + 1, std::iter::repeat_n(more, count));
}

fn emitted(source_row: u32) -> Emitted {
    Emitted { source_row, output: 0, key: EmittedKey::Input, headers: Vec::new(), tombstone: false }
}
