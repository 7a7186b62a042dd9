//! What is there, counted by cause or each.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::super::history::time;
use super::super::table::{Table, grouped};
use super::super::tap::shown;
use super::super::{Global, Outcome, Output, print, print_json};
use super::{announce, place};
use crate::config::plan::Plan;
use crate::replay::{Facts, Found, Selection, scan};

/// Letters of one stage, reason and release.
#[derive(Serialize)]
struct Group {
    stage: String,
    reason: String,
    release: Option<String>,
    letters: u64,
    /// How many of them were replayed.
    replayed: u64,
    /// Milliseconds since the Unix epoch.
    first: i64,
    last: i64,
    /// The last one's place.
    at: String,
}

/// A letter without its content.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    replayed: bool,
    #[serde(flatten)]
    facts: &'a Facts,
}

pub(super) fn ls(global: &Global, plan: &Plan, selection: &Selection, each: bool) -> Outcome {
    let (mut letters, mut replayed, mut foreign) = (Vec::new(), HashSet::new(), Vec::new());
    scan(plan, announce, |at, found| match found {
        Found::Letter(letter) if selection.takes(&letter) => letters.push((letter.at, letter.facts)),
        Found::Letter(_) => {}
        Found::Replayed(at) => drop(replayed.insert(at)),
        Found::Foreign(why) => foreign.push((at, why)),
    })?;
    if let Some((at, why)) = foreign.first() {
        let count = grouped(foreign.len() as u64);
        eprintln!(
            "warning: {count} records of {} are no dead letters of ours, such as {}: {why}",
            plan.errors.dead_letters,
            place(*at)
        );
    }
    letters.sort_by_key(|(at, facts)| (facts.time, *at));
    if each {
        for (at, facts) in &letters {
            let line = Line { at: place(*at), replayed: replayed.contains(at), facts };
            let text = match global.output {
                Output::Json => serde_json::to_string(&line).map_err(anyhow::Error::from)?,
                Output::Text => format!(
                    "{} {} {} {}: {}{}",
                    line.at,
                    time(facts.time),
                    facts.stage,
                    facts.reason,
                    shown(Some(facts.message.as_bytes())),
                    if line.replayed { " (replayed)" } else { "" }
                ),
            };
            if !print(&(text + "\n"))? {
                break;
            }
        }
        return Ok(());
    }
    let groups = grouped_by_cause(&letters, &replayed);
    if global.output == Output::Json {
        print_json(&groups)?;
        return Ok(());
    }
    let mut table =
        Table::with_header(&["LETTERS", "REPLAYED", "STAGE", "REASON", "RELEASE", "FIRST", "LAST", "LAST AT"]);
    for group in groups {
        let release = group.release.unwrap_or_else(|| "-".into());
        table.row([
            grouped(group.letters),
            grouped(group.replayed),
            group.stage,
            group.reason,
            release,
            time(group.first),
            time(group.last),
            group.at,
        ]);
    }
    print(&table.render(""))?;
    Ok(())
}

/// The most frequent first. `letters` by time.
fn grouped_by_cause(letters: &[((i32, i64), Facts)], replayed: &HashSet<(i32, i64)>) -> Vec<Group> {
    let mut groups: BTreeMap<(&str, &str, Option<&str>), Group> = BTreeMap::new();
    for (at, facts) in letters {
        let group = groups.entry((&facts.stage, &facts.reason, facts.release.as_deref())).or_insert_with(|| Group {
            stage: facts.stage.clone(),
            reason: facts.reason.clone(),
            release: facts.release.clone(),
            letters: 0,
            replayed: 0,
            first: facts.time,
            last: facts.time,
            at: String::new(),
        });
        group.letters += 1;
        group.replayed += u64::from(replayed.contains(at));
        group.last = facts.time;
        group.at = place(*at);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
    groups
}

#[cfg(test)]
mod tests {
    use super::super::fixture::facts;
    use super::*;

    #[test]
    fn letters_are_counted_by_cause_the_most_frequent_first() {
        let letters = [((0, 1), facts("a", 5)), ((0, 2), facts("b", 6)), ((1, 1), facts("b", 7))];
        let groups = grouped_by_cause(&letters, &[(0, 2)].into());
        let facts =
            |group: &Group| (group.reason.clone(), group.letters, group.replayed, group.first, group.at.clone());
        assert_eq!(
            groups.iter().map(facts).collect::<Vec<_>>(),
            [("b".into(), 2, 1, 6, "1@1".into()), ("a".into(), 1, 0, 5, "0@1".to_owned())]
        );
    }
}
