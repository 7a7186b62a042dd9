//! `history --affected`: the part of the input that a revision processed. What a person is to act on it with, `backtest`, is
//! told the ranges as its flags.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::super::dlq::{announce, reading};
use super::super::pipelines;
use super::super::table::{Table, grouped};
use super::super::{Failure, Global, Outcome, Output, print, print_json};
use crate::record::Revision;
use crate::replay::affected::{self, Affected, Range, Span};

/// Reads the topics that the pipeline's file names: no daemon knows what its revisions have processed.
pub(super) fn affected(global: &Global, file: &str, revision: Revision) -> Outcome {
    let path = Path::new(file);
    let is_name = !file.contains('/') && path.extension().is_none() && !path.exists();
    if is_name {
        return Err(Failure::Usage(format!(
            "--affected reads what the pipeline wrote, so it needs its file in place of its name, as \
             `sandpiper history {file}.toml --affected {revision}`"
        )));
    }
    let plans = pipelines::load(&[path.to_path_buf()])?;
    let plan = plans.first().context("the file holds no pipeline")?;
    let affected = affected::find(plan, revision, announce, reading())?;
    match global.output {
        Output::Json => print_json(&affected)?,
        Output::Text => print(&render(file, &affected))?,
    };
    Ok(())
}

fn render(file: &str, affected: &Affected) -> String {
    let Affected { pipeline, revision, ranges, read, unstamped } = affected;
    let mut text = if ranges.is_empty() {
        format!("no record that revision {revision} of {pipeline} processed is found\n")
    } else {
        let mut table = Table::with_header(&["TOPIC", "PARTITION", "FIRST", "LAST"]);
        for range in ranges {
            let Range { topic, partition, first, last } = range;
            table.row([topic.clone(), partition.to_string(), first.to_string(), last.to_string()]);
        }
        table.render("")
    };
    if let Some((from, to)) = as_flags(ranges) {
        text.push_str(&format!("the same for a comparison: sandpiper backtest {file} --from {from} --to {to}\n"));
    }
    for (topic, begins) in removed(read) {
        text.push_str(&format!(
            "{topic} was read from {begins} on: what stood before was removed, and what it said of revision {revision} is not \
             known\n"
        ));
    }
    if *unstamped > 0 {
        text.push_str(&format!("{} outputs carry no revision, and are not counted\n", grouped(*unstamped)));
    }
    text
}

/// The ranges as `--from` and `--to` of `backtest`, which takes one of each partition; what stands at its end is not read.
fn as_flags(ranges: &[Range]) -> Option<(String, String)> {
    let several = ranges.iter().any(|range| ranges.first().is_some_and(|first| first.topic != range.topic));
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (at, range) in ranges.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| ranges.get(before));
        if before.is_some_and(|before| before.topic == range.topic && before.partition == range.partition) {
            return None;
        }
        let place = if several { format!("{}/{}", range.topic, range.partition) } else { range.partition.to_string() };
        from.push(format!("{place}@{}", range.first));
        to.push(format!("{place}@{}", range.last.saturating_add(1)));
    }
    (!from.is_empty()).then(|| (from.join(","), to.join(",")))
}

/// Topics of which the beginning is gone, and where each partition of them begins now.
fn removed(read: &[Span]) -> BTreeMap<&str, String> {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for span in read.iter().filter(|span| span.from > 0) {
        topics.entry(&span.topic).or_default().push(format!("{}@{}", span.partition, span.from));
    }
    topics.into_iter().map(|(topic, places)| (topic, places.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(topic: &str, partition: i32, first: i64, last: i64) -> Range {
        Range { topic: topic.into(), partition, first, last }
    }

    fn span(topic: &str, partition: i32, from: i64) -> Span {
        Span { topic: topic.into(), partition, from, to: 9_000 }
    }

    fn shown(ranges: Vec<Range>, read: Vec<Span>, unstamped: u64) -> String {
        let revision = Revision::new(17).unwrap();
        render("iris.toml", &Affected { pipeline: "iris".into(), revision, ranges, read, unstamped })
    }

    #[test]
    fn the_ranges_are_shown_with_the_comparison_that_they_are_for() {
        let text = shown(vec![range("in", 0, 1842, 2899), range("in", 1, 1790, 2849)], vec![span("out", 0, 0)], 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["in", "0", "1842", "2899"]);
        assert_eq!(
            lines[3..],
            ["the same for a comparison: sandpiper backtest iris.toml --from 0@1842,1@1790 --to 0@2900,1@2850"]
        );
        assert_eq!(
            as_flags(&[range("a", 0, 1, 2), range("b", 0, 3, 4)]),
            Some(("a/0@1,b/0@3".into(), "a/0@3,b/0@5".into()))
        );
        assert_eq!(
            as_flags(&[range("a", 0, 1, 2), range("a", 0, 4, 5)]),
            None,
            "a comparison has one range a partition"
        );
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let text = shown(Vec::new(), vec![span("dead", 0, 0), span("out", 0, 5), span("out", 1, 7)], 1_234);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "no record that revision 17 of iris processed is found");
        assert!(lines[1].starts_with("out was read from 0@5, 1@7 on: "), "{text}");
        assert_eq!(lines[2], "1,234 outputs carry no revision, and are not counted");
        assert_eq!(lines.len(), 3);
    }
}
