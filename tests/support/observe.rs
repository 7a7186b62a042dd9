//! Reads what clients and the broker's log show of a scene's pipeline, for the checker to compare.

use super::checker::{Input, Observed, Output};
use super::record::{self, Record};
use super::scene::Scene;
use super::topic::{self, Isolation};
use super::transactions;
use anyhow::{Context, Result};

/// Reads everything, once the pipeline has processed its input. Waits for open transactions as long as the broker may take
/// to end them.
pub fn observe(scene: &Scene) -> Result<Observed> {
    let mut observed = Observed::default();
    for short in ["out", "dead"] {
        observed.open.extend(topic::open_transactions(&scene.bootstrap(), &scene.topic(short))?);
    }
    let read = |short: &str, isolation| topic::read_stable(&scene.bootstrap(), &scene.topic(short), isolation);
    for record in read("in", Isolation::Committed)? {
        observed.inputs.push(Input { at: partition_offset(&record)?, id: id(&record) });
    }
    for (isolation, outputs) in
        [(Isolation::Committed, &mut observed.outputs), (Isolation::Uncommitted, &mut observed.attempts)]
    {
        for record in read("dead", isolation)? {
            outputs.push(dead_letter(&record)?);
        }
        for record in read("out", isolation)? {
            outputs.push(prediction(&record)?);
        }
    }
    observed.committed = scene.commits()?.iter().map(|commit| commit.offset).collect();
    observed.ends = topic::ends(&scene.bootstrap(), &scene.topic("in"))?;
    (observed.parts, observed.commits) = transactions::read(scene, &["out", "dead"])?;
    Ok(observed)
}

fn partition_offset(record: &Record) -> Result<(i32, i64)> {
    Ok((record.partition.context("no partition")?, record.offset))
}

/// The key, which may be any bytes or none.
fn id(record: &Record) -> String {
    record.content.key.as_ref().map_or_else(|| "null".to_owned(), |key| format!("\"{}\"", key.escape_ascii()))
}

fn prediction(record: &Record) -> Result<Output> {
    let value = record.json()?;
    Ok(Output {
        topic: "out".to_owned(),
        at: partition_offset(record)?,
        origin: record::origin(value["origin"].as_str().context("no origin")?)?,
        id: id(record),
        revision: value["revision"].as_u64().context("no revision")?,
    })
}

fn dead_letter(record: &Record) -> Result<Output> {
    Ok(Output {
        topic: "dead".to_owned(),
        at: partition_offset(record)?,
        origin: record.dead_letter_origin()?,
        id: id(record),
        revision: record.error("revision")?.parse()?,
    })
}
