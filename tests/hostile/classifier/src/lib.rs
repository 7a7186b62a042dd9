//! A classifier that misbehaves as its configuration says: `{"do": …, "on": value of x,
//! "column_count": 1}`. `nothing` behaves: its column is `x`, its classes are `a` and `b`, and a
//! row is `b` where x > 0.
//!
//! Besides what `misbehave` can do: `error`, `lies`, `wrong-count` (of labels), `more-labels`, `no-rows`, `wrong-scores`, `nan`,
//! `infinite`, `label-range`, `bad-row`, `bad-code`, `twice-rejected`, `huge-message`, `huge-answer`,
//! `log`, and in open `one-class`, `same-classes` and `…-in-open` for `trap`, `loop`, `panic`, `grow`
//! and `error`.
#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    reason = "it is meant to do what plugins must not"
)]

use std::cell::RefCell;

wit_bindgen::generate!({
    world: "classifier-plugin",
    path: "../../../wit",
    generate_all,
});

use exports::sandpiper::plugin::classifier::{Guest, Matrix, Predictions, Rejection, Signature};
use misbehave::{Config, misbehave, misbehave_in_open};
use sandpiper::plugin::log;
use sandpiper::plugin::types::{Column, Kind};

#[path = "../../misbehave.rs"]
mod misbehave;

thread_local! {
    static CONFIG: RefCell<Option<Config<f32>>> = const { RefCell::new(None) };
}

struct Hostile;

impl Guest for Hostile {
    fn open(config: String, _model: Vec<u8>) -> Result<Signature, String> {
        let config: Config<f32> = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        misbehave_in_open(&config.what)?;
        let classes: &[&str] = match config.what.as_str() {
            "one-class" => &["a"],
            "same-classes" => &["a", "a"],
            _ => &["a", "b"],
        };
        let column = |index: u32| Column {
            name: match index {
                0 => "x".to_owned(),
                _ => format!("x{index}"),
            },
            kind: Kind::Number,
        };
        let signature = Signature {
            columns: (0..config.column_count).map(column).collect(),
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        };
        CONFIG.set(Some(config));
        Ok(signature)
    }

    fn classify(rows: Matrix) -> Result<Predictions, String> {
        CONFIG.with_borrow(|config| match config {
            Some(config) => classify(config, &rows),
            None => Err("not open".to_owned()),
        })
    }
}

fn classify(config: &Config<f32>, rows: &Matrix) -> Result<Predictions, String> {
    let x: Vec<f32> = rows.values.iter().step_by(rows.columns as usize).copied().collect();
    let label = |x: &f32| u32::from(*x > 0.0);
    let mut predictions = Predictions {
        labels: x.iter().map(label).collect(),
        scores: x.iter().flat_map(|x| [1.0 - label(x) as f32, label(x) as f32]).collect(),
        rejected: Vec::new(),
    };
    if config.what == "lies" {
        // It remembers what it must not: the answer depends on what came before.
        let turned = u32::from(config.has_seen(0));
        predictions.labels.iter_mut().for_each(|label| *label ^= turned);
    }
    if config.has_seen(x.len()) && config.on.is_none_or(|on| x.contains(&on)) {
        answer_badly(&config.what, &mut predictions)?;
    }
    Ok(predictions)
}

fn answer_badly(what: &str, predictions: &mut Predictions) -> Result<(), String> {
    misbehave(what);
    let rows = predictions.labels.len() as u32;
    match what {
        "error" => return Err("the hostile plugin fails as it was told to".to_owned()),
        "wrong-count" => {
            predictions.labels.pop();
        }
        "wrong-scores" => {
            predictions.scores.pop();
        }
        "nan" => predictions.scores.fill(f32::NAN),
        "infinite" => predictions.scores.fill(f32::INFINITY),
        "label-range" => predictions.labels.fill(2),
        "more-labels" => predictions.labels.push(0),
        "no-rows" => {
            predictions.labels.clear();
            predictions.scores.clear();
        }
        "bad-row" => predictions.rejected.push(rejection(rows, "bad-row", "beyond the batch")),
        "bad-code" => predictions.rejected.push(rejection(0, "Bad code!", "not a label")),
        "twice-rejected" => {
            predictions.rejected.push(rejection(0, "once", ""));
            predictions.rejected.push(rejection(0, "twice", ""));
        }
        "huge-message" => predictions.rejected.push(rejection(0, "huge", &"!".repeat(1 << 20))),
        "huge-answer" => predictions.scores = vec![0.0; 8 << 20],
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

export!(Hostile);
