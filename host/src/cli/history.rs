//! `history`: what a pipeline ran, since when and why. The daemon keeps it; this only prints it.

mod affected;

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

use super::client::Client;
use super::table::Table;
use super::{Global, Outcome, Output};
use crate::control::command::By;
use crate::control::deployment::Deployment;
use crate::control::history::Line;
use crate::record::Revision;

/// What a pipeline ran and what was done to it: when, by whom and why. The last revision is the current one.
#[derive(Args)]
#[command(after_help = "Examples:\n  sandpiper history iris\n  sandpiper history iris -o json\n  \
    sandpiper history data/iris.toml --affected 17")]
pub struct History {
    /// Its name; with --affected its file.
    pipeline: String,
    /// Instead, the offsets of the input that this revision processed, by what the outputs and dead letters say that are still there.
    #[arg(long, value_name = "REVISION")]
    affected: Option<Revision>,
}

impl History {
    pub fn run(self, global: &Global) -> Outcome {
        if let Some(revision) = self.affected {
            return affected::affected(global, &self.pipeline, revision);
        }
        let answer: serde_json::Value =
            Client::new(global)?.get(&format!("/v1/pipelines/{}/history", self.pipeline))?;
        match global.output {
            Output::Json => super::print_json(&answer)?,
            Output::Text => super::print(&render(answer)?)?,
        };
        Ok(())
    }
}

fn render(answer: serde_json::Value) -> Result<String> {
    let lines: Vec<Line> = serde_json::from_value(answer)?;
    let mut table = Table::with_header(&["REVISION", "TIME", "BY", "RELEASES", "REASON"]);
    for line in lines {
        table.row(match line {
            Line::Deployment(deployment) => [
                deployment.revision.to_string(),
                time(deployment.at),
                by(&deployment.by),
                releases(&deployment),
                reason(&deployment),
            ],
            Line::Call(call) => [call.call.name().to_owned(), time(call.at), by(&call.by), "-".to_owned(), call.reason],
        });
    }
    Ok(table.render(""))
}

/// The daemon itself is nobody.
fn by(by: &Option<By>) -> String {
    by.as_ref().map_or_else(|| "-".to_owned(), By::to_string)
}

fn reason(deployment: &Deployment) -> String {
    match (&deployment.failed, deployment.on_probation || deployment.scorer_on_probation) {
        (Some(why), _) => format!("{}; FAILED: {why}", deployment.reason),
        (None, true) => format!("{} (on probation)", deployment.reason),
        (None, false) => deployment.reason.clone(),
    }
}

fn releases(deployment: &Deployment) -> String {
    let runs = &deployment.releases;
    let named = runs.iter().map(|(stage, release)| format!("{stage} {}", release.label()));
    let beside = deployment.challenger.as_ref().map(|challenger| challenger.releases.differing_from(runs));
    named.chain(beside.map(|beside| format!("beside it {beside}"))).collect::<Vec<_>>().join(", ")
}

/// The year 10000, milliseconds since the Unix epoch: RFC 3339 has no later year.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// Milliseconds since the Unix epoch as RFC 3339, UTC.
///
/// What lies before 1970 or behind the year 9999 is shown as the number that it is: it may come from a record's header.
pub(super) fn time(ms: i64) -> String {
    let shown = u64::try_from(ms).ok().filter(|ms| *ms < YEAR_10000_MS).and_then(|ms| {
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(ms))?;
        Some(humantime::format_rfc3339_seconds(time).to_string())
    });
    shown.unwrap_or_else(|| format!("{ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::deployment::{Release, Releases};
    use crate::control::history::{Call, CallKind};
    use sandpiper_sandbox::Digest;

    #[test]
    fn a_time_that_no_calendar_has_is_shown_as_a_number() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(253_402_300_799_999), "9999-12-31T23:59:59Z");
        for beyond in [-1, i64::MIN, 253_402_300_800_000, 1_777_635_296_000_000, i64::MAX] {
            assert_eq!(time(beyond), format!("{beyond} ms"));
        }
    }

    #[test]
    fn a_revision_and_a_call_are_a_line_each_with_time_caller_and_reason() {
        let release =
            Release { name: "csv".into(), plugin: Digest::of(b"csv"), model: None, config: serde_json::json!({}) };
        let label = release.label();
        let releases = Releases { parse: Some(release), ..Releases::default() };
        let by = Some(By { who: "admin".into(), from: "127.0.0.1".into() });
        let deployment = Line::Deployment(Box::new(Deployment {
            revision: Revision::new(3).unwrap(),
            releases,
            reason: "trained on May".into(),
            by: by.clone(),
            at: 1_777_635_296_000,
            on_probation: false,
            scorer_on_probation: false,
            failed: None,
            challenger: None,
        }));
        let call = Call { call: CallKind::Pause, by, reason: "lunch".into(), at: 1_777_635_297_000 };
        let text = render(serde_json::to_value([deployment, Line::Call(call)]).unwrap()).unwrap();
        let lines: Vec<String> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                format!("3 2026-05-01T11:34:56Z admin from 127.0.0.1 parse {label} trained on May"),
                "pause 2026-05-01T11:34:57Z admin from 127.0.0.1 - lunch".to_owned()
            ]
        );
    }
}
