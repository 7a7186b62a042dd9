//! A range through two models side by side, against the pipeline that takes the same records through one and writes them on.

use anyhow::{Context as _, Result, ensure};
use sandpiper::config::plan::Plan;
use sandpiper::control::deployment::{Deployment, Releases};
use sandpiper::kafka::reader::{Bound, Progress};
use sandpiper::record::Revision;
use sandpiper::replay::backtest::{self, Arm, Part, Request, Side, Stage, Watch};

use crate::drain::{Drained, bounds};
use crate::measure::{median, ratio, take_turns};
use crate::options::Options;
use crate::rig::{INPUT, PARTITIONS, Rig, Running};
use crate::support::flowers;
use crate::table::{Figure, Goal, Table};

const RATE: &str = "backtest: rate against the pipeline";
pub const NAMES: &[&str] = &[RATE];

struct Unwatched;

impl Watch for Unwatched {
    fn waiting(&mut self, text: &str) {
        println!("  {text}");
    }

    fn progress(&mut self, _stage: Stage, _progress: Progress) -> bool {
        true
    }
}

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(RATE) {
        return Ok(());
    }
    let records = options.sized(1_000_000, 150_000);
    let model = rig.directory().join("biased.json");
    let mut biased: serde_json::Value = serde_json::from_slice(&std::fs::read(flowers::model())?)?;
    let intercept = biased["intercepts"][2].as_f64().context("no intercept")?;
    biased["intercepts"][2] = (intercept - 3.0).into();
    std::fs::write(&model, biased.to_string())?;
    let plan = backtest::as_compared(&rig.plan("backtest", INPUT, "out", "")?);
    let champion = rig.stager.releases(&plan)?;
    let mut other = plan.clone();
    other.classify.as_mut().context("no classifier")?.model = Some(model);
    let candidate = rig.stager.releases(&other)?;

    let compared = |_: usize| -> Result<f64> { run(rig, &plan, &champion, &candidate, records) };
    let drained = |round: usize| -> Result<f64> {
        let name = format!("backtest-{round}");
        rig.create(&name)?;
        let plan = rig.plan(&name, INPUT, &name, "")?;
        let running = Running::start(&plan, bounds(), rig.wasm(&plan, Revision::FIRST)?, records)?;
        let drained = Drained::of(&running.finish()?)?;
        rig.delete(&name)?;
        println!("  pipeline {:>8.0} records/s", drained.rate);
        Ok(drained.rate)
    };
    // The first round warms the broker's JVM and is not counted.
    drained(usize::MAX)?;
    let mut again = compared;
    let sides = take_turns(options.sized(7, 2), &mut [&mut { drained }, &mut { compared }, &mut again])?;
    let [pipeline, backtest, again] = sides.as_slice() else { unreachable!("three sides") };
    table.add(Figure {
        name: RATE,
        unit: "x records/s",
        measured: ratio(backtest, pipeline),
        goal: Goal::AtLeast(0.9),
        control: ratio(again, backtest),
        detail: format!(
            "{:.0} through two models against {:.0} thousand records/s through one, one worker",
            median(backtest) / 1_000.0,
            median(pipeline) / 1_000.0
        ),
    });
    Ok(())
}

/// Records a second.
fn run(rig: &Rig, plan: &Plan, champion: &Releases, candidate: &Releases, records: usize) -> Result<f64> {
    let arm = |name, releases: &Releases| -> Result<(Arm, Side)> {
        let pipeline = rig.stager.open(plan, &Deployment::of(Revision::FIRST, releases.clone()))?;
        Ok((Arm::new(name, pipeline, false), Side { revision: None, releases: Default::default() }))
    };
    let offsets = |offset: i64| Bound::Offsets((0..PARTITIONS).map(|partition| (partition, offset)).collect());
    let end = (records / PARTITIONS as usize) as i64;
    let parts = vec![Part { topic: INPUT.into(), from: offsets(0), to: offsets(end) }];
    let (champion, candidate) = (arm("champion", champion)?, arm("candidate", candidate)?);
    let request = Request { plan, parts, champion, candidate, show: 10, publish: None };
    let findings = backtest::run(request, &mut Unwatched)?;
    ensure!(findings.records == end as u64 * PARTITIONS as u64, "{} records", findings.records);
    let speed = findings.speed;
    println!(
        "  backtest {:>8.0} records/s; stages {:.0} and {:.0}; agreement {:?}",
        speed.overall, speed.champion, speed.candidate, findings.agreement
    );
    Ok(speed.overall)
}
