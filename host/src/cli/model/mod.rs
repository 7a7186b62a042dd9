//! `model train`: a plugin's learner makes a model of a CSV file, and its classifier is tried on it before the model is
//! written. No pipeline and no broker is needed.

mod training_data;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::compile_component::Compilation;
use super::plain::one_line;
use super::{Global, Outcome, Output, plugin};
use crate::authoring::train;
use crate::control::staging;
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::{Engine, Plugin};
use training_data::TrainingColumns;

/// Models, made without a pipeline.
#[derive(Args)]
pub struct Model {
    #[command(subcommand)]
    verb: ModelVerb,
}

#[derive(Subcommand)]
enum ModelVerb {
    Train(Train),
}

/// Let a plugin's learner make a model of labelled rows.
#[derive(Args)]
#[command(after_help = "Examples:\n  sandpiper model train --data data/iris.csv --label class --out iris.json\n  \
    sandpiper model train --plugin ./mine.wasm --data trips.csv --label late \\\n    \
    --columns distance,hour,line --categories line --config depth=4 --out late.model\n\n\
    The first line of the CSV names its columns. A cell is a number, or empty where it is missing; a column named in \
    --categories holds words, and its categories are sorted, as the classes are: equal data give equal models. \
    The model is opened by the plugin's classifier before it is written.")]
struct Train {
    /// A stock name, or a component file; it exports a learner.
    #[arg(long, value_name = "PLUGIN", default_value = "logistic")]
    plugin: String,
    /// A CSV file with a header.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The column that holds the class.
    #[arg(long, value_name = "COLUMN")]
    label: String,
    /// The columns to learn from, in this order; by default all but the label and the weights.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Those of the columns that hold categories instead of numbers.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    categories: Vec<String>,
    /// The column that says how much each row counts: a number of at least 0.
    #[arg(long, value_name = "COLUMN")]
    weights: Option<String>,
    /// A configuration key of the learner, V being JSON or a plain string.
    #[arg(long, value_name = "K=V")]
    config: Vec<String>,
    /// Where the model goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    compilation: Compilation,
}

impl Model {
    pub fn run(self, global: &Global) -> Outcome {
        let ModelVerb::Train(train) = self.verb;
        train.run(global)
    }
}

impl Train {
    fn run(self, global: &Global) -> Outcome {
        let config = config(&self.config)?;
        let file = File::open(&self.data).with_context(|| format!("{} cannot be read", self.data.display()))?;
        let (signature, examples, merged) =
            self.columns().read(file).with_context(|| self.data.display().to_string())?;
        for sentence in merged {
            super::say(&sentence);
        }
        let (name, component) = staging::component(&plugin::named(&self.plugin)?)?;
        let plugin = Arc::new(Plugin::load(&Engine::new(None, self.compilation.compiler())?, &name, &component)?);
        let model = train::train(plugin.clone(), train::limits(), &config, &signature, &examples)?;
        let fit = train::check(plugin, train::limits(), model.clone(), &signature, &examples)?;
        std::fs::write(&self.out, &model).with_context(|| format!("{} cannot be written", self.out.display()))?;

        let columns: Vec<&str> = signature.columns.iter().map(|column| column.name.as_str()).collect();
        let digest = Digest::of(&model);
        let out = self.out.display().to_string();
        if global.output == Output::Json {
            super::print_json(&serde_json::json!({
                "model": out,
                "digest": digest,
                "plugin": name,
                "rows": fit.rows,
                "rejected": fit.rejected,
                "columns": columns,
                "classes": signature.classes,
                "accuracy": fit.accuracy(),
            }))?;
            return Ok(());
        }
        let accuracy = fit.accuracy().map_or_else(|| "unknown".into(), |accuracy| format!("{:.2} %", accuracy * 100.0));
        let rejected = match fit.rejected {
            0 => String::new(),
            rejected => format!("; {rejected} rows with missing values were not answered"),
        };
        super::print(&format!(
            "{name} learned from {} rows\n  columns   {}\n  classes   {}\n  accuracy  {accuracy} on these rows{rejected}\n  model     {out}, {digest}\n",
            fit.rows,
            one_line(&columns.join(", ")),
            one_line(&signature.classes.join(", ")),
        ))?;
        Ok(())
    }

    fn columns(&self) -> TrainingColumns<'_> {
        TrainingColumns {
            label: &self.label,
            features: &self.columns,
            categories: &self.categories,
            weights: self.weights.as_deref(),
        }
    }
}

/// The learner's configuration, a JSON object, from `K=V` each.
fn config(settings: &[String]) -> Result<serde_json::Value> {
    let mut config = serde_json::Map::new();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            bail!("--config takes K=V, such as alpha=0.5, and not {setting:?}")
        };
        config.insert(key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
    }
    Ok(config.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_json_or_a_plain_string() {
        let settings = ["alpha=0.5".to_owned(), "solver=newton".to_owned()];
        assert_eq!(config(&settings).unwrap(), serde_json::json!({ "alpha": 0.5, "solver": "newton" }));
        assert!(config(&["alpha".to_owned()]).is_err());
    }

    #[test]
    fn the_stock_learner_learns_the_iris_data_set() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.csv");
        let columns = TrainingColumns { label: "class", features: &[], categories: &[], weights: None };
        let (signature, examples, _) = columns.read(File::open(data).unwrap()).unwrap();
        assert_eq!((signature.columns.len(), signature.classes.len(), examples.labels.len()), (4, 3, 150));
        let component = sandpiper_sandbox::stock::component("logistic").unwrap();
        let plugin = Arc::new(
            Plugin::load(&Engine::new(None, sandpiper_sandbox::Compiler::InProcess).unwrap(), "logistic", component)
                .unwrap(),
        );
        let model =
            train::train(plugin.clone(), train::limits(), &serde_json::json!({}), &signature, &examples).unwrap();
        let fit = train::check(plugin, train::limits(), model, &signature, &examples).unwrap();
        assert!(fit.accuracy().unwrap() > 0.95, "{fit:?}");
    }
}
