//! Whether a pipeline's plugins and models can be opened and fit each other, and whether librdkafka takes its properties.

use anyhow::{Result, anyhow};

use super::position::{Step, position};
use crate::config::Mistake;
use crate::config::plan::{Plan, Stage};
use crate::control::deployment::{Deployment, Release};
use crate::control::staging::{self, Stager};
use crate::kafka::properties;
use crate::record::Revision;
use sandpiper_sandbox::stage::{WasmClassifier, WasmParser, WasmScorer, WasmTransform};

/// Opens every release of a pipeline, stage by stage, and notes each that is refused.
pub(super) fn mistakes(stager: &Stager, plan: &Plan) -> Vec<Mistake> {
    let text = std::fs::read_to_string(&plan.file).unwrap_or_default();
    let mut mistakes = Vec::new();
    let mut add = |key: String, path: &[Step<'_>], error: &anyhow::Error| {
        let (line, column) = position(&text, path);
        mistakes.push(Mistake { file: plan.file.clone(), line, column, key, message: format!("{error:#}") });
    };
    if let Err(fault) = properties::check(plan) {
        add("[kafka]".into(), &[Step::Key("kafka")], &anyhow!("{fault}"));
    }
    let limits = staging::limits(plan);
    let topics = staging::sink_topics(plan);
    for (at, transform) in plan.transforms.iter().enumerate() {
        let opened = open_release(stager, &transform.stage, |release| {
            let (_, outputs) = WasmTransform::open(stager.plugin(release)?, limits, stager.opening(plan, release)?)?;
            staging::routes(&transform.outputs, &outputs, &topics).map(drop)
        });
        if let Err(error) = opened {
            add(
                format!("[[transform]] {}", at + 1),
                &[Step::Key("transform"), Step::Index(at), Step::Key("plugin")],
                &error,
            );
        }
    }
    let parse = plan.parse.as_ref().map(|stage| {
        open_release(stager, stage, |release| {
            Ok((
                release.name.clone(),
                WasmParser::open(stager.plugin(release)?, limits, stager.opening(plan, release)?)?.1,
            ))
        })
    });
    let classify = plan.classify.as_ref().map(|stage| {
        open_release(stager, stage, |release| {
            Ok((
                release.name.clone(),
                WasmClassifier::open(stager.plugin(release)?, limits, stager.opening(plan, release)?)?.1,
            ))
        })
    });
    let (parse_plugin, classify_plugin) =
        ([Step::Key("parse"), Step::Key("plugin")], [Step::Key("classify"), Step::Key("plugin")]);
    match (parse, classify) {
        (Some(Ok((parser, columns))), Some(Ok((classifier, signature)))) => {
            if let Err(error) = staging::gather(&parser, &columns, &classifier, &signature) {
                add("[classify]".into(), &classify_plugin, &error);
            }
        }
        (parse, classify) => {
            if let Some(Err(error)) = parse {
                add("[parse]".into(), &parse_plugin, &error);
            }
            if let Some(Err(error)) = classify {
                add("[classify]".into(), &classify_plugin, &error);
            }
        }
    }
    if let Some(feedback) = &plan.feedback
        && let Err(error) = open_release(stager, &feedback.score, |release| {
            WasmScorer::open(stager.plugin(release)?, limits, stager.opening(plan, release)?)
        })
    {
        add("[feedback] score".into(), &[Step::Key("feedback"), Step::Key("score")], &error);
    }
    // At last the pipeline as a whole, as a daemon opens it: that checks more than its stages one by one.
    if mistakes.is_empty()
        && let Err(error) =
            stager.releases(plan).and_then(|releases| stager.open(plan, &Deployment::of(Revision::FIRST, releases)))
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

/// A stage's release, staged and opened.
fn open_release<T>(stager: &Stager, stage: &Stage, open: impl FnOnce(&Release) -> Result<T>) -> Result<T> {
    open(&stager.release(stage)?)
}
