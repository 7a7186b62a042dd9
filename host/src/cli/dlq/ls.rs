//! What is there, counted by cause or each.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::super::history::time;
use super::super::plain::one_line;
use super::super::table::{Table, grouped};
use super::super::tap::shown;
use super::super::{Global, Outcome, Output, print, print_json, say};
use super::{announce, place, reading};
use crate::config::plan::Plan;
use crate::replay::{Facts, Found, Place, Places, Selection, scan};

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

/// The topic is read twice, since the note that a letter was replayed stands behind it: it may hold more than there is memory.
pub(super) fn ls(global: &Global, plan: &Plan, selection: &Selection, each: bool) -> Outcome {
    let (mut replayed, mut foreign) = (Places::default(), None);
    scan(plan, announce, reading(), |at, found| match found {
        Found::Letter(_) => {}
        Found::Replayed(at) => replayed.insert(at),
        Found::Foreign(why) => foreign.get_or_insert((0, at, why)).0 += 1,
    })?;
    if let Some((count, at, why)) = foreign {
        let (count, topic) = (grouped(count), &plan.errors.dead_letters);
        let why = one_line(&why);
        say(&format!("warning: {count} records of {topic} are no dead letters of ours, such as {}: {why}", place(at)));
    }
    let (mut groups, mut failure, mut wanted) = (Groups::default(), Ok(()), true);
    scan(plan, announce, reading(), |_, found| {
        let Found::Letter(letter) = found else { return };
        if !wanted || !selection.takes(&letter) {
            return;
        }
        let is_replayed = replayed.contains(&letter.at);
        if !each {
            groups.add(letter.at, &letter.facts, is_replayed);
            return;
        }
        match print_line(global, letter.at, &letter.facts, is_replayed) {
            Ok(more) => wanted = more,
            Err(error) => (failure, wanted) = (Err(error), false),
        }
    })?;
    failure?;
    if !each {
        print_groups(global, groups.most_frequent_first())?;
    }
    Ok(())
}

/// Whether more is wanted.
fn print_line(global: &Global, at: Place, facts: &Facts, replayed: bool) -> Result<bool> {
    let line = Line { at: place(at), replayed, facts };
    let text = match global.output {
        Output::Json => serde_json::to_string(&line)?,
        Output::Text => format!(
            "{} {} {} {}: {}{}",
            line.at,
            time(facts.time),
            one_line(&facts.stage),
            one_line(&facts.reason),
            shown(Some(facts.message.as_bytes())),
            if line.replayed { " (replayed)" } else { "" }
        ),
    };
    print(&(text + "\n"))
}

fn print_groups(global: &Global, groups: Vec<Group>) -> Result<()> {
    if global.output == Output::Json {
        return print_json(&groups).map(drop);
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
    print(&table.render("")).map(drop)
}

/// Counts by cause. A plugin may reject each row with a code of its own: what is beyond `GROUPS` of them is counted together.
#[derive(Default)]
struct Groups(BTreeMap<(String, String, Option<String>), Group>);

const GROUPS: usize = 1_000;

impl Groups {
    fn add(&mut self, at: Place, facts: &Facts, replayed: bool) {
        let mut cause = (facts.stage.clone(), facts.reason.clone(), facts.release.clone());
        if self.0.len() >= GROUPS && !self.0.contains_key(&cause) {
            cause = ("other".into(), "other".into(), None);
        }
        let (stage, reason, release) = cause.clone();
        let (first, last) = (facts.time, facts.time);
        let group = self.0.entry(cause).or_insert_with(|| Group {
            stage,
            reason,
            release,
            letters: 0,
            replayed: 0,
            first,
            last,
            at: String::new(),
        });
        group.letters += 1;
        group.replayed += u64::from(replayed);
        group.first = group.first.min(first);
        if last >= group.last {
            (group.last, group.at) = (last, place(at));
        }
    }

    fn most_frequent_first(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.0.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::facts;
    use super::*;

    #[test]
    fn letters_are_counted_by_cause_the_most_frequent_first() {
        let mut groups = Groups::default();
        for (at, reason, time, replayed) in [((0, 2), "b", 6, true), ((1, 1), "b", 7, false), ((0, 1), "a", 5, false)] {
            groups.add(at, &facts(reason, time), replayed);
        }
        let groups = groups.most_frequent_first();
        let facts =
            |group: &Group| (group.reason.clone(), group.letters, group.replayed, group.first, group.at.clone());
        assert_eq!(
            groups.iter().map(facts).collect::<Vec<_>>(),
            [("b".into(), 2, 1, 6, "1@1".into()), ("a".into(), 1, 0, 5, "0@1".to_owned())]
        );
    }

    #[test]
    fn a_code_a_letter_is_a_bounded_number_of_groups() {
        let mut groups = Groups::default();
        (0..3_000).for_each(|at| groups.add((0, at), &facts(&format!("code-{at}"), at), false));
        let groups = groups.most_frequent_first();
        assert_eq!((groups.len(), groups[0].reason.as_str(), groups[0].letters), (GROUPS + 1, "other", 2_000));
    }
}
