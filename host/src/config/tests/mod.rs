//! Pipeline files with and without mistakes. `IRIS` is a whole pipeline; a test changes one thing in it.

mod conflicts;
mod daemon;
mod delivery;
mod kafka;
mod rollout;
mod sections;
mod stages;
mod syntax;
mod topics;
mod whole;

use std::path::Path;

use crate::config::plan::Plan;

use super::{Mistake, parse};

const STOCK: [&str; 5] = ["csv", "json", "logistic", "loss", "filter"];

const IRIS: &str = r#"name = "iris"
[kafka]
bootstrap.servers = "127.0.0.1:9092"
[input]
topics = ["iris.measurements"]
id = "key"
[parse]
plugin = "csv"
[classify]
plugin = "logistic"
[output]
topic = "iris.predictions"
[feedback]
labels = "iris.labels"
"#;

const MASK: &str = r#"name = "mask"
[kafka]
bootstrap.servers = "127.0.0.1:9092"
[input]
topics = ["people"]
[[transform]]
plugin = "filter"
[output]
topic = "people.masked"
"#;

fn read(text: &str) -> Result<Plan, Vec<Mistake>> {
    read_at(Path::new("pipelines/iris.toml"), text)
}

fn read_at(path: &Path, text: &str) -> Result<Plan, Vec<Mistake>> {
    let env = |name: &str| match name {
        "PASSWORD" => Some("hunter2".to_owned()),
        "WORKERS" => Some("4".to_owned()),
        _ => None,
    };
    parse(path, text, &STOCK, &env)
}

#[track_caller]
fn valid(text: &str) -> Plan {
    match read(text) {
        Ok(plan) => plan,
        Err(mistakes) => panic!("{}\n{text}", lines(&mistakes).join("\n")),
    }
}

/// The mistakes as shown, without the file's name.
#[track_caller]
fn mistakes_in(text: &str) -> Vec<String> {
    match read(text) {
        Ok(_) => panic!("no mistake in\n{text}"),
        Err(mistakes) => lines(&mistakes),
    }
}

/// The text's only mistake, which must begin with `place` and contain each part.
#[track_caller]
fn only_mistake(text: &str, place: &str, parts: &[&str]) {
    let found = mistakes_in(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    for found in found {
        assert!(found.starts_with(place), "{found}");
        for part in parts {
            assert!(found.contains(part), "{found}\nlacks {part}");
        }
    }
}

fn lines(mistakes: &[Mistake]) -> Vec<String> {
    let shown = mistakes.iter().map(|mistake| mistake.to_string());
    shown.map(|line| line.trim_start_matches("pipelines/iris.toml:").to_owned()).collect()
}

/// `IRIS` with one more line, after that section's header.
fn iris_with_line(section: &str, line: &str) -> String {
    with_line(IRIS, section, line)
}

fn with_line(text: &str, section: &str, line: &str) -> String {
    assert!(text.contains(section), "{section}");
    text.replace(section, &format!("{section}\n{line}"))
}
