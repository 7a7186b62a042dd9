//! `check`: everything that can be wrong with pipeline files and a daemon's own, reported before anything runs. Nothing is changed or deployed.
//!
//! Three rounds: the files themselves; their plugins and models, each release opened as a daemon would; and with
//! `--connect` the cluster. A file reaches a round only when it passed the one before.

mod daemon_file;
mod difference;
mod meeting;
mod position;
mod releases;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use super::compile_component::Compilation;
use super::{Failure, Global, Outcome, Output};
use crate::cli::pipelines::Files;
use crate::config::plan::Plan;
use crate::config::{Mistake, memory};
use crate::control::StateDirectory;
use crate::control::remembered::Remembered;
use crate::control::staging::Stager;
use crate::kafka::properties::{self, Assignor};
use crate::kafka::{members, topics};
use difference::Difference;
use sandpiper_sandbox::{Compiler, Engine};

/// Name every mistake in pipeline files, in their plugins and models, and with --connect in the cluster.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sandpiper check data/iris.toml\n  sandpiper check pipelines/*.toml --connect -o json\n  \
    sandpiper check --daemon /etc/sandpiper/daemon.toml\n\n\
    The exit code is 2 for a mistake in a file, a plugin or a model, and 1 for what the cluster lacks."
)]
pub struct Check {
    /// Pipeline files, as one daemon would run them.
    #[arg(required_unless_present = "daemon", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A daemon's own file, and the pipelines that it names.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Ask the brokers too: whether they answer, which topics are missing, whether partition counts fit, and whether the last
    /// labels stand on the partitions of their predictions.
    #[arg(long)]
    connect: bool,
    #[command(flatten)]
    compilation: Compilation,
}

#[derive(Default, Serialize)]
struct Findings {
    mistakes: Vec<Mistake>,
    /// What each pipeline may take, where its file has no mistake.
    memory: Vec<Memory>,
    /// Where a file asks for something else than runs, by what the state directory has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
    /// Absent when the cluster was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Problem>>,
}

/// The memory that a daemon may take that runs this pipeline alone.
#[derive(Serialize)]
struct Memory {
    #[serde(skip)]
    file: PathBuf,
    pipeline: String,
    bytes: usize,
    parts: Vec<memory::Part>,
    /// Bytes that each plugin takes besides while it is compiled, in a process of its own.
    compiling: usize,
}

impl Memory {
    fn of(plan: &Plan, compiling: usize) -> Self {
        let (file, pipeline, parts) = (plan.file.clone(), plan.name.clone(), memory::parts(plan));
        Self { file, pipeline, bytes: memory::sum(&parts), parts, compiling }
    }
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
        let mut files = Files::read(self.daemon.as_deref(), &self.files);
        let compilation = match &files.daemon {
            Some(daemon) => {
                files.mistakes.extend(daemon_file::mistakes(daemon));
                self.compilation.or(&daemon.compile)
            }
            None => self.compilation.clone(),
        };
        let state = global.state_or(files.daemon.as_ref().and_then(|daemon| daemon.state.clone()));
        let (found, differences) = open_releases(&files.plans, compilation.compiler(), &Remembered::at(state))?;
        files.mistakes.extend(found);
        let compiling = compilation.bounds().memory;
        let Files { pipelines, plans, mistakes, .. } = files;
        let memory = plans.iter().map(|plan| Memory::of(plan, compiling)).collect();
        let mut findings = Findings { mistakes, memory, differences, problems: None };
        if findings.mistakes.is_empty() && self.connect {
            findings.problems = Some(plans.iter().flat_map(cluster_problems).collect());
        }
        print(global, self.daemon.iter().chain(&pipelines), &findings)?;
        match findings {
            Findings { mistakes, .. } if !mistakes.is_empty() => Err(Failure::Reported(2)),
            Findings { problems: Some(problems), .. } if !problems.is_empty() => Err(Failure::Reported(1)),
            _ => Ok(()),
        }
    }
}

/// JSON goes to stdout. As text, mistakes and problems go to stderr, as `run` prints them, and the files without any to stdout.
fn print<'a>(global: &Global, files: impl Iterator<Item = &'a PathBuf>, findings: &Findings) -> Result<()> {
    if global.output == Output::Json {
        return super::print_json(findings).map(drop);
    }
    for mistake in &findings.mistakes {
        super::say(&mistake.to_string());
    }
    let problems = findings.problems.as_deref().unwrap_or_default();
    for problem in problems {
        super::say(&format!("{}: {}", problem.file, problem.message));
    }
    for file in files {
        let shown = file.display().to_string();
        if findings.mistakes.iter().all(|mistake| mistake.file != *file)
            && problems.iter().all(|problem| problem.file != shown)
        {
            super::print(&format!("{shown}: ok\n"))?;
            if let Some(memory) = findings.memory.iter().find(|memory| memory.file == *file) {
                super::print(&format!(
                    "{shown}: may take {} of memory, and up to {} for each plugin while it is compiled\n",
                    memory::shown(&memory.parts),
                    memory::mebibytes(memory.compiling)
                ))?;
            }
            if let Some(difference) = findings.differences.iter().find(|difference| difference.file == *file) {
                super::print(&format!("{shown}: {difference}\n"))?;
            }
        }
    }
    Ok(())
}

/// Every mistake in plugins and models, and what of them does not run although a daemon runs the pipeline.
fn open_releases(
    plans: &[Plan],
    compiler: Compiler,
    remembered: &Remembered,
) -> Result<(Vec<Mistake>, Vec<Difference>)> {
    let directory = tempfile::tempdir().context("a temporary directory is needed")?;
    let state = Arc::new(StateDirectory::open(directory.path(), None)?);
    let stager = Stager::new(Engine::new(None, compiler)?, state);
    let mistakes = plans.iter().flat_map(|plan| releases::mistakes(&stager, plan)).collect();
    Ok((mistakes, plans.iter().filter_map(|plan| Difference::of(&stager, plan, remembered)).collect()))
}

fn cluster_problems(plan: &Plan) -> Vec<Problem> {
    let brokers = plan.kafka.0.get("bootstrap.servers").map_or("", String::as_str);
    let found = topics::problems(plan).and_then(|mut problems| {
        // Where the topics are not right, a sample of them tells nothing.
        if let Some(feedback) = plan.feedback.as_ref().filter(|_| problems.is_empty()) {
            problems.extend(meeting::problem(plan, feedback)?);
        }
        Ok(problems)
    });
    let mut messages = found.unwrap_or_else(|fault| vec![format!("{fault} (bootstrap.servers = {brokers:?})")]);
    messages.extend(groups_in_the_way(plan));
    let problem = |message| Problem { file: plan.file.display().to_string(), pipeline: plan.name.clone(), message };
    messages.into_iter().map(problem).collect()
}

/// Groups of the pipeline that another application's members keep it out of.
fn groups_in_the_way(plan: &Plan) -> Vec<String> {
    let main = properties::consumer(plan, &plan.input.group, Assignor::CooperativeSticky);
    let feedback = plan.feedback.iter().map(|feedback| properties::consumer(plan, &feedback.group, Assignor::Range));
    std::iter::once(main).chain(feedback).filter_map(|consumer| members::in_the_way(&consumer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mistakes of `data/iris.toml` with one part of it replaced, without the directory that it stands in.
    fn mistakes(from: &str, to: &str) -> Vec<String> {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        let text = std::fs::read_to_string(data.join("iris.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("iris.toml");
        let models = format!("\"{}/", data.join("models").display());
        std::fs::write(&file, text.replace(from, to).replace("\"models/", &models)).unwrap();
        let Files { plans, mut mistakes, .. } = Files::read(None, std::slice::from_ref(&file));
        let nothing = Remembered::at(directory.path().join("state"));
        mistakes.extend(open_releases(&plans, Compiler::InProcess, &nothing).unwrap().0);
        let prefix = format!("{}/", directory.path().display());
        mistakes.iter().map(|mistake| mistake.to_string().replace(&prefix, "")).collect()
    }

    #[test]
    fn the_example_has_no_mistake() {
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
    fn properties_that_librdkafka_makes_no_client_of_are_a_mistake_without_a_broker() {
        let lines = |added: &str| mistakes("[kafka]\n", &format!("[kafka]\n{added}\n"));
        let found = lines("security.protocol = \"ssl\"\nssl.ca.location = \"/dev/null\"");
        assert!(
            found.len() == 1 && found[0].contains("[kafka]: ") && found[0].contains("ssl.ca.location"),
            "{found:?}"
        );
        let found = lines("security.protocol = \"sasl_plaintext\"\nsasl.mechanism = \"PLAINN\"");
        assert!(found.len() == 1 && found[0].contains("PLAINN"), "{found:?}");
    }

    #[test]
    fn a_file_with_a_mistake_is_reported_without_opening_its_plugins() {
        let found = mistakes("start  = ", "strat  = ");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("[input] strat"), "{found:?}");
    }
}
