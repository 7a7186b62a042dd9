//! Transactions as they lie in the broker's log, which no consumer shows.

use super::java;
use super::scene::Scene;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// What one producer wrote into one partition between two of its control markers.
#[derive(Debug)]
#[expect(dead_code, reason = "shown when an assertion fails")]
pub struct Share {
    /// The partition's folder: `topic-3`.
    pub folder: String,
    pub outcome: String,
    pub first: i64,
    pub revisions: Vec<u64>,
}

/// What one transaction committed for the group.
#[derive(Debug, Default)]
pub struct Commit {
    pub metadata: Vec<String>,
    /// Partition and offset of the input topic.
    pub offsets: Vec<(i32, i64)>,
}

pub struct Transactions {
    pub shares: Vec<Share>,
    /// Of transactions that were committed, in the log's order.
    pub commits: Vec<Commit>,
}

/// Reads the log of those topics, and of the commits that the scene's group made for its input.
pub fn read(scene: &Scene, topics: &[&str]) -> Result<Transactions> {
    let data = scene.kafka.data().first().context("no broker")?.to_string_lossy().into_owned();
    let topics: Vec<String> = topics.iter().map(|short| scene.topic(short)).collect();
    let group = scene.group();
    let mut arguments = vec![data.as_str(), &group];
    arguments.extend(topics.iter().map(String::as_str));
    let printed = java::run("Transactions.java", &arguments)?;
    let mut shares = Vec::new();
    let mut commits: BTreeMap<u64, Commit> = BTreeMap::new();
    for line in printed.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["records", folder, _, _, outcome, _, first, _, revisions] => shares.push(Share {
                folder: (*folder).to_owned(),
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
                commit.metadata.push((*metadata).to_owned());
                commit.offsets.push((partition.parse()?, offset.parse()?));
            }
            ["commit", ..] => {}
            _ => bail!("not understood: {line}"),
        }
    }
    Ok(Transactions { shares, commits: commits.into_values().collect() })
}

/// The revision in a committed offset's metadata, `r17` with or without more behind it.
pub fn revision(metadata: &str) -> Result<u64> {
    let digits = metadata
        .strip_prefix('r')
        .map(|rest| rest.split(|each: char| !each.is_ascii_digit()).next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("no revision in {metadata:?}"))
}
