//! `rollout`: how a candidate does beside what runs, and what a person says about it.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::client::Client;
use super::table::{Table, grouped};
use super::watch::watch;
use super::{Global, Outcome, Output};
use crate::api::status::{ArmStatus, PipelineStatus, RolloutStatus, Status};
use crate::config::plan::{Guard, Guards};
use crate::control::controller::Answered;
use crate::control::rollout::percent;
use crate::record::Revision;

/// The way from one revision to the next.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sandpiper rollout status iris --watch\n  sandpiper rollout promote iris --reason 'two points better'\n  \
    sandpiper rollout undo iris\n\n\
    `sandpiper deploy` begins a rollout where the pipeline's file has [rollout] steps."
)]
pub struct Rollout {
    #[command(subcommand)]
    verb: RolloutVerb,
}

#[derive(Subcommand)]
enum RolloutVerb {
    /// How the candidate does: its step, both arms, the guards, and what happens next.
    #[command(
        after_help = "Examples:\n  sandpiper rollout status iris --watch\n  sandpiper rollout status iris -o json"
    )]
    Status {
        pipeline: String,
        /// Look again every second, until Ctrl-C.
        #[arg(short, long)]
        watch: bool,
    },
    /// Have the candidate take over.
    #[command(after_help = "Example:\n  sandpiper rollout promote iris --reason 'two points better'")]
    Promote(Word),
    /// Have the rollout wait where it is; guards are judged all the same.
    #[command(after_help = "Example:\n  sandpiper rollout pause iris --reason 'over the weekend'")]
    Pause(Word),
    /// Have a rollout that waits go on.
    #[command(after_help = "Example:\n  sandpiper rollout resume iris")]
    Resume(Word),
    /// End the rollout: what ran before runs alone.
    #[command(after_help = "Example:\n  sandpiper rollout abort iris --reason 'it confuses two classes'")]
    Abort(Word),
    /// Go back, as a new revision: from a rollout to what ran before it, else to what the previous revision ran.
    #[command(
        after_help = "Examples:\n  sandpiper rollout undo iris --reason 'accuracy fell'\n  sandpiper rollout undo iris --to 12"
    )]
    Undo {
        pipeline: String,
        /// To what that revision ran: `sandpiper history` has them.
        #[arg(long, value_name = "REVISION")]
        to: Option<Revision>,
        /// Why: it stands in the history.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Args)]
struct Word {
    pipeline: String,
    /// Refuse unless this revision runs.
    #[arg(long, value_name = "REVISION")]
    expect: Option<Revision>,
    /// Why: it stands in the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl Rollout {
    pub fn run(self, global: &Global) -> Outcome {
        let client = Client::new(global)?;
        let word = |what: &str, word: Word| -> Result<Answered> {
            let body = serde_json::json!({ "reason": word.reason, "expected_revision": word.expect });
            client.post(&format!("/v1/pipelines/{}/rollout/{what}", word.pipeline), &body)
        };
        let answered = match self.verb {
            RolloutVerb::Status { pipeline, watch } => return status(global, &client, &pipeline, watch),
            RolloutVerb::Promote(of) => word("promote", of)?,
            RolloutVerb::Pause(of) => word("pause", of)?,
            RolloutVerb::Resume(of) => word("resume", of)?,
            RolloutVerb::Abort(of) => word("abort", of)?,
            RolloutVerb::Undo { pipeline, to, reason } => client
                .post(&format!("/v1/pipelines/{pipeline}/undo"), &serde_json::json!({ "reason": reason, "to": to }))?,
        };
        super::deploy::print(global, &answered)
    }
}

fn status(global: &Global, client: &Client, pipeline: &str, keep_watching: bool) -> Outcome {
    let look = || -> Result<String> {
        let status: Status = client.get("/v1/status")?;
        let names = status.pipelines.iter().map(|each| each.name.clone()).collect::<Vec<_>>().join(", ");
        let found = status.pipelines.into_iter().find(|each| each.name == pipeline);
        let found = found.with_context(|| format!("there is no pipeline {pipeline:?}; this daemon runs {names}"))?;
        match global.output {
            Output::Json => Ok(serde_json::to_string(&found.rollout)? + "\n"),
            Output::Text => Ok(render(&found)),
        }
    };
    watch(global, keep_watching, look)
}

fn render(status: &PipelineStatus) -> String {
    let revision = status.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
    let Some(rollout) = &status.rollout else {
        return format!("{}: revision {revision}, no rollout under way\n", status.name);
    };
    let mut text = format!("{}: revision {revision}, {}\n", status.name, rollout.now);
    text.push_str(&format!("  candidate  {}\n  reason     {}\n", rollout.candidate_releases, rollout.rollout.reason));
    text.push_str(&format!("  next       {}\n", rollout.next));
    text.push_str(&arms(rollout));
    text.push_str(&comparison(rollout));
    text.push_str(&guards(rollout));
    if let Some(failure) = &rollout.all_figures.comparison.last_failure {
        text.push_str(&format!("  the challenger's last failure: {failure}\n"));
    }
    for difference in &rollout.all_figures.comparison.differences {
        text.push_str(&format!("  differs at {difference}\n"));
    }
    text
}

fn arms(rollout: &RolloutStatus) -> String {
    let mut table = Table::with_header(&[
        "ARM",
        "RELEASE",
        "ANSWERS THAT COUNT",
        "LABELS",
        "ACCURACY",
        "LOG LOSS",
        "LOSS",
        "CALLS P99",
    ]);
    let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"));
    let comparison = &rollout.step_figures.comparison;
    let mut arm = |name: &str, arm: &ArmStatus, share: f64, p99: Option<std::time::Duration>| {
        table.row([
            name.to_owned(),
            arm.release.clone(),
            percent(share),
            grouped(arm.scored),
            arm.accuracy.map_or_else(|| "-".to_owned(), percent),
            number(arm.log_loss),
            number(arm.loss),
            p99.map_or_else(|| "-".to_owned(), |p99| format!("{:.1} ms", p99.as_secs_f64() * 1e3)),
        ]);
    };
    let canary = f64::from(rollout.canary);
    arm("champion", &rollout.champion, 1.0 - canary, comparison.champion_calls.quantile(0.99));
    arm("challenger", &rollout.challenger, canary, comparison.challenger_calls.quantile(0.99));
    table.render("  ")
}

fn comparison(rollout: &RolloutStatus) -> String {
    let mut table =
        Table::with_header(&["RECORDS", "IN BOTH ARMS", "AGREE", "DIFFER", "REJECTED", "FAILED", "SKIPPED", "EMITTED"]);
    for (name, figures) in [("this step", &rollout.step_figures), ("rollout", &rollout.all_figures)] {
        let comparison = &figures.comparison;
        table.row([
            format!("{name}: {}", grouped(figures.records)),
            grouped(comparison.sampled),
            comparison.agreement().map_or_else(|| "-".to_owned(), percent),
            grouped(comparison.disagreed),
            grouped(comparison.rejected),
            grouped(comparison.failed),
            grouped(comparison.skipped),
            grouped(comparison.emitted),
        ]);
    }
    table.render("  ")
}

/// Each guard with what it holds now.
fn guards(rollout: &RolloutStatus) -> String {
    let Guards { failed, rejected, latency_p99, disagreement, dead_letters } = &rollout.rollout.plan.guards;
    let (step, comparison) = (&rollout.step_figures, &rollout.step_figures.comparison);
    let mut table = Table::with_header(&["GUARD", "NOW", "ABORTS", "RECORDS"]);
    let mut ratio = |name: &str, guard: &Option<Guard>, count: u64, of: u64| {
        let Some(guard) = guard else { return };
        let above = guard.above.map(|above| format!("above {}", percent(above)));
        let below = guard.below.map(|below| format!("below {}", percent(below)));
        table.row([
            name.to_owned(),
            crate::record::comparison::share(count, of).map_or_else(|| "-".to_owned(), percent),
            above.into_iter().chain(below).collect::<Vec<_>>().join(", "),
            format!("{} of {}", grouped(of), grouped(guard.records)),
        ]);
    };
    ratio("failed", failed, comparison.failed, comparison.judged());
    ratio("rejected", rejected, comparison.rejected, comparison.both() + comparison.rejected);
    ratio("disagreement", disagreement, comparison.disagreed, comparison.both());
    ratio("dead letters", dead_letters, step.dead_letters, step.records);
    if let Some(guard) = latency_p99 {
        let now = comparison.challenger_calls.quantile(0.99);
        table.row([
            "latency p99".to_owned(),
            now.map_or_else(|| "-".to_owned(), |now| format!("{:.1} ms", now.as_secs_f64() * 1e3)),
            format!("above {} ms", guard.above_ms),
            format!("{} of {}", grouped(comparison.judged()), grouped(guard.records)),
        ]);
    }
    table.render("  ")
}
