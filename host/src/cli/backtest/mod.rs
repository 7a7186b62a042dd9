//! `backtest`: a range of the input through what runs and through a candidate, and what would change.

mod bar;
mod sides;
mod text;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::compile_component::Compilation;
use super::{Failure, Global, Outcome, Output};
use crate::config::plan::Plan;
use crate::control::deployment::Deployment;
use crate::control::staging::Stager;
use crate::record::Revision;
use crate::replay::backtest::{self, Arm, End, Publish, Request};
use bar::Bar;
use sides::{Candidate, Sides};

/// Send a range of the input through a candidate beside what runs, and say what would change.
#[derive(Args)]
#[command(after_help = "Examples:\n  sandpiper backtest data/iris.toml --model better.json --from 7d\n  \
    sandpiper backtest data/iris.toml --classify tree --model tree.json --from 2026-05-01 --to 2026-05-02 -o json\n  \
    sandpiper backtest data/iris.toml --revision 17 --against 16 --from 0@1842,1@1790 --to 0@2900,1@2850 --publish iris.corrections\n\n\
    What runs is the current deployment in the state directory (--state), or what the file asks for where that knows nothing of \
    the pipeline. The candidate is that with what is named here; with nothing named, it is what the file asks for. No group is \
    joined, and nothing is written to the pipeline's topics.")]
pub struct Backtest {
    /// A pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the range begins: a time (2026-05-01T09:00:00Z), how long ago (2h, 7d), offsets (0@1842,1@1790), or earliest.
    #[arg(long, value_name = "T|OFFSETS")]
    from: End,
    /// Where it ends: as --from, or latest. What stands there is not read any more.
    #[arg(long, value_name = "T|OFFSETS", default_value = "latest")]
    to: End,
    #[command(flatten)]
    candidate: Candidate,
    /// Compare with that revision instead of what runs.
    #[arg(long, value_name = "REVISION")]
    against: Option<Revision>,
    /// Compare although one of the two knows a class that the other does not.
    #[arg(long)]
    allow_new_classes: bool,
    /// Show so many of the records that differ.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    show: u16,
    /// Write what the candidate makes of the range to that topic, in transactions, marked with the revision that it corrects.
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
    /// The revision that wrote what is corrected. [default: the one that is compared with]
    #[arg(long, value_name = "REVISION", requires = "publish")]
    corrects: Option<Revision>,
    #[command(flatten)]
    compilation: Compilation,
}

impl Backtest {
    pub fn run(self, global: &Global) -> Outcome {
        let plans = super::pipelines::load(std::slice::from_ref(&self.file))?;
        let plan = backtest::as_compared(plans.first().context("the file holds no pipeline")?);
        let parts = backtest::parts(&plan.input.topics, &self.from, &self.to).map_err(Failure::Usage)?;
        // From here on a signal ends the comparison, and what came of it so far is told.
        let interrupted = super::interrupted()?;
        let (sides, stager) = Sides::find(global, &plan, self.against, &self.candidate, &self.compilation)?;
        let publish = self.publish(&plan, &sides)?;
        let champion = arm("champion", &stager, &plan, &sides.champion, false)?;
        let candidate = arm("candidate", &stager, &plan, &sides.candidate, publish.is_some())?;
        backtest::check_classes(&champion, &candidate, self.allow_new_classes)?;
        let request = Request {
            plan: &plan,
            parts,
            champion: (champion, sides.champion.told()),
            candidate: (candidate, sides.candidate.told()),
            show: usize::from(self.show),
            publish,
        };
        let mut bar = Bar::new(interrupted);
        let findings = backtest::run(request, &mut bar);
        bar.end();
        let findings = findings?;
        match global.output {
            Output::Json => super::print_json(&findings)?,
            Output::Text => super::print(&text::render(&findings))?,
        };
        if findings.complete { Ok(()) } else { Err(Failure::Reported(1)) }
    }

    fn publish(&self, plan: &Plan, sides: &Sides) -> Result<Option<Publish>, Failure> {
        let Some(topic) = &self.publish else { return Ok(None) };
        let Some(corrects) = self.corrects.or(sides.champion.revision) else {
            return Err(Failure::Usage(
                "--publish marks each record with the revision that it corrects, and the state directory knows of none: name it \
                 with --corrects"
                    .into(),
            ));
        };
        backtest::check_topic(plan, topic)?;
        let (revision, release) = (sides.candidate.revision, sides.candidate.release());
        Ok(Some(Publish { topic: topic.clone(), corrects, revision, release }))
    }
}

/// One side, opened.
fn arm(name: &'static str, stager: &Stager, plan: &Plan, side: &sides::Chosen, with_predictions: bool) -> Result<Arm> {
    let revision = side.revision.unwrap_or(Revision::FIRST);
    let deployment = Deployment::of(revision, side.releases.clone());
    let pipeline = stager.open(plan, &deployment).with_context(|| format!("the {name} cannot be opened"))?;
    Ok(Arm::new(name, pipeline, with_predictions))
}
