//! One letter: for people, as JSON, or as a test of the plugin that did not take it.

use anyhow::{Result, bail};

use super::super::history::time;
use super::super::tap::{bytes, shown};
use super::super::{Global, Outcome, Output, print, print_json};
use super::{announce, place, reading};
use crate::config::plan::Plan;
use crate::replay::{Found, Letter, Range, scan};

pub(super) fn show(global: &Global, plan: &Plan, wanted: Range, as_test: bool) -> Outcome {
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
    let revision = facts.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
    text.push_str(&format!(
        "pipeline {}{revision}, attempt {}, by {}\n\n{} {release} says {}:\n",
        facts.pipeline, facts.attempts, facts.instance, facts.stage, facts.reason
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
    if !facts.is_whole() {
        bail!("letter {} was written without all of its record: there is nothing to test with", place(letter.at));
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
    // A plugin that failed should take the record, or reject it with a code that its author chooses.
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

#[cfg(test)]
mod tests {
    use super::super::fixture::facts;
    use super::*;

    fn letter(value: &[u8]) -> Letter {
        Letter { at: (3, 9), key: None, value: Some(value.to_vec()), headers: Vec::new(), facts: facts("bad", 0) }
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
        let plan = crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap();
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
}
