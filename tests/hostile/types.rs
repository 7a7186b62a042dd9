//! The shapes that the worlds of parser, classifier and transform share: read, and answered well and badly.
#![allow(dead_code, reason = "not every guest uses all of it")]
#![allow(clippy::indexing_slicing, reason = "a batch that does not fit its offsets may trap")]

use crate::bindings::sandpiper::plugin::types::{Column, Kind, RawBatch, Rejection};

/// The values of a batch.
pub fn values(batch: &RawBatch) -> impl Iterator<Item = &[u8]> {
    batch.offsets.windows(2).map(|ends| &batch.payload[ends[0] as usize..ends[1] as usize])
}

/// Columns of numbers: `x`, `x1`, `x2` and so on.
pub fn columns(count: u32) -> Vec<Column> {
    let name = |index: u32| match index {
        0 => "x".to_owned(),
        _ => format!("x{index}"),
    };
    (0..count).map(|index| Column { name: name(index), kind: Kind::Number }).collect()
}

pub fn rejection(row: u32, code: &str, message: &str) -> Rejection {
    Rejection { row, code: code.to_owned(), message: message.to_owned() }
}

/// Adds rejections that break the contract to those of a batch of `rows`; any other name adds none.
pub fn reject_badly(what: &str, rejected: &mut Vec<Rejection>, rows: u32) {
    match what {
        "bad-row" => rejected.push(rejection(rows, "bad-row", "beyond the batch")),
        "bad-code" => rejected.push(rejection(0, "Bad code!", "not a label")),
        "twice-rejected" => {
            rejected.push(rejection(0, "once", ""));
            rejected.push(rejection(0, "twice", ""));
        }
        "huge-message" => rejected.push(rejection(0, "huge", &"!".repeat(1 << 20))),
        // This one does not break it: the message is what stands behind the name.
        _ => rejected.extend(what.strip_prefix("reject ").map(|message| rejection(0, "repeated", message))),
    }
}
