//! Whether a pipeline's plugins and models can be opened and fit each other, and whether librdkafka takes its properties.

use anyhow::anyhow;

use super::position::{Step, position};
use crate::config::Mistake;
use crate::config::plan::Plan;
use crate::control::staging::{StageName, Stager};
use crate::kafka::properties;

/// What librdkafka refuses, and what is wrong with each stage, as `run` and `deploy` say it; here with its place in the file.
pub(super) fn mistakes(stager: &Stager, plan: &Plan) -> Vec<Mistake> {
    let text = std::fs::read_to_string(&plan.file).unwrap_or_default();
    let mistake = |key: String, path: &[Step<'_>], error: &anyhow::Error| {
        let (line, column) = position(&text, path);
        Mistake { file: plan.file.clone(), line, column, key, message: format!("{error:#}") }
    };
    let refused = properties::check(plan).err();
    let properties = refused.map(|fault| mistake("[kafka]".into(), &[Step::Key("kafka")], &anyhow!("{fault}")));
    let plugin = Step::Key("plugin");
    let stages = stager.problems(plan).into_iter().map(|problem| match problem.stage {
        StageName::Transform(at) => {
            let path = [Step::Key("transform"), Step::Index(at), plugin];
            mistake(format!("[[transform]] {}", at + 1), &path, &problem.error)
        }
        StageName::Parse => mistake("[parse]".into(), &[Step::Key("parse"), plugin], &problem.error),
        StageName::Classify => mistake("[classify]".into(), &[Step::Key("classify"), plugin], &problem.error),
        StageName::Score => {
            mistake("[feedback] score".into(), &[Step::Key("feedback"), Step::Key("score")], &problem.error)
        }
    });
    properties.into_iter().chain(stages).collect()
}
