//! `[rollout]`: the steps by which a candidate is rolled out, and what aborts it by itself.

use std::time::Duration;

use crate::config::plan::{Guard, Guards, LatencyGuard, Rollout, RolloutStep, Until};

use super::section::Section;
use super::unit;
use super::value::Field;

/// Records from which on a guard holds, unless it says otherwise.
const RECORDS: u64 = 1_000;
/// A challenger that fails on more than that is bad, whatever it is for.
const FAILED: Guard = Guard { above: Some(0.05), below: None, records: RECORDS };

pub(super) fn read(section: &Section<'_>, has_feedback: bool) -> Option<Rollout> {
    let sample = section.fraction("sample", 1.0);
    if let Some(sample) = &sample
        && sample.value <= 0.0
        && let Some(at) = &sample.at
    {
        let message = "0 runs no record through the challenger: write a share above 0, as 0.1";
        section.file.mistake(at, section.key("sample"), message);
    }
    let steps = section.sections("step");
    if steps.as_ref().is_some_and(Vec::is_empty) {
        section.file.absent(
            &section.at,
            section.key("step"),
            "missing: write its steps, as [[rollout.step]] and below it shadow = \"500 labels\" or canary = 0.05 with hold = \"30m\"",
        );
    }
    let steps = steps.map(|steps| steps.iter().map(|each| step(each, has_feedback)).collect::<Vec<_>>());
    let guards = match section.table("guards", "guards = { disagreement = { above = 0.2 } }") {
        None => None,
        Some(None) => Some(Guards { failed: Some(FAILED), ..Guards::default() }),
        Some(Some(table)) => guards(&table),
    };
    section.finish();
    let steps: Vec<RolloutStep> = super::all(steps?)?;
    Some(Rollout { sample: sample?.value, steps, guards: guards? })
}

fn step(section: &Section<'_>, has_feedback: bool) -> Option<RolloutStep> {
    let until = |text: &str| until(text, has_feedback);
    let shadow = section.text("shadow", until);
    let canary = section.number("canary", |text| match text.parse::<f32>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        Ok(0.0) => Err("gives no record to the challenger: that is shadow = \"…\"".to_owned()),
        _ => Err("is not a share above 0 and up to 1, as 0.05".to_owned()),
    });
    let hold = section.text("hold", until);
    let pause = section.flag("pause");
    section.finish();
    match (shadow, canary, pause) {
        (Field::Valid(until), Field::Absent, Field::Absent) => {
            if let Field::Valid(hold) = &hold
                && let Some(at) = &hold.at
            {
                section.file.mistake(
                    at,
                    section.key("hold"),
                    "only a canary is held: shadow says itself how long it lasts",
                );
                return None;
            }
            Some(RolloutStep::Shadow { until: until.value })
        }
        (Field::Absent, Field::Valid(share), Field::Absent) => {
            let hold =
                section.required("hold", hold, "say how long the canary lasts: hold = \"30m\" or \"500 labels\"");
            Some(RolloutStep::Canary { share: share.value, until: hold?.value })
        }
        (Field::Absent, Field::Absent, Field::Valid(_)) => Some(RolloutStep::Pause),
        (Field::Invalid, ..) | (_, Field::Invalid, _) | (.., Field::Invalid) => None,
        _ => {
            let message =
                "a step is one of shadow = \"500 labels\", canary = 0.05 with hold = \"30m\", or pause = true";
            section.file.mistake(&section.at, section.key(""), message);
            None
        }
    }
}

/// `500 labels`, `10000 records` or `30m`.
fn until(text: &str, has_feedback: bool) -> Result<Until, String> {
    let counted = |unit: &str| text.strip_suffix(unit).and_then(|count| count.trim_end().parse::<u64>().ok());
    let found = if let Some(labels) = counted("labels") {
        if !has_feedback {
            return Err(
                "needs labels, and this pipeline has no [feedback]: count records, as \"10000 records\", or give it a \
                        time, as \"30m\""
                    .into(),
            );
        }
        Until::Labels(labels)
    } else if let Some(records) = counted("records") {
        Until::Records(records)
    } else {
        let time = unit::duration(text).map_err(|_| {
            "is neither a number of labels, as \"500 labels\", nor of records, as \"10000 records\", nor a time, as \"30m\"".to_owned()
        })?;
        Until::Time(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    match found {
        Until::Labels(0) | Until::Records(0) | Until::Time(0) => {
            Err("is over before it begins: write more than 0".into())
        }
        found => Ok(found),
    }
}

fn guards(section: &Section<'_>) -> Option<Guards> {
    let failed = guard(section, "failed", false);
    let rejected = guard(section, "rejected", false);
    let disagreement = guard(section, "disagreement", true);
    let dead_letters = guard(section, "dead_letters", false);
    let latency_p99 = latency(section);
    section.finish();
    Some(Guards {
        failed: Some(failed?.unwrap_or(FAILED)),
        rejected: rejected?,
        latency_p99: latency_p99?,
        disagreement: disagreement?,
        dead_letters: dead_letters?,
    })
}

/// `{ above = 0.05, records = 1000 }`; `Some(None)` where it is absent.
fn guard(section: &Section<'_>, key: &'static str, has_lower_bound: bool) -> Option<Option<Guard>> {
    let example = "{ above = 0.05, records = 1000 }";
    let Some(table) = section.table(key, &format!("{key} = {example}"))? else { return Some(None) };
    let bound = |name| {
        let found = table.number(name, |text| match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => Err("is not a share from 0 to 1".to_owned()),
        });
        match found {
            Field::Absent => Some(None),
            Field::Invalid => None,
            Field::Valid(setting) => Some(Some(setting.value)),
        }
    };
    let above = bound("above");
    let below = if has_lower_bound { bound("below") } else { Some(None) };
    let records = records(&table);
    table.finish();
    let (above, below) = (above?, below?);
    if above.is_none() && below.is_none() {
        let message = format!("a guard needs its figure, as {key} = {example}");
        section.file.mistake(&table.at, section.key(key), message);
        return None;
    }
    Some(Some(Guard { above, below, records: records? }))
}

fn latency(section: &Section<'_>) -> Option<Option<LatencyGuard>> {
    let example = "latency_p99 = { above = \"20ms\" }";
    let Some(table) = section.table("latency_p99", example)? else { return Some(None) };
    let above = table.text("above", unit::duration);
    let above = table.required("above", above, &format!("a guard needs its figure, as {example}"));
    let records = records(&table);
    table.finish();
    let above: Duration = above?.value;
    Some(Some(LatencyGuard { above_ms: above.as_secs_f64() * 1e3, records: records? }))
}

fn records(table: &Section<'_>) -> Option<u64> {
    let found = table.number("records", |text| match text.parse::<u64>() {
        Ok(records) if records > 0 => Ok(records),
        _ => Err("is not a number of records above 0".to_owned()),
    });
    found.or(RECORDS, RECORDS).map(|records| records.value)
}
