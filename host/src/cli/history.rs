//! `history`: what a pipeline ran, since when and why. The daemon keeps it; this only prints it.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

use super::client::Client;
use super::table::Table;
use super::{Global, Outcome, Output};
use crate::control::deployment::{Deployment, Releases};

/// Every revision of a pipeline: when, why, and what it runs. The last is the current one.
#[derive(Args)]
#[command(after_help = "Examples:\n  sandpiper history iris\n  sandpiper history iris -o json")]
pub struct History {
    /// Its name.
    pipeline: String,
}

impl History {
    pub fn run(self, global: &Global) -> Outcome {
        let answer: serde_json::Value = Client::new(global).get(&format!("/v1/pipelines/{}/history", self.pipeline))?;
        match global.output {
            Output::Json => super::print_json(&answer)?,
            Output::Text => super::print(&render(answer)?)?,
        };
        Ok(())
    }
}

fn render(answer: serde_json::Value) -> Result<String> {
    let deployments: Vec<Deployment> = serde_json::from_value(answer)?;
    let mut table = Table::with_header(&["REVISION", "TIME", "RELEASES", "REASON"]);
    for deployment in &deployments {
        table.row([
            deployment.revision.to_string(),
            time(deployment.at),
            releases(&deployment.releases),
            match (&deployment.failed, deployment.on_probation) {
                (Some(why), _) => format!("{}; FAILED: {why}", deployment.reason),
                (None, true) => format!("{} (on probation)", deployment.reason),
                (None, false) => deployment.reason.clone(),
            },
        ]);
    }
    Ok(table.render(""))
}

fn releases(releases: &Releases) -> String {
    releases.iter().map(|(stage, release)| format!("{stage} {}", release.label())).collect::<Vec<_>>().join(", ")
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
    use crate::control::deployment::Release;
    use crate::record::Revision;
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
    fn a_revision_is_a_line_with_time_releases_and_reason() {
        let release =
            Release { name: "csv".into(), plugin: Digest::of(b"csv"), model: None, config: serde_json::json!({}) };
        let label = release.label();
        let releases = Releases { parse: Some(release), ..Releases::default() };
        let deployments = [Deployment {
            revision: Revision::new(3).unwrap(),
            releases,
            reason: "trained on May".into(),
            at: 1_777_635_296_000,
            on_probation: false,
            failed: None,
        }];
        let text = render(serde_json::to_value(deployments).unwrap()).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            format!("3 2026-05-01T11:34:56Z parse {label} trained on May")
        );
    }
}
