//! `status`: what a daemon reports of its pipelines, once or every second. Nothing is computed here: the daemon counts.

mod text;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::watch::watch;
use super::{Failure, Global, Outcome, Output};

/// What runs, how far it is, how well it does, and what went wrong.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sandpiper status\n  sandpiper status iris --watch\n  sandpiper status -o json\n  sandpiper status --ready\n\n\
    Records are counted since the daemon started. On a terminal --watch redraws; elsewhere each look follows the last."
)]
pub struct Status {
    /// Only this one.
    pipeline: Option<String>,
    /// Look again every second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Only whether the daemon is ready: exit code 1, and the reasons, while it is not.
    #[arg(long, conflicts_with_all = ["pipeline", "watch"])]
    ready: bool,
}

impl Status {
    pub fn run(self, global: &Global) -> Outcome {
        let client = Client::new(global)?;
        if self.ready {
            return ready(&client, global);
        }
        let fetch = || -> Result<String> {
            let answer = select(client.get("/v1/status")?, self.pipeline.as_deref())?;
            match global.output {
                Output::Json => Ok(serde_json::to_string(&answer)? + "\n"),
                Output::Text => text::render(answer),
            }
        };
        watch(global, self.watch, fetch)
    }
}

/// For health checks that reach the daemon's machine or container only by a command.
fn ready(client: &Client, global: &Global) -> Outcome {
    let (is_ready, text) = client.probe("/readyz")?;
    match global.output {
        Output::Text => super::print(&text)?,
        Output::Json => {
            let reasons: Vec<&str> = if is_ready { Vec::new() } else { text.lines().collect() };
            super::print_json(&serde_json::json!({ "ready": is_ready, "reasons": reasons }))?
        }
    };
    if is_ready { Ok(()) } else { Err(Failure::Reported(1)) }
}

/// The daemon's answer reduced to the pipeline that is named; all of it when none is.
fn select(mut answer: Value, name: Option<&str>) -> Result<Value> {
    let Some(name) = name else { return Ok(answer) };
    let pipelines =
        answer.get_mut("pipelines").and_then(Value::as_array_mut).context("the daemon's answer has no pipelines")?;
    let names: Vec<String> =
        pipelines.iter().filter_map(|pipeline| Some(pipeline.get("name")?.as_str()?.to_owned())).collect();
    if !names.iter().any(|known| known == name) {
        bail!("there is no pipeline {name:?}; this daemon runs {}", names.join(", "));
    }
    pipelines.retain(|pipeline| pipeline.get("name").and_then(Value::as_str) == Some(name));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::text::tests::answer;
    use super::*;

    #[test]
    fn one_pipeline_keeps_the_answers_form_and_an_unknown_one_is_refused_with_the_known_names() {
        let one = select(answer(), Some("route")).unwrap();
        assert_eq!(one["pipelines"].as_array().unwrap().len(), 1);
        assert_eq!(one["pipelines"][0]["name"], "route");
        assert_eq!(select(answer(), None).unwrap(), answer());
        let error = select(answer(), Some("irsi")).unwrap_err().to_string();
        assert!(error.contains("\"irsi\"") && error.contains("iris, route"), "{error}");
    }

    /// The daemon writes and this reads the same types, fields that are left out included.
    #[test]
    fn the_daemons_json_survives_reading_and_writing() {
        let status: crate::api::status::Status = serde_json::from_value(answer()).unwrap();
        assert_eq!(serde_json::to_value(status).unwrap(), answer());
    }
}
