//! Transactions as the broker's log has them, with their markers and metadata, which no consumer shows.

use super::checker::{Commit, TransactionPart};
use super::java;
use super::scene::Scene;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// Reads the log of those topics, and the commits that the scene's group made for its input, both in the log's order.
pub fn read(scene: &Scene, topics: &[&str]) -> Result<(Vec<TransactionPart>, Vec<Commit>)> {
    let data = scene.kafka.data().first().context("no broker")?.to_string_lossy().into_owned();
    let topics: Vec<String> = topics.iter().map(|short| scene.topic(short)).collect();
    let group = scene.group();
    let mut arguments = vec![data.as_str(), &group];
    arguments.extend(topics.iter().map(String::as_str));
    let printed = java::run("Transactions.java", &arguments)?;
    let mut parts = Vec::new();
    let mut commits: BTreeMap<u64, Commit> = BTreeMap::new();
    for line in printed.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["records", directory, _, _, outcome, _, first, _, revisions] => parts.push(TransactionPart {
                directory: (*directory).to_owned(),
                outcome: (*outcome).to_owned(),
                first: first.parse()?,
                revisions: revisions
                    .split(',')
                    .filter(|each| !each.is_empty())
                    .map(str::parse)
                    .collect::<Result<_, _>>()?,
            }),
            ["commit", _, _, _, "commit", serial, topic, partition, offset, metadata]
                if *topic == scene.topic("in") =>
            {
                let commit = commits.entry(serial.parse()?).or_default();
                commit.revisions.insert(revision(metadata)?);
                commit.offsets.push((partition.parse()?, offset.parse()?));
            }
            ["commit", ..] => {}
            _ => bail!("not understood: {line}"),
        }
    }
    Ok((parts, commits.into_values().collect()))
}

/// The revision in a committed offset's metadata, `r17` with or without more behind it.
fn revision(metadata: &str) -> Result<u64> {
    let digits = metadata
        .strip_prefix('r')
        .map(|rest| rest.split(|each: char| !each.is_ascii_digit()).next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("no revision in {metadata:?}"))
}
