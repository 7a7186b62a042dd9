//! What a challenger that is asked for every record costs a pipeline, both answers written: against the pipeline alone.

use anyhow::{Context as _, Result};
use sandpiper::config::plan::Plan;
use sandpiper::control::deployment::{Challenger, Deployment};
use sandpiper::pipeline::Pipeline;
use sandpiper::record::Revision;

use crate::drain::{Drained, bounds};
use crate::measure::{median, ratio, take_turns};
use crate::options::Options;
use crate::rig::{INPUT, Rig, Running};
use crate::support::flowers;
use crate::table::{Figure, Goal, Table};

const COST: &str = "shadow: CPU with a challenger on every record against none";
pub const NAMES: &[&str] = &[COST];

pub fn measure(options: &Options, rig: &Rig, table: &mut Table) -> Result<()> {
    if !options.wants(COST) {
        return Ok(());
    }
    let records = options.sized(1_000_000, 150_000);
    let drain = |side: &str, round: usize, open: &dyn Fn(&Plan) -> Result<Pipeline>| -> Result<f64> {
        let name = format!("shadow-{side}-{round}");
        rig.create(&name)?;
        let plan = rig.plan(&name, INPUT, &name, "")?;
        let drained = Drained::of(&Running::start(&plan, bounds(), open(&plan)?, records)?.finish()?)?;
        rig.delete(&name)?;
        println!("  {side:<8} {:>8.0} records/s {:>6.0} ns CPU", drained.rate, drained.cpu);
        Ok(drained.cpu)
    };
    let alone = |plan: &Plan| rig.wasm(plan, Revision::FIRST);
    let beside = |plan: &Plan| challenged(rig, plan);
    // The first round warms the broker's JVM and is not counted.
    drain("warm", 0, &alone)?;
    let sides = take_turns(
        options.sized(7, 2),
        &mut [&mut |round| drain("alone", round, &alone), &mut |round| drain("both", round, &beside), &mut |round| {
            drain("again", round, &alone)
        }],
    )?;
    let [alone, both, again] = sides.as_slice() else { unreachable!("three sides") };
    table.add(Figure {
        name: COST,
        unit: "x CPU",
        measured: ratio(both, alone),
        // The classifier's own 40 ns are 2 % of what a record costs in all.
        goal: Goal::AtMost(1.17),
        control: ratio(again, alone),
        detail: format!("{:.0} against {:.0} ns a record, one worker", median(both), median(alone)),
    });
    Ok(())
}

/// The plan's pipeline with a challenger of another model beside it, in shadow.
fn challenged(rig: &Rig, plan: &Plan) -> Result<Pipeline> {
    let model = rig.directory().join("challenger.json");
    let mut other: serde_json::Value = serde_json::from_slice(&std::fs::read(flowers::model())?)?;
    let intercept = other["intercepts"][2].as_f64().context("no intercept")?;
    other["intercepts"][2] = (intercept - 1.0).into();
    std::fs::write(&model, other.to_string())?;
    let mut candidate = plan.clone();
    candidate.classify.as_mut().context("no classifier")?.model = Some(model);
    let challenger = Challenger {
        releases: rig.stager.releases(&candidate)?,
        rollout: Revision::FIRST,
        sample: 1.0,
        canary: 0.0,
        allow_new_classes: false,
    };
    let deployment =
        Deployment { challenger: Some(challenger), ..Deployment::of(Revision::FIRST, rig.stager.releases(plan)?) };
    Ok(rig.stager.open(plan, &deployment)?)
}
