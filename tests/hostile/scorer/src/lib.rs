//! A scorer that misbehaves as its configuration says: `{"do": …, "on": "id of an outcome"}`. `nothing`
//! behaves: the loss is 0 where the prediction is the truth, and 1 elsewhere.
//!
//! Besides what `misbehave` can do: `error`, `bad-row`, `twice-judged`, `nan`,
//! `infinite`, `negative-weight`, `huge-answer`, and `…-in-open`.
#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    reason = "it is meant to do what plugins must not"
)]

use std::cell::RefCell;

wit_bindgen::generate!({
    world: "scorer-plugin",
    path: "../../../wit",
    generate_all,
});

use exports::sandpiper::plugin::scorer::{Guest, Judgement, Outcome};
use misbehave::{Config, misbehave, misbehave_in_open};

#[path = "../../misbehave.rs"]
mod misbehave;

thread_local! {
    static CONFIG: RefCell<Option<Config<String>>> = const { RefCell::new(None) };
}

struct Hostile;

impl Guest for Hostile {
    fn open(config: String) -> Result<(), String> {
        let config: Config<String> = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        misbehave_in_open(&config.what)?;
        CONFIG.set(Some(config));
        Ok(())
    }

    fn score(_classes: Vec<String>, outcomes: Vec<Outcome>) -> Result<Vec<Judgement>, String> {
        CONFIG.with_borrow(|config| match config {
            Some(config) => score(config, &outcomes),
            None => Err("not open".to_owned()),
        })
    }
}

fn score(config: &Config<String>, outcomes: &[Outcome]) -> Result<Vec<Judgement>, String> {
    let judge = |(row, outcome): (u32, &Outcome)| Judgement {
        row,
        loss: if outcome.predicted == outcome.truth { 0.0 } else { 1.0 },
        weight: 1.0,
        accepted: true,
        reason: None,
    };
    let mut judgements: Vec<Judgement> = (0..).zip(outcomes).map(judge).collect();
    let named = config.on.as_ref().is_none_or(|on| outcomes.iter().any(|outcome| outcome.id == *on));
    if config.has_seen(outcomes.len()) && named {
        answer_badly(&config.what, &mut judgements)?;
    }
    Ok(judgements)
}

fn answer_badly(what: &str, judgements: &mut Vec<Judgement>) -> Result<(), String> {
    misbehave(what);
    match what {
        "error" => return Err("the hostile plugin fails as it was told to".to_owned()),
        "bad-row" => judgements[0].row = judgements.len() as u32,
        "twice-judged" => judgements.push(judgements[0].clone()),
        "nan" => judgements[0].loss = f64::NAN,
        "infinite" => judgements[0].loss = f64::NEG_INFINITY,
        "negative-weight" => judgements[0].weight = -1.0,
        "huge-answer" => *judgements = vec![judgements[0].clone(); 1 << 18],
        _ => {}
    }
    Ok(())
}

export!(Hostile);
