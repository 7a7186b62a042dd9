//! The demonstration, on its mock and on a real broker.

use crate::support::daemon::{Printed, sandpiper};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use serde_json::Value;

crate::tests![the_demo_needs_nothing_installed, the_demo_runs_on_a_real_broker];

fn the_demo_needs_nothing_installed(_: &Scene) -> Result<()> {
    let printed = Printed::of(sandpiper().args(["demo", "-o", "json"]))?;
    check_summary(&printed.json()?, "mock", "at-least-once")
}

fn the_demo_runs_on_a_real_broker(scene: &Scene) -> Result<()> {
    let printed = Printed::of(sandpiper().args(["demo", "-o", "json", "--kafka", &scene.bootstrap()]))?;
    check_summary(&printed.json()?, &scene.bootstrap(), "exactly-once")
}

/// Every record has an outcome, every prediction was scored, and the second model is the better one.
fn check_summary(summary: &Value, broker: &str, delivery: &str) -> Result<()> {
    let number = |value: &Value| value.as_f64().with_context(|| format!("no number in {summary:#}"));
    assert_eq!((&summary["broker"], &summary["delivery"]), (&broker.into(), &delivery.into()));
    let letters = summary["dead_letters"].as_object().context("no dead letters")?;
    let dead = letters.values().map(number).sum::<Result<f64>>()?;
    let (records, predictions) = (number(&summary["records"])?, number(&summary["predictions"])?);
    assert!(records >= 5_000.0 && dead >= 4.0, "{summary:#}");
    assert_eq!(records, predictions + dead, "{summary:#}");
    assert_eq!(number(&summary["scored"])?, predictions, "{summary:#}");
    for reason in ["column-count", "invalid-utf8", "not-a-number", "null-value"] {
        assert!(letters.contains_key(reason), "no {reason} in {summary:#}");
    }
    let revisions = summary["revisions"].as_array().context("no revisions")?;
    let [before, after] = revisions.as_slice() else { panic!("not two revisions: {summary:#}") };
    assert!(number(&after["accuracy"])? > number(&before["accuracy"])? + 0.1, "{summary:#}");
    assert_eq!(number(&before["records"])? + number(&after["records"])?, records, "{summary:#}");
    assert_eq!(summary["swap_pause_us"].as_array().map(Vec::len), Some(1), "{summary:#}");
    Ok(())
}
