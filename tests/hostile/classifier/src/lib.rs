//! A classifier that misbehaves as its configuration says: `{"do": …, "on": value of x, "column_count": 1}`. `nothing`
//! behaves: its column is `x`, its classes are `a` and `b`, and a row is `b` where x > 0.
//!
//! Besides what `misbehave` can do: `lies`, `wrong-count` (of labels), `more-labels`, `no-rows`, `wrong-scores`, `nan`,
//! `infinite`, `label-range`, `bad-row`, `bad-code`, `twice-rejected`, `huge-message`, `huge-answer`, and in open
//! `one-class`, `same-classes`, `long-names` and `…-in-open` for all that `misbehave` can do.
#![cfg(target_arch = "wasm32")]

#[macro_use]
#[path = "../../guest.rs"]
mod guest;
#[path = "../../types.rs"]
mod types;

use bindings::exports::sandpiper::plugin::classifier::{Guest, Matrix, Predictions, Signature};
use guest::misbehave;
use types::{columns, reject_badly};

hostile_guest!("classifier-plugin", on: f32);

impl Guest for Hostile {
    fn open(config: String, _model: Vec<u8>) -> Result<Signature, String> {
        let config = configure(&config)?;
        let long = "x".repeat(1 << 20);
        let classes: &[&str] = match config.what.as_str() {
            "long-names" => &["a", &long],
            "one-class" => &["a"],
            "same-classes" => &["a", "a"],
            _ => &["a", "b"],
        };
        Ok(Signature {
            columns: columns(config.column_count),
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        })
    }

    fn classify(rows: Matrix) -> Result<Predictions, String> {
        let config = configured()?;
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
        if config.is_set_off(x.len(), |on| x.contains(on)) {
            answer_badly(&config.what, &mut predictions)?;
        }
        Ok(predictions)
    }
}

fn answer_badly(what: &str, predictions: &mut Predictions) -> Result<(), String> {
    misbehave(what)?;
    reject_badly(what, &mut predictions.rejected, predictions.labels.len() as u32);
    match what {
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
        "huge-answer" => predictions.scores = vec![0.0; 8 << 20],
        _ => {}
    }
    Ok(())
}
