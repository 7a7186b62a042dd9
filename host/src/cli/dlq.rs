//! `dlq`: dead letters looked through, shown, and sent through their pipeline once more.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::Client;
use super::history::time;
use super::table::{Table, grouped};
use super::tap::{bytes, shown};
use super::{Failure, Global, Outcome, Output, print, print_json};
use crate::clock::{Clock as _, SystemClock};
use crate::dlq::replay::{Progress, Request};
use crate::dlq::{Facts, Found, Letter, Range, Selection, scan};
use crate::plan::Plan;

/// Between two looks at a replay that runs.
const LOOK: Duration = Duration::from_millis(200);

/// Dead letters: what is there, one of them, or all of them once more.
#[derive(Args)]
pub struct Dlq {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Subcommand)]
enum DlqVerb {
    /// Count dead letters by stage, reason and release.
    #[command(after_help = "Examples:\n  sandpiper dlq ls data/iris.toml\n  \
        sandpiper dlq ls data/iris.toml --reason not-a-number --since 1h --each")]
    Ls {
        /// A pipeline file.
        file: PathBuf,
        #[command(flatten)]
        filter: Filter,
        /// Each letter instead of their counts.
        #[arg(long)]
        each: bool,
    },
    /// Show one dead letter: the record as it was, and why it was not taken.
    #[command(after_help = "Examples:\n  sandpiper dlq show data/iris.toml 3@1842\n  \
        sandpiper dlq show data/iris.toml 3@1842 --as-test >> src/tests.rs")]
    Show {
        /// A pipeline file.
        file: PathBuf,
        /// Its place in the dead-letter topic: PARTITION@OFFSET.
        #[arg(value_name = "P@OFFSET")]
        place: Range,
        /// Print a Rust test of the plugin that did not take it.
        #[arg(long)]
        as_test: bool,
    },
    /// Send dead letters through what the pipeline runs now, each once.
    #[command(after_help = "Examples:\n  sandpiper dlq replay iris --reason not-a-number --dry-run\n  \
        sandpiper dlq replay iris --release csv --rate 100\n\n\
        Runs in the daemon, also when this command is interrupted. Letters keep their record's id and origin; what fails again is \
        a new dead letter with one more attempt. Nothing is written into the pipeline's input.")]
    Replay {
        pipeline: String,
        #[command(flatten)]
        filter: Filter,
        /// Only say what would become of them.
        #[arg(long)]
        dry_run: bool,
        /// Letters a second, at most.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Leave letters alone that were tried as often.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        max_attempts: u32,
    },
}

#[derive(Args)]
struct Filter {
    /// `input`, `parse`, `classify`, `transform[0]`, `output` or `feedback`.
    #[arg(long)]
    stage: Option<String>,
    /// A reason's code.
    #[arg(long)]
    reason: Option<String>,
    /// A release, or a plugin's name for all its releases.
    #[arg(long)]
    release: Option<String>,
    /// Places in the dead-letter topic: PARTITION@OFFSET or PARTITION@FROM..TO.
    #[arg(long, value_name = "P@OFFSET")]
    at: Option<Range>,
    /// Written within this time, such as 1h or 30m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

impl Filter {
    fn selection(self) -> Selection {
        let since = self.since.map(|since| SystemClock.unix_ms().saturating_sub(since.as_millis() as i64));
        Selection { stage: self.stage, reason: self.reason, release: self.release, at: self.at, since }
    }
}

impl Dlq {
    pub fn run(self, global: &Global) -> Outcome {
        match self.verb {
            DlqVerb::Ls { file, filter, each } => ls(global, &plan(file)?, &filter.selection(), each),
            DlqVerb::Show { file, place, as_test } => show(global, &plan(file)?, place, as_test),
            DlqVerb::Replay { pipeline, filter, dry_run, rate, max_attempts } => {
                replay(global, &pipeline, &Request { selection: filter.selection(), dry_run, rate, max_attempts })
            }
        }
    }
}

fn plan(file: PathBuf) -> Result<Plan, Failure> {
    let plans = super::run::load(&[file])?;
    Ok(plans.into_iter().next().context("the file holds no pipeline")?)
}

/// Letters of one stage, reason and release.
#[derive(Serialize)]
struct Group {
    stage: String,
    reason: String,
    release: Option<String>,
    letters: u64,
    /// Of them.
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

fn place((partition, offset): (i32, i64)) -> String {
    format!("{partition}@{offset}")
}

fn ls(global: &Global, plan: &Plan, selection: &Selection, each: bool) -> Outcome {
    let (mut letters, mut replayed, mut foreign) = (Vec::new(), HashSet::new(), Vec::new());
    scan(plan, |at, found| match found {
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

fn show(global: &Global, plan: &Plan, wanted: Range, as_test: bool) -> Outcome {
    let (mut found, mut replayed) = (None, false);
    let wanted = (wanted.partition, wanted.from);
    scan(plan, |at, record| {
        replayed |= record == Found::Replayed(wanted);
        if at == wanted {
            found = Some(record);
        }
    })?;
    let topic = &plan.errors.dead_letters;
    let letter = match found {
        Some(Found::Letter(letter)) => letter,
        Some(Found::Replayed(of)) => {
            return Err(
                anyhow::anyhow!("{} of {topic} is the note that {} was replayed", place(wanted), place(of)).into()
            );
        }
        Some(Found::Foreign(why)) => {
            return Err(anyhow::anyhow!("{} of {topic} is no dead letter of ours: {why}", place(wanted)).into());
        }
        None => return Err(anyhow::anyhow!("{topic} has no committed record at {}", place(wanted)).into()),
    };
    if as_test {
        print(&test(plan, &letter)?)?;
    } else if global.output == Output::Json {
        let headers: Vec<_> = (letter.headers.iter())
            .map(|(name, value)| serde_json::json!({ "name": name, "value": bytes(value.as_deref()) }))
            .collect();
        print_json(&serde_json::json!({
            "at": place(letter.at),
            "replayed": replayed,
            "key": bytes(letter.key.as_deref()),
            "value": bytes(letter.value.as_deref()),
            "headers": headers,
            "letter": letter.facts,
        }))?;
    } else {
        print(&shown_whole(&letter, replayed))?;
    }
    Ok(())
}

/// For people: every byte of the record, and everything that was said about it.
fn shown_whole(letter: &Letter, replayed: bool) -> String {
    let facts = &letter.facts;
    let mut text = format!(
        "{}: {} of {}/{}@{}, written {}{}\n",
        place(letter.at),
        facts.id.as_deref().map_or_else(|| "a record".to_owned(), |id| format!("record {id:?}")),
        facts.topic,
        facts.partition,
        facts.offset,
        time(facts.time),
        if replayed { ", replayed" } else { "" },
    );
    let release = facts.release.as_deref().unwrap_or("the host");
    text.push_str(&format!(
        "pipeline {}, revision {}, attempt {}, by {}\n\n{} {release} says {}:\n",
        facts.pipeline, facts.revision, facts.attempts, facts.instance, facts.stage, facts.reason
    ));
    text.push_str(&indented(&facts.message));
    if !facts.log.is_empty() {
        text.push_str("\nits last log lines:\n");
        text.push_str(&indented(&facts.log));
    }
    text.push_str(&format!("\nkey    {}\n", shown(letter.key.as_deref())));
    match facts.left_out {
        Some(size) => {
            text.push_str(&format!("value  left out, since the letter would have been too large: {size} bytes\n"))
        }
        None => text.push_str(&format!("value  {}\n", shown(letter.value.as_deref()))),
    }
    for (name, value) in &letter.headers {
        text.push_str(&format!("header {name}: {}\n", shown(value.as_deref())));
    }
    text
}

/// Several lines stay several lines; nothing of them reaches the terminal as a command.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", shown(Some(line.as_bytes())))).collect()
}

/// A test for the plugin's own crate: the record's bytes, the stage's configuration, and what was said.
fn test(plan: &Plan, letter: &Letter) -> Result<String> {
    let facts = &letter.facts;
    if facts.left_out.is_some() {
        bail!("letter {} was written without its value: there is nothing to test with", place(letter.at));
    }
    let at = facts.stage.strip_prefix("transform[").and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
    let (open, call, stage) = match (facts.stage.as_str(), at) {
        ("parse", _) => ("OpenParser", "parse", plan.parse.as_ref()),
        (_, Some(at)) => ("OpenTransform", "transform", plan.transforms.get(at).map(|transform| &transform.stage)),
        _ => bail!(
            "letter {} is of stage {}: only what a parser or a transform did not take can be a test",
            place(letter.at),
            facts.stage
        ),
    };
    let Some(stage) = stage else {
        bail!("letter {} is of stage {}, which {} does not have", place(letter.at), facts.stage, plan.file.display());
    };
    let name: String = facts.reason.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // What the plugin failed on it should take, or reject: say which.
    let expected = match facts.reason.starts_with("plugin-") {
        true => "None".to_owned(),
        false => format!("Some({:?})", facts.reason),
    };
    Ok(format!(
        "/// {topic}/{partition}@{offset}: {release} said {reason}: {message}\n\
         #[test]\n\
         fn {name}_at_{partition}_{offset}() {{\n    \
             // `Plugin` is the type that the crate exports.\n    \
             let mut plugin = sandpiper_sdk::{open}::<Plugin>::open(r##\"{config}\"##).unwrap();\n    \
             let value = b\"{value}\";\n    \
             let answer = plugin.{call}(value, &[0, value.len() as u32]).unwrap();\n    \
             assert_eq!(answer.rejected.first().map(|rejection| rejection.code.as_str()), {expected});\n\
         }}\n",
        topic = facts.topic,
        partition = facts.partition,
        offset = facts.offset,
        release = facts.release.as_deref().unwrap_or("the plugin"),
        reason = facts.reason,
        message = shown(facts.message.lines().next().map(str::as_bytes)),
        config = stage.config,
        value = letter.value.as_deref().unwrap_or_default().escape_ascii(),
    ))
}

fn replay(global: &Global, pipeline: &str, request: &Request) -> Outcome {
    let client = Client::new(global);
    let path = format!("/v1/pipelines/{pipeline}/replay");
    let mut progress: Progress = client.post(&path, request)?;
    let interrupted = super::interrupted()?;
    while progress.running && !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        progress = client.get(&path)?;
    }
    if global.output == Output::Json {
        print_json(&progress)?;
    } else {
        print(&summary(&progress, request.dry_run))?;
    }
    match progress.error {
        Some(error) => Err(anyhow::anyhow!("the replay ended early: {error}").into()),
        None => Ok(()),
    }
}

fn summary(progress: &Progress, dry_run: bool) -> String {
    let dead: u64 = progress.dead_letters.values().sum();
    let (done, would) = (grouped(progress.done()), if dry_run { "would be " } else { "" });
    let mut text = format!(
        "{done} of {} letters {would}replayed: {} {would}emitted, {} {would}dropped, {} dead letters again\n",
        grouped(progress.selected),
        grouped(progress.emitted),
        grouped(progress.dropped),
        grouped(dead),
    );
    for (reason, count) in &progress.dead_letters {
        text.push_str(&format!("  {} {reason}\n", grouped(*count)));
    }
    for (count, what) in [
        (progress.replayed_before, "were replayed before"),
        (progress.tried_too_often, "were tried too often; --max-attempts says how often that is"),
        (progress.without_value, "were written without their value"),
        (progress.foreign, "records of the topic are no dead letters of ours; `sandpiper dlq ls` names one"),
    ] {
        if count > 0 {
            text.push_str(&format!("{} {what}\n", grouped(count)));
        }
    }
    if progress.running {
        text.push_str("it goes on in the daemon\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(reason: &str, time: i64) -> Facts {
        Facts {
            topic: "in".into(),
            offset: 7,
            stage: "parse".into(),
            release: Some("csv@0c1d".into()),
            reason: reason.into(),
            message: "column `x`\n\x1b[31m".into(),
            time,
            ..Facts::default()
        }
    }

    fn letter(value: &[u8]) -> Letter {
        Letter { at: (3, 9), key: None, value: Some(value.to_vec()), headers: Vec::new(), facts: facts("bad", 0) }
    }

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

    #[test]
    fn a_letter_shows_its_bytes_and_cannot_colour_the_terminal() {
        let text = shown_whole(&letter(b"5.1,\xff\x07"), false);
        assert!(
            text.contains("value  5.1,\u{fffd}\\u{7}\n") && text.contains("  column `x`\n  \\u{1b}[31m\n"),
            "{text}"
        );
    }

    #[test]
    fn a_test_holds_bytes_and_configuration_and_a_letter_of_the_host_is_none() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.toml");
        let plan = crate::config::load(&file, &crate::stock::names()).unwrap();
        let text = test(&plan, &letter(b"5.1,\xff\"")).unwrap();
        for part in [r#"let value = b"5.1,\xff\"";"#, "fn bad_at_0_7()", "sepal_length", "Some(\"bad\")"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let mut other = letter(b"x");
        other.facts.reason = "plugin-trap".into();
        assert!(test(&plan, &other).unwrap().contains("as_str()), None)"));
        other.facts.stage = "output".into();
        assert!(test(&plan, &other).unwrap_err().to_string().contains("stage output"));
    }

    #[test]
    fn a_summary_says_what_was_left_alone() {
        let progress = Progress {
            selected: 3,
            emitted: 2,
            replayed_before: 4,
            dead_letters: [("bad".into(), 1)].into(),
            ..Progress::default()
        };
        let text = summary(&progress, false);
        assert!(
            text.starts_with("3 of 3 letters replayed: 2 emitted, 0 dropped, 1 dead letters again\n  1 bad\n"),
            "{text}"
        );
        assert!(text.contains("4 were replayed before"), "{text}");
    }
}
