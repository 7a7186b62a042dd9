//! A topic read from its start and written on in transactions, as fast as it goes: records a second, and client CPU a
//! record, of the whole pipeline, of the same with native stages, of no stages at all, and of rdkafka's safe calls.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sandpiper::config::plan::{Plan, Stamp};
use sandpiper::pipeline::{ModelStage, Pipeline, Settings};
use sandpiper::record::prediction::{Arm, Writer};
use sandpiper::record::{Revision, Role};
use sandpiper::stream::transaction::Bounds;
use sandpiper_csv::Csv;
use sandpiper_logistic::Logistic;
use sandpiper_sandbox::Digest;

use crate::measure::{median, ratio};
use crate::native::{NativeClassifier, NativeParser};
use crate::options::Options;
use crate::rig::{Commit, INPUT, Rig, Running, passthrough};
use crate::safe;
use crate::support::flowers::{self, COLUMNS};
use crate::table::{Figure, Goal, Table};

const RATE: &str = "pipeline: rate against native stages";
const CPU: &str = "pipeline: CPU against passthrough";
const PASSTHROUGH: &str = "passthrough: CPU against poll and send";
pub const NAMES: &[&str] = &[RATE, CPU, PASSTHROUGH];

/// Records a transaction, the same for all; the interval stays out of the way, so that a slow moment does not make
/// them smaller.
pub const TRANSACTION: usize = 50_000;
/// Share of the records that are not counted, while clients connect and caches fill.
const WARM_UP: f64 = 0.2;

/// What a drain came to.
#[derive(Clone, Copy)]
pub struct Drained {
    /// A second.
    pub rate: f64,
    /// Nanoseconds of client CPU a record, librdkafka's threads included.
    pub cpu: f64,
}

impl Drained {
    /// Between the end of the warm-up and the last commit.
    pub fn of(commits: &[Commit]) -> Result<Drained> {
        let last = commits.last().context("nothing was committed")?;
        let warm = commits.iter().find(|commit| commit.records as f64 >= last.records as f64 * WARM_UP).unwrap_or(last);
        let records = (last.records - warm.records) as f64;
        Ok(Drained {
            rate: records / (last.at - warm.at).as_secs_f64(),
            cpu: (last.cpu - warm.cpu).as_nanos() as f64 / records,
        })
    }
}

pub fn bounds() -> Bounds {
    Bounds {
        interval: Duration::from_secs(5),
        records: TRANSACTION,
        bytes: 1 << 30,
        budget: Duration::from_secs(20),
        pause_above: 1.0,
    }
}

/// One turn of a side.
type Turn<'a> = Box<dyn Fn(&Plan) -> Result<Drained> + 'a>;

/// A side: how it is run, and what came of each turn.
struct Side<'a> {
    name: &'static str,
    run: Turn<'a>,
    turns: Vec<Drained>,
}

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    let (rate, cpu, plain) = (options.wants(RATE), options.wants(CPU), options.wants(PASSTHROUGH));
    let records = options.sized(1_000_000, 150_000);
    let drain =
        |plan: &Plan, pipeline: Pipeline| Drained::of(&Running::start(plan, bounds(), pipeline, records)?.finish()?);
    let wasm = |plan: &Plan| drain(plan, rig.wasm(plan, Revision::FIRST)?);
    let bare = |plan: &Plan| drain(plan, passthrough(plan));
    let mut sides: Vec<Side> = Vec::new();
    let mut side = |wanted: bool, name: &'static str, run| {
        if wanted {
            sides.push(Side { name, run, turns: Vec::new() });
        }
    };
    side(rate || cpu, "wasm", Box::new(wasm));
    side(rate, "native", Box::new(|plan| drain(plan, native(plan)?)));
    side(rate, "wasm again", Box::new(wasm));
    side(cpu || plain, "passthrough", Box::new(bare));
    side(plain, "poll and send", Box::new(|plan| safe::drain(plan, records)));
    side(cpu || plain, "passthrough again", Box::new(bare));
    let rounds = if sides.is_empty() { 0 } else { options.sized(7, 1) };
    // Round 0 warms the broker's JVM and is not counted.
    for round in 0..=rounds {
        for (at, side) in sides.iter_mut().enumerate() {
            // Each turn reads all anew, as a group of its own, and writes to a topic of its own.
            let name = format!("drain-{round}-{at}");
            rig.create(&name)?;
            let drained = (side.run)(&rig.plan(&name, INPUT, &name, "")?).with_context(|| side.name)?;
            rig.delete(&name)?;
            println!("  {round} {:<18} {:>8.0} records/s {:>6.0} ns CPU", side.name, drained.rate, drained.cpu);
            if round > 0 {
                side.turns.push(drained);
            }
        }
    }
    let rates = |name: &str| column(&sides, name, |drained| drained.rate);
    let costs = |name: &str| column(&sides, name, |drained| drained.cpu);
    let thousand = |values: &[f64]| median(values) / 1_000.0;
    if rate {
        let (wasm, native, again) = (rates("wasm"), rates("native"), rates("wasm again"));
        table.add(Figure {
            name: RATE,
            unit: "x records/s",
            measured: ratio(&wasm, &native),
            goal: Goal::AtLeast(0.9),
            control: ratio(&again, &wasm),
            detail: format!("{:.0} against {:.0} thousand records/s, one worker", thousand(&wasm), thousand(&native)),
        });
    }
    let bare = costs("passthrough");
    let control = ratio(&costs("passthrough again"), &bare);
    if cpu {
        let wasm = costs("wasm");
        table.add(Figure {
            name: CPU,
            unit: "x CPU",
            measured: ratio(&wasm, &bare),
            goal: Goal::AtMost(1.8),
            control,
            detail: format!("{:.0} against {:.0} ns a record", median(&wasm), median(&bare)),
        });
    }
    if plain {
        let one_by_one = costs("poll and send");
        table.add(Figure {
            name: PASSTHROUGH,
            unit: "x CPU",
            measured: ratio(&bare, &one_by_one),
            goal: Goal::AtMost(0.6),
            control,
            detail: format!("{:.0} against {:.0} ns a record", median(&bare), median(&one_by_one)),
        });
    }
    Ok(())
}

fn column(sides: &[Side], name: &str, of: impl Fn(&Drained) -> f64) -> Vec<f64> {
    sides.iter().find(|side| side.name == name).map(|side| side.turns.iter().map(of).collect()).unwrap_or_default()
}

/// The same pipeline with the plugins' code linked in.
fn native(plan: &Plan) -> Result<Pipeline> {
    let parser = NativeParser::<Csv>::open(&format!("{{\"columns\": {COLUMNS:?}}}"))?;
    let classifier = NativeClassifier::<Logistic>::open("{}", &std::fs::read(flowers::model())?)?;
    let signature = classifier.signature();
    let stamped = plan.output.stamp == Stamp::Value;
    let model = ModelStage {
        parser: Box::new(parser),
        parser_release: "csv".into(),
        classifier: Box::new(classifier),
        classifier_release: "logistic".into(),
        gather: None,
        columns: signature.columns.len() as u32,
        classes: signature.classes.len(),
        writer: Writer::new(
            &signature,
            plan.output.min_confidence,
            &Arm { role: Role::Champion, revision: Revision::FIRST, release: Digest::of(b"native"), stamped },
        ),
        challenger: None,
        behind_challenger: None,
    };
    Ok(Pipeline::new(Revision::FIRST, Settings::new(plan, "bench").into(), Vec::new(), Some(model)))
}
