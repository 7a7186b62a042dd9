//! A pipeline's TOML file, read into a [`Plan`] or into every mistake in it at once; likewise a daemon's, in `daemon`.
//!
//! It opens the file, the secrets' files and nothing else: that plugins and models exist is looked up, what is in them
//! is not, and no broker is asked. Each section has a module that reads it, through the typed reader in `section`.

mod conflicts;
pub mod daemon;
mod delivery;
mod feedback;
mod file;
mod input;
mod kafka;
mod limits;
pub mod memory;
mod mistake;
mod name;
mod output;
pub mod plan;
mod plugin_config;
mod rollout;
mod scalar;
pub mod secret;
mod section;
mod spelling;
mod stage;
mod topics;
pub mod unit;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::DeTable;

use crate::config::plan::Plan;
use file::File;
use section::Section;

pub use conflicts::{check_control, check_together};
pub use mistake::Mistake;

/// Reads a pipeline file. `stock` are the names of the built-in plugins. A file that cannot be read is a mistake too.
pub fn load(path: &Path, stock: &[&str]) -> Result<Plan, Vec<Mistake>> {
    let env = |name: &str| std::env::var(name).ok();
    parse(path, &read_text(path, "the pipeline file")?, stock, &env)
}

/// What stands in a file, or that it cannot be read. `what` is what it is called.
fn read_text(path: &Path, what: &str) -> Result<String, Vec<Mistake>> {
    std::fs::read_to_string(path).map_err(|error| {
        vec![Mistake {
            file: path.to_path_buf(),
            line: 1,
            column: 1,
            key: String::new(),
            message: format!("{what} cannot be read: {error}"),
        }]
    })
}

/// Reads a pipeline file's text. Relative paths in it are relative to the folder of `path`.
pub fn parse(
    path: &Path,
    text: &str,
    stock: &[&str],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Vec<Mistake>> {
    parse_with(File::new(path, text, stock, env), pipeline)
}

/// What `read` makes of a file without a mistake, or every mistake in it.
fn parse_with<T>(file: File<'_>, read: impl Fn(&Section<'_>) -> Option<T>) -> Result<T, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(file.text);
    file.syntax_errors(errors);
    let made = read(&Section::top(&file, table.get_ref()));
    let mistakes = file.into_mistakes();
    match made {
        Some(made) if mistakes.is_empty() => Ok(made),
        _ => Err(mistakes),
    }
}

/// `None` when something that the plan needs is wrong. All sections are read before any is given up.
fn pipeline(top: &Section<'_>) -> Option<Plan> {
    let name = top.text("name", name::pipeline);
    let name =
        top.required("name", name, "write name = \"iris\" at the top: it is part of group and transactional ids");
    let pipeline = name.as_ref().map_or("", |name| name.value.as_str());

    let kafka = top.section("kafka", "bootstrap.servers = \"127.0.0.1:9092\"");
    let input = top.section("input", "topics = [\"iris.measurements\"]");
    let transforms = top.sections("transform");
    let parse = top.section("parse", "plugin = \"csv\"");
    let classify = top.section("classify", "plugin = \"logistic\"");
    let output = top.section("output", "topic = \"iris.predictions\"");
    let errors = top.section("errors", "dead_letters = \"iris.dead-letters\"");
    let feedback = top.section("feedback", "labels = \"iris.labels\"");
    let rollout = top.section("rollout", "[[rollout.step]], and below it shadow = \"500 labels\"");
    let delivery = top.section("delivery", "guarantee = \"exactly-once\"");
    let limits = top.section("limits", "workers = 1");
    top.finish();

    // A section that is no table has been noted as a mistake: it counts as present.
    let present = |section: &Option<Section<'_>>| section.as_ref().is_none_or(Section::is_present);
    let has_classifier = present(&classify);
    let has_feedback = present(&feedback);
    check_stages(top, transforms.as_deref(), parse.as_ref(), classify.as_ref());

    let delivery = delivery.map(|section| delivery::read(&section));
    let kafka = kafka.map(|section| kafka::read(&section, delivery.as_ref()));
    let input = input.and_then(|section| input::read(&section, pipeline, has_feedback));
    let transforms = transforms.and_then(|sections| all(sections.iter().map(stage::transform).collect()));
    let parse = parse.and_then(|section| optional(&section, stage::parser));
    let classify = classify.and_then(|section| optional(&section, stage::classifier));
    let output = output.and_then(|section| output::read(&section, has_classifier, has_feedback));
    let errors = errors.and_then(|section| output::errors(&section, pipeline));
    let feedback =
        feedback.and_then(|section| optional(&section, |section| feedback::read(section, pipeline, has_classifier)));

    let rollout = rollout.and_then(|section| optional(&section, |section| rollout::read(section, has_feedback)));

    let stages = stage::StageCount {
        transforms: transforms.as_ref().map_or(0, Vec::len),
        has_classifier,
        has_challenger: rollout.as_ref().is_some_and(Option::is_some),
    };
    let limits = limits.and_then(|section| {
        limits::read(&section, delivery.as_ref(), stages, feedback.as_ref().and_then(Option::as_ref))
    });
    if let (Some(input), Some(Some(feedback))) = (&input, &feedback) {
        feedback::check_group(top.file, feedback, input);
    }
    topics::check(
        top.file,
        input.as_ref(),
        transforms.as_deref().unwrap_or_default(),
        output.as_ref(),
        errors.as_ref().map(|errors| &errors.dead_letters),
        feedback.as_ref().and_then(Option::as_ref),
    );

    Some(Plan {
        name: name?.value,
        file: top.file.path.to_path_buf(),
        kafka: kafka?,
        input: input?.plan(),
        transforms: transforms?.into_iter().map(stage::TransformSettings::plan).collect(),
        parse: parse?,
        classify: classify?,
        output: output?.plan(),
        errors: errors?.plan(),
        feedback: feedback?.map(feedback::FeedbackSettings::plan),
        rollout: rollout?,
        delivery: delivery?.plan()?,
        limits: limits?,
    })
}

/// A pipeline transforms, or parses and classifies, or both; a parser without a classifier, or the reverse, is a mistake.
fn check_stages(
    top: &Section<'_>,
    transforms: Option<&[Section<'_>]>,
    parse: Option<&Section<'_>>,
    classify: Option<&Section<'_>>,
) {
    let (Some(transforms), Some(parse), Some(classify)) = (transforms, parse, classify) else {
        return;
    };
    match (parse.is_present(), classify.is_present()) {
        (true, false) => top.file.absent(
            &parse.at,
            "[parse]",
            "[classify] is missing: a parser's rows go to a classifier, so a pipeline has both or neither \
             (what makes records from records is a [[transform]])",
        ),
        (false, true) => top.file.absent(
            &classify.at,
            "[classify]",
            "[parse] is missing: a classifier needs the rows that a parser makes, so a pipeline has both or neither",
        ),
        (false, false) if transforms.is_empty() => {
            top.file.absent(
                &top.at,
                "",
                "the pipeline has no stage: write [parse] and [classify], or [[transform]], or both",
            );
        }
        _ => {}
    }
}

/// `Some(None)` for an absent section, `None` for a wrong one.
fn optional<T>(section: &Section<'_>, read: impl Fn(&Section<'_>) -> Option<T>) -> Option<Option<T>> {
    if section.is_present() { read(section).map(Some) } else { Some(None) }
}

/// All or none, after every one has been read.
fn all<T>(read: Vec<Option<T>>) -> Option<Vec<T>> {
    read.into_iter().collect()
}
