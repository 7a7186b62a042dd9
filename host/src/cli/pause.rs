//! `pause` and `resume`: a pipeline that keeps its place and processes nothing.

use clap::Args;

use super::client::Client;
use super::{Global, Outcome, Output, print_json};
use crate::control::command::Outcome as Came;
use crate::control::controller::Answered;
use crate::stream::pause;

/// Hold a pipeline between two transactions.
///
/// It stays in its group and keeps its partitions and positions; `status` says that it is paused, also after a restart.
#[derive(Args)]
#[command(after_help = "Example:\n  sandpiper pause iris --reason 'the sensor is being replaced'")]
pub struct Pause {
    pipeline: String,
    /// Why: `status` says it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Let a paused pipeline go on where it stopped.
#[derive(Args)]
#[command(after_help = "Example:\n  sandpiper resume iris")]
pub struct Resume {
    pipeline: String,
}

impl Pause {
    pub fn run(self, global: &Global) -> Outcome {
        let pause = ask(global, &self.pipeline, "pause", &self.reason)?;
        if global.output == Output::Json {
            print_json(&pause)?;
        } else {
            super::print(&format!("pipeline {} is paused; {}\n", self.pipeline, pause.advice(&self.pipeline)))?;
        }
        Ok(())
    }
}

impl Resume {
    pub fn run(self, global: &Global) -> Outcome {
        let pause = ask(global, &self.pipeline, "resume", "")?;
        if global.output == Output::Json {
            print_json(&pause)?;
        } else {
            super::print(&format!("pipeline {} goes on; it was paused: {}\n", self.pipeline, pause.why))?;
        }
        Ok(())
    }
}

fn ask(global: &Global, pipeline: &str, what: &str, reason: &str) -> anyhow::Result<pause::Pause> {
    let body = serde_json::json!({ "reason": reason });
    let answered: Answered = Client::new(global)?.post(&format!("/v1/pipelines/{pipeline}/{what}"), &body)?;
    match answered.outcome {
        Came::Paused { pause } | Came::Resumed { pause } => Ok(pause),
        other => anyhow::bail!("the daemon answered {other:?}: it is of another version"),
    }
}
