//! Exactly once, through everything that happens to a pipeline in its life.

use crate::support::daemon::{Daemon, sum};
use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::topic::Producer;
use crate::support::transactions::{self, Transactions};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

crate::tests![nothing_is_lost_or_doubled_through_a_rebalance_five_swaps_and_a_kill];

const PARTITIONS: i32 = 6;
/// Every so manieth row is malformed.
const MALFORMED: usize = 997;
/// Between two portions of the input: several go into a transaction, so that a swap inside one shows.
const PACE: Duration = Duration::from_millis(20);
/// Each portion is this part of what is left, so that the load outlasts all that happens to the daemons.
const PORTION: usize = 1_500;

/// 300,000 unless `SANDPIPER_E2E_RECORDS` says otherwise.
fn size() -> Result<usize> {
    match std::env::var("SANDPIPER_E2E_RECORDS") {
        Ok(text) => text.parse().with_context(|| format!("SANDPIPER_E2E_RECORDS is {text:?} and not a number")),
        Err(_) => Ok(300_000),
    }
}

fn nothing_is_lost_or_doubled_through_a_rebalance_five_swaps_and_a_kill(scene: &Scene) -> Result<()> {
    let total = size()?;
    scene.create_usual(PARTITIONS)?;
    // Odd revisions find setosa, even ones virginica.
    let models = [scene.model_of("virginica")?, scene.model_of("setosa")?];
    let pipeline = scene.flower_pipeline("", &models[1], "[limits]\nworkers = 2\n")?;

    let over = AtomicBool::new(false);
    let (mut a, mut b, revision) = std::thread::scope(|threads| {
        let feeder = threads.spawn(|| feed(scene, total, &over));
        let life = live(scene, &pipeline, &models);
        over.store(true, Ordering::Relaxed);
        let fed = feeder.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the feeder panicked")));
        fed.and(life)
    })?;
    scene.until_done(&mut [&mut a, &mut b])?;

    let outcomes = Outcomes::read(scene)?;
    outcomes.check_every_record_once(total)?;
    outcomes.check_order_and_revisions()?;
    outcomes.check_model_of_each_revision(revision)?;
    check_transactions(&transactions::read(scene, &["out", "dead"])?, &outcomes)
}

/// Writes the input at a measured pace, and what is left at once when `over` says so.
fn feed(scene: &Scene, total: usize, over: &AtomicBool) -> Result<()> {
    let producer = Producer::new(&scene.bootstrap())?;
    let topic = scene.topic("in");
    let mut at = 0;
    while at < total {
        let left = total - at;
        let portion = if over.load(Ordering::Relaxed) { left } else { (left / PORTION).max(1) };
        for at in at..at + portion {
            let row = if at % MALFORMED == 0 { "malformed" } else { ROW };
            let partition = i32::try_from(at % PARTITIONS.unsigned_abs() as usize)?;
            producer.send(&topic, &record::value(row).key(at.to_string()).on(partition))?;
        }
        at += portion;
        std::thread::sleep(PACE);
    }
    producer.flush()
}

/// What happens while the input is written. Answers both daemons and the last revision.
fn live(scene: &Scene, pipeline: &Path, models: &[PathBuf; 2]) -> Result<(Daemon, Daemon, u64)> {
    let mut a = scene.daemon("a", pipeline)?;
    until_serves(scene, &mut a)?;
    let mut b = scene.daemon("b", pipeline)?;
    let mut revision = 1;
    for swap in 1..=5 {
        until_serves(scene, &mut a)?;
        until_serves(scene, &mut b)?;
        revision += 1;
        let model = models[usize::try_from(revision % 2)?].to_string_lossy();
        for daemon in [&mut a, &mut b] {
            assert_eq!(daemon.deploy(&scene.name, &["--model", &model])?, revision);
        }
        if swap == 3 {
            until_serves(scene, &mut a)?;
            a.kill9()?;
            a = scene.daemon("a", pipeline)?;
        }
    }
    until_serves(scene, &mut a)?;
    until_serves(scene, &mut b)?;
    Ok((a, b, revision))
}

/// Waits until a daemon has committed records under the revision that is deployed now.
fn until_serves(scene: &Scene, daemon: &mut Daemon) -> Result<()> {
    let before = sum(&daemon.pipeline(&scene.name)?, "transactions");
    // The first transaction to end may have begun under the revision before.
    daemon.until_status(&scene.name, "the daemon commits", |status| sum(status, "transactions") > before + 4).map(drop)
}

/// One input record's end.
struct Outcome {
    /// Where it stands now.
    at: (i32, i64),
    /// The input record.
    origin: (i32, i64),
    revision: u64,
    /// The class; none for a dead letter.
    class: Option<String>,
}

struct Outcomes {
    predictions: Vec<Outcome>,
    dead_letters: Vec<Outcome>,
}

impl Outcomes {
    fn read(scene: &Scene) -> Result<Outcomes> {
        let at = |record: &Record| Ok::<_, anyhow::Error>((record.partition.context("no partition")?, record.offset));
        let prediction = |record: &Record| {
            let value = record.json()?;
            Ok(Outcome {
                at: at(record)?,
                origin: record::origin(value["origin"].as_str().context("no origin")?)?,
                revision: value["revision"].as_u64().context("no revision")?,
                class: Some(value["class"].as_str().context("no class")?.to_owned()),
            })
        };
        let letter = |record: &Record| {
            let revision = record.error("revision")?.parse()?;
            Ok(Outcome { at: at(record)?, origin: record.dead_letter_origin()?, revision, class: None })
        };
        Ok(Outcomes {
            predictions: scene.read("out")?.iter().map(prediction).collect::<Result<_>>()?,
            dead_letters: scene.read("dead")?.iter().map(letter).collect::<Result<_>>()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Outcome> {
        self.predictions.iter().chain(&self.dead_letters)
    }

    fn check_every_record_once(&self, total: usize) -> Result<()> {
        let mut missing: BTreeSet<(i32, i64)> = BTreeSet::new();
        for at in 0..total {
            let partitions = PARTITIONS.unsigned_abs() as usize;
            missing.insert((i32::try_from(at % partitions)?, i64::try_from(at / partitions)?));
        }
        for outcome in self.all() {
            assert!(missing.remove(&outcome.origin), "{:?} came out twice, or never went in", outcome.origin);
        }
        assert!(missing.is_empty(), "{} records are lost, the first: {:?}", missing.len(), missing.first());
        assert_eq!(self.dead_letters.len(), total.div_ceil(MALFORMED), "dead letters");
        Ok(())
    }

    /// Per partition, the offsets of the input ascend, and revisions never go back.
    fn check_order_and_revisions(&self) -> Result<()> {
        for topic in [&self.predictions, &self.dead_letters] {
            for pair in topic.windows(2) {
                let (one, next) = (&pair[0], &pair[1]);
                assert_eq!(one.at.0, one.origin.0, "an output keeps its input's partition");
                if one.at.0 == next.at.0 {
                    assert!(one.origin.1 < next.origin.1, "{:?} stands before {:?}", one.origin, next.origin);
                    assert!(
                        one.revision <= next.revision,
                        "revision {} before {} at {:?}",
                        one.revision,
                        next.revision,
                        next.at
                    );
                }
            }
        }
        Ok(())
    }

    fn check_model_of_each_revision(&self, last: u64) -> Result<()> {
        for outcome in &self.predictions {
            let class = if outcome.revision % 2 == 1 { "setosa" } else { "virginica" };
            assert_eq!(outcome.class.as_deref(), Some(class), "revision {} at {:?}", outcome.revision, outcome.at);
        }
        let revisions: BTreeSet<u64> = self.all().map(|outcome| outcome.revision).collect();
        assert_eq!(revisions, (1..=last).collect(), "each revision served under load");
        Ok(())
    }
}

/// No transaction carries two revisions: neither among its outputs, nor between those and its offsets.
fn check_transactions(log: &Transactions, outcomes: &Outcomes) -> Result<()> {
    ensure!(!log.shares.is_empty() && !log.commits.is_empty(), "no transactions in the log");
    for share in &log.shares {
        assert!(share.revisions.len() == 1, "revisions {:?} in one transaction: {share:?}", share.revisions);
    }
    // Per input partition, the offset up to which a transaction went → its revision.
    let mut upto: BTreeMap<i32, BTreeMap<i64, u64>> = BTreeMap::new();
    for commit in &log.commits {
        let revisions: BTreeSet<u64> =
            commit.metadata.iter().map(|each| transactions::revision(each)).collect::<Result<_>>()?;
        assert_eq!(revisions.len(), 1, "one transaction commits offsets of several revisions: {commit:?}");
        for (partition, offset) in &commit.offsets {
            let offsets = upto.entry(*partition).or_default();
            assert!(offsets.last_key_value().is_none_or(|(last, _)| last <= offset), "an offset went back: {commit:?}");
            // A commit that repeats an offset covers no record of its own.
            offsets.entry(*offset).or_insert(revisions.first().copied().context("no revision")?);
        }
    }
    for outcome in outcomes.all() {
        let (partition, offset) = outcome.origin;
        let covering = upto.get(&partition).and_then(|offsets| offsets.range(offset + 1..).next());
        let (_, revision) = covering.with_context(|| format!("no transaction committed {:?}", outcome.origin))?;
        assert_eq!(outcome.revision, *revision, "{:?} and its offset carry different revisions", outcome.origin);
    }
    Ok(())
}
