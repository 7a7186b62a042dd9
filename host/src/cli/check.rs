//! `check`: everything that can be wrong with pipeline files, told before anything runs.
//!
//! Three rounds: what the files say; what their plugins and models say, each release opened as a daemon would; and
//! with `--connect` what the cluster says. A round is reached by the files that passed the one before.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::{Failure, Global, Outcome, Output};
use crate::config::plan::{self, Plan};
use crate::config::{self, Mistake};
use crate::control::StateDirectory;
use crate::control::deployment::Release;
use crate::control::staging::{self, Stager};
use crate::kafka::topics;
use crate::record::Revision;
use sandpiper_sandbox::Engine;
use sandpiper_sandbox::stage::{WasmClassifier, WasmParser, WasmScorer, WasmTransform};
use sandpiper_sandbox::stock;

/// Name every mistake in pipeline files, in their plugins and models, and with --connect in the cluster.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sandpiper check data/iris.toml\n  sandpiper check pipelines/*.toml --connect -o json\n\n\
    The exit code is 2 for a mistake in a file, a plugin or a model, and 1 for what the cluster lacks."
)]
pub struct Check {
    /// Pipeline files, as one daemon would run them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ask the brokers too: whether they answer, which topics are missing, whether partition counts fit.
    #[arg(long)]
    connect: bool,
}

#[derive(Default, Serialize)]
struct Findings {
    mistakes: Vec<Mistake>,
    /// Absent when the cluster was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Problem>>,
}

/// What a cluster lacks for a pipeline.
#[derive(Serialize)]
struct Problem {
    file: String,
    pipeline: String,
    message: String,
}

impl Check {
    pub fn run(self, global: &Global) -> Outcome {
        let (plans, mistakes) = read(&self.files)?;
        let mut findings = Findings { mistakes, problems: None };
        if findings.mistakes.is_empty() && self.connect {
            findings.problems = Some(plans.iter().flat_map(problems).collect());
        }
        self.print(global, &findings)?;
        match findings {
            Findings { mistakes, .. } if !mistakes.is_empty() => Err(Failure::Said(2)),
            Findings { problems: Some(problems), .. } if !problems.is_empty() => Err(Failure::Said(1)),
            _ => Ok(()),
        }
    }

    /// Data on stdout; in text, what is wrong on stderr as `run` says it.
    fn print(&self, global: &Global, findings: &Findings) -> Result<()> {
        if global.output == Output::Json {
            return super::print_json(findings).map(drop);
        }
        for mistake in &findings.mistakes {
            eprintln!("{mistake}");
        }
        let problems = findings.problems.as_deref().unwrap_or_default();
        for problem in problems {
            eprintln!("{}: {}", problem.file, problem.message);
        }
        for file in &self.files {
            let shown = file.display().to_string();
            if findings.mistakes.iter().all(|mistake| mistake.file != *file)
                && problems.iter().all(|problem| problem.file != shown)
            {
                super::print(&format!("{shown}: ok\n"))?;
            }
        }
        Ok(())
    }
}

/// The files that can be read, and the mistakes of all.
fn read(files: &[PathBuf]) -> Result<(Vec<Plan>, Vec<Mistake>)> {
    let stock = stock::names();
    let (mut plans, mut mistakes) = (Vec::new(), Vec::new());
    for file in files {
        match config::load(file, &stock) {
            Ok(plan) => plans.push(plan),
            Err(found) => mistakes.extend(found),
        }
    }
    mistakes.extend(config::check_together(&plans));
    let directory = tempfile::tempdir().context("a temporary directory is needed")?;
    let state = Arc::new(StateDirectory::open(directory.path(), None)?);
    let stager = Stager::new(Engine::new(None)?, state);
    for plan in &plans {
        mistakes.extend(staged(&stager, plan));
    }
    Ok((plans, mistakes))
}

/// What the plugins and models of a pipeline have against it.
fn staged(stager: &Stager, plan: &Plan) -> Vec<Mistake> {
    let text = std::fs::read_to_string(&plan.file).unwrap_or_default();
    let mut mistakes = Vec::new();
    let mut note = |key: String, path: &[Step<'_>], error: &anyhow::Error| {
        let (line, column) = position(&text, path);
        mistakes.push(Mistake { file: plan.file.clone(), line, column, key, message: format!("{error:#}") });
    };
    let limits = staging::limits(plan);
    let topics = staging::sink_topics(plan);
    for (at, transform) in plan.transforms.iter().enumerate() {
        let opened = opened(stager, &transform.stage, |release| {
            let (_, outputs) = WasmTransform::open(stager.plugin(release)?, limits, stager.opening(release)?)?;
            staging::routes(&transform.outputs, &outputs, &topics).map(drop)
        });
        if let Err(error) = opened {
            note(
                format!("[[transform]] {}", at + 1),
                &[Step::Key("transform"), Step::At(at), Step::Key("plugin")],
                &error,
            );
        }
    }
    let parse = plan.parse.as_ref().map(|stage| {
        opened(stager, stage, |release| {
            Ok((release.name.clone(), WasmParser::open(stager.plugin(release)?, limits, stager.opening(release)?)?.1))
        })
    });
    let classify = plan.classify.as_ref().map(|stage| {
        opened(stager, stage, |release| {
            Ok((
                release.name.clone(),
                WasmClassifier::open(stager.plugin(release)?, limits, stager.opening(release)?)?.1,
            ))
        })
    });
    let (in_parse, in_classify) =
        ([Step::Key("parse"), Step::Key("plugin")], [Step::Key("classify"), Step::Key("plugin")]);
    match (parse, classify) {
        (Some(Ok((parser, columns))), Some(Ok((classifier, signature)))) => {
            if let Err(error) = staging::gather(&parser, &columns, &classifier, &signature) {
                note("[classify]".into(), &in_classify, &error);
            }
        }
        (parse, classify) => {
            if let Some(Err(error)) = parse {
                note("[parse]".into(), &in_parse, &error);
            }
            if let Some(Err(error)) = classify {
                note("[classify]".into(), &in_classify, &error);
            }
        }
    }
    if let Some(feedback) = &plan.feedback
        && let Err(error) = opened(stager, &feedback.score, |release| {
            WasmScorer::open(stager.plugin(release)?, limits, stager.opening(release)?)
        })
    {
        note("[feedback] score".into(), &[Step::Key("feedback"), Step::Key("score")], &error);
    }
    // Whole, as a daemon opens it: whatever it asks beyond the stages one by one is asked here too.
    if mistakes.is_empty()
        && let Err(error) = stager.releases(plan).and_then(|releases| stager.open(plan, &releases, Revision::FIRST))
    {
        mistakes.push(Mistake {
            file: plan.file.clone(),
            line: 1,
            column: 1,
            key: String::new(),
            message: format!("{error:#}"),
        });
    }
    mistakes
}

fn opened<T>(stager: &Stager, stage: &plan::Stage, open: impl FnOnce(&Release) -> Result<T>) -> Result<T> {
    open(&stager.release(stage)?)
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    At(usize),
}

/// Line and column, from 1, of the deepest part of that path that the file has: a plan no longer knows them.
fn position(text: &str, path: &[Step<'_>]) -> (usize, usize) {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut at = 0;
    let mut found: Option<&DeValue<'_>> = None;
    for step in path {
        let next = match (found, step) {
            (None, Step::Key(key)) => table.get_ref().get(*key),
            (Some(DeValue::Table(table)), Step::Key(key)) => table.get(*key),
            (Some(DeValue::Array(items)), Step::At(number)) => items.get(*number),
            _ => None,
        };
        let Some(next) = next else { break };
        at = next.span().start;
        found = Some(next.get_ref());
    }
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

fn problems(plan: &Plan) -> Vec<Problem> {
    let brokers = plan.kafka.0.get("bootstrap.servers").map_or("", String::as_str);
    let messages =
        topics::problems(plan).unwrap_or_else(|fault| vec![format!("{fault} (bootstrap.servers = {brokers:?})")]);
    let problem = |message| Problem { file: plan.file.display().to_string(), pipeline: plan.name.clone(), message };
    messages.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The repository's own pipeline with something in it replaced, in a directory of its own.
    fn mistakes(from: &str, to: &str) -> Vec<String> {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        let text = std::fs::read_to_string(data.join("iris.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("iris.toml");
        let models = format!("\"{}/", data.join("models").display());
        std::fs::write(&file, text.replace(from, to).replace("\"models/", &models)).unwrap();
        let (_, mistakes) = read(std::slice::from_ref(&file)).unwrap();
        let prefix = format!("{}/", directory.path().display());
        mistakes.iter().map(|mistake| mistake.to_string().replace(&prefix, "")).collect()
    }

    #[test]
    fn the_example_is_right() {
        assert_eq!(mistakes("", ""), Vec::<String>::new());
    }

    #[test]
    fn a_column_that_the_model_needs_and_the_parser_lacks_is_named_at_the_classifier() {
        let found = mistakes("\"sepal_width\", ", "");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("iris.toml:17:10: [classify]: classifier logistic needs column \"sepal_width\""),
            "{found:?}"
        );
    }

    #[test]
    fn a_plugin_in_the_wrong_stage_is_named_there_with_every_other_mistake() {
        let found = mistakes("plugin = \"csv\"", "plugin = \"logistic\"");
        assert!(
            found[0].starts_with("iris.toml:13:10: [parse]: ") && found[0].contains("cannot be a parser"),
            "{found:?}"
        );
    }

    #[test]
    fn a_configuration_that_a_plugin_refuses_is_a_mistake_of_its_stage() {
        let found = mistakes("metric = \"error\"", "metrik = \"error\"");
        assert!(
            found[0].starts_with("iris.toml:26:10: [feedback] score: ") && found[0].contains("metrik"),
            "{found:?}"
        );
    }

    #[test]
    fn a_mistake_in_the_file_comes_without_opening_anything() {
        let found = mistakes("start  = ", "strat  = ");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("[input] strat"), "{found:?}");
    }

    #[test]
    fn the_position_is_that_of_the_deepest_part_that_is_there() {
        let text = "name = \"a\"\n[[transform]]\nplugin = \"x\"\n[[transform]]\nplugin = \"y\"\n[parse]\n";
        let transform = |at| [Step::Key("transform"), Step::At(at), Step::Key("plugin")];
        assert_eq!(position(text, &transform(0)), (3, 10));
        assert_eq!(position(text, &transform(1)), (5, 10));
        assert_eq!(position(text, &[Step::Key("parse"), Step::Key("plugin")]), (6, 1));
        assert_eq!(position(text, &[Step::Key("classify")]), (1, 1));
    }
}
