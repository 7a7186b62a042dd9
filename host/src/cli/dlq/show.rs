//! One letter: for people, as JSON, or as a test of the plugin that did not take it.

use super::super::history::time;
use super::super::plain::one_line;
use super::super::tap::{bytes, shown};
use super::super::{Global, Outcome, Output, print, print_json};
use super::{announce, place, reading};
use crate::config::plan::Plan;
use crate::replay::{Found, Letter, Range, scan};
use sandpiper_sandbox::Compiler;

pub(super) fn show(global: &Global, plan: &Plan, wanted: Range, as_test: Option<Compiler>) -> Outcome {
    let (mut found, mut replayed) = (None, false);
    let wanted = (wanted.partition, wanted.from);
    scan(plan, announce, reading(), |at, record| {
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
    if let Some(compiler) = as_test {
        print(&super::as_test::test(global, plan, &letter, compiler)?)?;
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
        one_line(&facts.topic),
        facts.partition,
        facts.offset,
        time(facts.time),
        if replayed { ", replayed" } else { "" },
    );
    let release = one_line(facts.release.as_deref().unwrap_or("the host"));
    let revision = facts.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
    text.push_str(&format!(
        "pipeline {}{revision}, attempt {}, by {}\n\n{} {release} says {}:\n",
        one_line(&facts.pipeline),
        facts.attempts,
        one_line(&facts.instance),
        one_line(&facts.stage),
        one_line(&facts.reason),
    ));
    text.push_str(&indented(&facts.message));
    if !facts.log.is_empty() {
        text.push_str("\nits last log lines:\n");
        text.push_str(&indented(&facts.log));
    }
    match facts.key_left_out {
        Some(size) => text.push_str(&format!("\nkey    left out for the same reason as the value: {size} bytes\n")),
        None => text.push_str(&format!("\nkey    {}\n", shown(letter.key.as_deref()))),
    }
    if facts.headers_left_out {
        text.push_str("headers left out: there were too many, or the letter would have been too large\n");
    }
    match facts.left_out {
        Some(size) => {
            text.push_str(&format!("value  left out, since the letter would have been too large: {size} bytes\n"))
        }
        None => text.push_str(&format!("value  {}\n", shown(letter.value.as_deref()))),
    }
    for (name, value) in &letter.headers {
        text.push_str(&format!("header {}: {}\n", one_line(name), shown(value.as_deref())));
    }
    text
}

/// Several lines stay several lines; nothing of them reaches the terminal as a command.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}\n", shown(Some(line.as_bytes())))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::facts;
    use super::*;
    use crate::replay::Facts;

    fn letter(value: &[u8]) -> Letter {
        Letter { at: (3, 9), key: None, value: Some(value.to_vec()), headers: Vec::new(), facts: facts("bad", 0) }
    }

    /// Anybody who may write into the dead-letter topic chooses what stands in a letter's headers.
    #[test]
    fn what_a_letter_says_of_itself_forges_no_line() {
        let forged = || "x\nvalue  5.1".to_owned();
        let mut letter = letter(b"bad");
        let Facts { topic, pipeline, stage, instance, reason, .. } = &mut letter.facts;
        for fact in [topic, pipeline, stage, instance, reason] {
            *fact = forged();
        }
        letter.facts.release = Some(forged());
        letter.headers = vec![(forged(), None)];
        let text = shown_whole(&letter, false);
        assert_eq!(text.matches("\nvalue  ").count(), 1, "{text}");
    }

    #[test]
    fn a_letter_shows_its_bytes_and_cannot_colour_the_terminal() {
        let text = shown_whole(&letter(b"5.1,\xff\x07"), false);
        assert!(
            text.contains("value  5.1,\u{fffd}\\u{7}\n") && text.contains("  column `x`\n  \\u{1b}[31m\n"),
            "{text}"
        );
    }
}
