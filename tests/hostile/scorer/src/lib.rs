//! A scorer that misbehaves as its configuration says: `{"do": …, "on": "id of an outcome"}`. `nothing` behaves: the
//! loss is 0 where the prediction is the truth, and 1 elsewhere.
//!
//! Besides what `misbehave` can do: `bad-row`, `twice-judged`, `nan`, `infinite`, `negative-weight`, `huge-reason`, `huge-answer`, and
//! `…-in-open` for all that `misbehave` can do.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::indexing_slicing, reason = "it is meant to do what plugins must not")]

#[macro_use]
#[path = "../../guest.rs"]
mod guest;

use bindings::exports::sandpiper::plugin::scorer::{Guest, Judgement, Outcome};
use guest::misbehave;

hostile_guest!("scorer-plugin", on: String);

impl Guest for Hostile {
    fn open(config: String) -> Result<(), String> {
        configure(&config).map(|_| ())
    }

    fn score(_classes: Vec<String>, outcomes: Vec<Outcome>) -> Result<Vec<Judgement>, String> {
        let config = configured()?;
        let judge = |(row, outcome): (u32, &Outcome)| Judgement {
            row,
            loss: if outcome.predicted == outcome.truth { 0.0 } else { 1.0 },
            weight: 1.0,
            accepted: true,
            reason: None,
        };
        let mut judgements: Vec<Judgement> = (0..).zip(&outcomes).map(judge).collect();
        if config.is_set_off(outcomes.len(), |on| outcomes.iter().any(|outcome| outcome.id == *on)) {
            answer_badly(&config.what, &mut judgements)?;
        }
        Ok(judgements)
    }
}

fn answer_badly(what: &str, judgements: &mut Vec<Judgement>) -> Result<(), String> {
    misbehave(what)?;
    match what {
        "bad-row" => judgements[0].row = judgements.len() as u32,
        "twice-judged" => judgements.push(judgements[0].clone()),
        "nan" => judgements[0].loss = f64::NAN,
        "infinite" => judgements[0].loss = f64::NEG_INFINITY,
        "negative-weight" => judgements[0].weight = -1.0,
        "huge-reason" => judgements[0].reason = Some("!".repeat(1 << 20)),
        "huge-answer" => *judgements = vec![judgements[0].clone(); 1 << 18],
        _ => {}
    }
    Ok(())
}
