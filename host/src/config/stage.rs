//! `[[transform]]`, `[parse]`, `[classify]` and `score`: a plugin, its configuration and, for a classifier, its model. That the
//! files exist is looked up; what is in them is not.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::config::plan::{PluginRef, Stage, Transform};

use super::section::Section;
use super::value::{self, Field, Setting};
use super::{name, plugin_config, spelling};

/// The stages of a worker's main loop, for the memory that their plugins take.
#[derive(Clone, Copy)]
pub(super) struct StageCount {
    pub transforms: usize,
    /// A classifier comes with a parser: two plugins.
    pub has_classifier: bool,
    /// Whether a challenger runs beside one of them, or beside parser and classifier.
    pub has_challenger: bool,
}

impl StageCount {
    pub fn plugins(self) -> usize {
        let model = if self.has_classifier { 2 } else { 0 };
        let challenger = if self.has_challenger { model.max(1) } else { 0 };
        self.transforms + model + challenger
    }
}

pub(super) struct TransformSettings {
    stage: Stage,
    /// For each output: its name, its key as messages name it, its topic.
    pub outputs: Vec<(String, String, Setting<String>)>,
}

impl TransformSettings {
    pub fn plan(self) -> Transform {
        let outputs = self.outputs.into_iter().map(|(name, _, topic)| (name, topic.value));
        Transform { stage: self.stage, outputs: outputs.collect::<BTreeMap<_, _>>() }
    }
}

pub(super) fn transform(section: &Section<'_>) -> Option<TransformSettings> {
    let outputs = outputs(section);
    section.refuse("model", "only a classifier has a model: what a transform needs goes into its config");
    let stage = stage(section, None);
    section.finish();
    Some(TransformSettings { outputs: outputs?, stage: stage? })
}

pub(super) fn parser(section: &Section<'_>) -> Option<Stage> {
    section.refuse("model", "only a classifier has a model: write it under [classify]");
    let stage = stage(section, None);
    section.finish();
    stage
}

pub(super) fn classifier(section: &Section<'_>) -> Option<Stage> {
    let model = section.text("model", |text| section.file.existing(text)).optional();
    let stage = stage(section, None);
    section.finish();
    Some(Stage { model: model?, ..stage? })
}

/// `score = { … }` under `[feedback]`: the plugin `loss` unless another is named.
pub(super) fn scorer(section: Option<&Section<'_>>) -> Option<Stage> {
    let loss = PluginRef::Stock("loss".into());
    let error_metric = Json::Object(Map::from_iter([("metric".to_owned(), Json::from("error"))]));
    let Some(section) = section else {
        return Some(Stage { plugin: loss, model: None, config: error_metric });
    };
    section.refuse("model", "only a classifier has a model: what a scorer needs goes into its config");
    let has_plugin = section.get("plugin").is_some();
    let has_config = section.get("config").is_some();
    let mut stage = stage(section, Some(loss));
    section.finish();
    if let Some(stage) = &mut stage
        && !has_plugin
        && !has_config
    {
        stage.config = error_metric;
    }
    stage
}

fn stage(section: &Section<'_>, default: Option<PluginRef>) -> Option<Stage> {
    let found = section.text("plugin", |text| plugin(section, text));
    let plugin = match (found, default) {
        (Field::Absent, Some(default)) => Some(default),
        (found, _) => {
            let advice = "name a stock plugin, as \"csv\", or a component file, as \"plugins/mine.wasm\"";
            section.required("plugin", found, advice).map(|plugin| plugin.value)
        }
    };
    let config = plugin_config::read(section);
    Some(Stage { plugin: plugin?, model: None, config: config? })
}

fn plugin(section: &Section<'_>, text: &str) -> Result<PluginRef, String> {
    if text.contains("://") {
        return Err("is not supported yet: plugins come from files; fetch the component and give its path, \
                    as \"plugins/mine.wasm\""
            .into());
    }
    if text.contains('/') || text.ends_with(".wasm") {
        return section.file.existing(text).map(PluginRef::Path);
    }
    let stock = section.file.stock;
    if stock.contains(&text) {
        return Ok(PluginRef::Stock(text.to_owned()));
    }
    let hint = spelling::hint(text, stock);
    let stock = stock.join(", ");
    Err(format!(
        "is no stock plugin{hint} There are: {stock}; a component file is written with its path, as \"./mine.wasm\""
    ))
}

fn outputs(section: &Section<'_>) -> Option<Vec<(String, String, Setting<String>)>> {
    let Some(table) = section.table("outputs", "outputs = { large = \"orders.large\" }")? else {
        return Some(Vec::new());
    };
    let outputs = table.entries().map(|(output, topic)| {
        let key = table.key(output.get_ref());
        let topic = value::text(section.file, topic, &key, name::topic).valid()?;
        Some((output.get_ref().to_string(), key, topic))
    });
    super::all(outputs.collect())
}
