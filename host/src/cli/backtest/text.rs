//! What a backtest found out, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::super::plain::one_line;
use super::super::table::{Table, grouped};
use crate::replay::backtest::{Difference, Findings, Shown, Side};

/// Classes of a matrix that is printed whole; of a larger one the pairs that differ most often.
const CLASSES: usize = 20;

pub fn render(findings: &Findings) -> String {
    let mut text = String::new();
    let offsets: i64 = findings.range.iter().map(|span| span.to - span.from).sum();
    let partitions = findings.range.len();
    let _ = writeln!(
        text,
        "pipeline {}: {} records of {} offsets in {partitions} partitions",
        findings.pipeline,
        grouped(findings.records),
        grouped(u64::try_from(offsets).unwrap_or_default()),
    );
    if !findings.complete {
        let _ = writeln!(text, "INTERRUPTED: what follows is of the records that were read until then");
    }
    let _ = writeln!(text, "  champion   {}", side(&findings.champion));
    let _ = writeln!(text, "  candidate  {}", side(&findings.candidate));
    text.push('\n');
    let agreement = findings.agreement.map_or_else(|| "-".to_owned(), percent);
    let _ = writeln!(
        text,
        "  agreement  {agreement}: {} of {} records of which both made something",
        grouped(findings.agreed),
        grouped(findings.both_emitted)
    );
    if let Some(labels) = &findings.labels {
        let accuracy = match &findings.accuracy {
            Some(accuracy) => format!(
                "champion {}, candidate {}, of {} labels",
                percent(accuracy.champion),
                percent(accuracy.candidate),
                grouped(labels.scored)
            ),
            None => "no label met a record that both predicted".to_owned(),
        };
        let _ = writeln!(text, "  accuracy   {accuracy}");
        for (count, what) in [
            (labels.unknown_class, "labels are of a class that one of the two does not know"),
            (labels.malformed, "labels cannot be read"),
            (labels.beyond_bound, "labels fell out: [feedback] max_bytes has no room for them"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "             {} {what}", grouped(count));
            }
        }
    }
    let speed = &findings.speed;
    let rate = |rate: f64| format!("{}/s", grouped(rate as u64));
    let _ = writeln!(
        text,
        "  speed      champion {}, candidate {}; {} with reading, in {:.1} s",
        rate(speed.champion),
        rate(speed.candidate),
        rate(speed.overall),
        speed.seconds
    );
    for (who, counts) in
        [("champion", &findings.rejected.champion_only), ("candidate", &findings.rejected.candidate_only)]
    {
        for (reason, count) in &counts.dead_letters {
            let _ = writeln!(text, "  rejected by the {who} alone: {} {}", grouped(*count), one_line(reason));
        }
    }
    let dropped = &findings.dropped;
    for (count, what) in [
        (findings.rejected.both, "rejected by both"),
        (dropped.champion_only, "dropped by the champion alone"),
        (dropped.candidate_only, "dropped by the candidate alone"),
        (dropped.both, "dropped by both"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "  {what}: {}", grouped(count));
        }
    }
    if let Some(published) = &findings.published {
        let _ = writeln!(
            text,
            "  published  {} records to {}, which correct revision {}, in {} transactions",
            grouped(published.records),
            published.topic,
            published.corrects,
            grouped(published.transactions)
        );
    }
    if let Some(confusion) = &findings.confusion {
        text.push('\n');
        text.push_str(&matrix(confusion));
        if findings.confusion_beyond > 0 {
            let _ = writeln!(text, "  {} of further pairs", grouped(findings.confusion_beyond));
        }
    }
    if !findings.differences.is_empty() {
        let _ = writeln!(
            text,
            "\nthe first {} of {} records that differ",
            findings.differences.len(),
            grouped(findings.differing)
        );
        text.push_str(&differences(&findings.differences));
    }
    text
}

fn side(side: &Side) -> String {
    let releases: Vec<String> = side.releases.iter().map(|(stage, release)| format!("{stage} {release}")).collect();
    let releases = releases.join(", ");
    match side.revision {
        Some(revision) => format!("revision {revision}: {releases}"),
        None => releases,
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Champion by row, candidate by column.
fn matrix(confusion: &BTreeMap<String, BTreeMap<String, u64>>) -> String {
    let columns: BTreeSet<&String> = confusion.values().flat_map(BTreeMap::keys).collect();
    if columns.len() > CLASSES || confusion.len() > CLASSES {
        return pairs(confusion);
    }
    let header: Vec<&str> =
        std::iter::once("CHAMPION \\ CANDIDATE").chain(columns.iter().map(|name| name.as_str())).collect();
    let mut table = Table::with_header(&header);
    for (champion, row) in confusion {
        let cells = columns.iter().map(|candidate| grouped(row.get(*candidate).copied().unwrap_or_default()));
        table.row(std::iter::once(champion.clone()).chain(cells));
    }
    table.render("  ")
}

/// The pairs that differ, the most frequent first.
fn pairs(confusion: &BTreeMap<String, BTreeMap<String, u64>>) -> String {
    let mut pairs: Vec<(&String, &String, u64)> = (confusion.iter())
        .flat_map(|(champion, row)| row.iter().map(move |(candidate, count)| (champion, candidate, *count)))
        .filter(|(champion, candidate, _)| champion != candidate)
        .collect();
    pairs.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let mut table = Table::with_header(&["CHAMPION", "CANDIDATE", "PREDICTIONS"]);
    for (champion, candidate, count) in pairs.into_iter().take(CLASSES) {
        table.row([champion.clone(), candidate.clone(), grouped(count)]);
    }
    table.render("  ")
}

fn differences(differences: &[Difference]) -> String {
    let mut table = Table::with_header(&["RECORD", "ID", "CHAMPION", "CANDIDATE", "LABEL"]);
    for difference in differences {
        let absent = || "-".to_owned();
        table.row([
            difference.at.clone(),
            difference.id.clone().unwrap_or_else(absent),
            shown(&difference.champion),
            shown(&difference.candidate),
            difference.label.clone().unwrap_or_else(absent),
        ]);
    }
    table.render("  ")
}

fn shown(shown: &Shown) -> String {
    match shown {
        Shown::Predicted(predictions) => {
            let one = |predicted: &crate::replay::backtest::Predicted| {
                format!("{} {:.3}", predicted.class, predicted.confidence)
            };
            predictions.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Shown::Emitted(values) => {
            values.iter().map(|value| value.as_deref().unwrap_or("-").to_owned()).collect::<Vec<_>>().join(", ")
        }
        Shown::Rejected { reason, message } => format!("[{reason}: {message}]"),
        Shown::Dropped => "dropped".to_owned(),
    }
}
