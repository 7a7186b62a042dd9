//! `model`: models made and checked without a pipeline.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};

use super::{Global, Outcome, Output, plugin};
use crate::authoring::train::{self, Examples};
use crate::control::staging;
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::wit::latest::{Column, Kind, Signature};
use sandpiper_sandbox::{Engine, Plugin};

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
        let (signature, examples) = self.table().read(file).with_context(|| self.data.display().to_string())?;
        let (name, component) = staging::component(&plugin::named(&self.plugin)?)?;
        let plugin = Arc::new(Plugin::load(&Engine::new(None)?, &name, &component)?);
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
            columns.join(", "),
            signature.classes.join(", "),
        ))?;
        Ok(())
    }

    fn table(&self) -> Table<'_> {
        Table {
            label: &self.label,
            columns: &self.columns,
            categories: &self.categories,
            weights: self.weights.as_deref(),
        }
    }
}

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

/// Which columns of a CSV file are what.
struct Table<'a> {
    label: &'a str,
    /// Empty: all that are nothing else.
    columns: &'a [String],
    categories: &'a [String],
    weights: Option<&'a str>,
}

impl Table<'_> {
    /// What is to be learned, and what it is learned from. Errors name line and column.
    fn read(&self, csv: impl Read) -> Result<(Signature, Examples)> {
        let mut reader = csv::Reader::from_reader(csv);
        let header: Vec<String> =
            reader.headers()?.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        if let Some((_, twice)) =
            header.iter().enumerate().find(|(at, name)| header.iter().take(*at).any(|other| other == *name))
        {
            bail!("line 1 names column {twice:?} twice");
        }
        let place = |name: &str| {
            let found = header.iter().position(|known| known == name);
            found.with_context(|| format!("there is no column {name:?}; line 1 names {}", header.join(", ")))
        };
        let label = place(self.label)?;
        let weights = self.weights.map(place).transpose()?;
        let places: Vec<usize> = match self.columns {
            [] => (0..header.len()).filter(|at| *at != label && Some(*at) != weights).collect(),
            columns => columns.iter().map(|name| place(name)).collect::<Result<_>>()?,
        };
        ensure!(!places.contains(&label), "column {:?} is the label: it cannot be learned from", self.label);
        let names: Vec<&str> = places.iter().filter_map(|at| header.get(*at)).map(String::as_str).collect();
        if let Some(surplus) = self.categories.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("--categories names column {surplus:?}, which is not learned from; there are {}", names.join(", "));
        }

        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
        let cell = |record: &csv::StringRecord, at: usize| record.get(at).unwrap_or_default().trim().to_owned();
        // Sorted, and known before the first row is read as numbers.
        let words = |at: usize| -> Vec<String> {
            let all: BTreeSet<String> =
                records.iter().map(|record| cell(record, at)).filter(|word| !word.is_empty()).collect();
            all.into_iter().collect()
        };
        let kind = |name: &str, at: usize| {
            if self.categories.iter().any(|known| known == name) { Kind::Category(words(at)) } else { Kind::Number }
        };
        let columns: Vec<Column> = names
            .iter()
            .zip(&places)
            .map(|(name, at)| Column { name: (*name).to_owned(), kind: kind(name, *at) })
            .collect();
        let signature = Signature { columns, classes: words(label) };
        ensure!(
            signature.classes.len() >= 2,
            "column {:?} holds {} class in {} rows, and at least two are needed",
            self.label,
            signature.classes.len(),
            records.len()
        );

        let mut examples = Examples { weights: weights.map(|_| Vec::new()), ..Examples::default() };
        for record in &records {
            let line = record.position().map_or(0, csv::Position::line);
            let at = |name: &str| format!("line {line}, column {name:?}");
            for (column, place) in signature.columns.iter().zip(&places) {
                examples.rows.push(value(column, &cell(record, *place)).with_context(|| at(&column.name))?);
            }
            let class = cell(record, label);
            let Some(label) = signature.classes.iter().position(|known| *known == class) else {
                bail!("{}: the row has no class; give it one, or take it out", at(self.label));
            };
            examples.labels.push(label as u32);
            if let (Some(place), Some(name), Some(weights)) = (weights, self.weights, &mut examples.weights) {
                let text = cell(record, place);
                let weight = text.parse().ok().filter(|weight: &f32| weight.is_finite() && *weight >= 0.0);
                weights.push(weight.with_context(|| {
                    format!("{}: {text:?} is no weight; a number of at least 0 is needed", at(name))
                })?);
            }
        }
        Ok((signature, examples))
    }
}

fn value(column: &Column, cell: &str) -> Result<f32> {
    if cell.is_empty() {
        return Ok(f32::NAN);
    }
    match &column.kind {
        Kind::Number => {
            let number = cell.parse().ok().filter(|number: &f32| number.is_finite());
            number.with_context(|| {
                format!("{cell:?} is not a finite number; if the column holds words, name it in --categories")
            })
        }
        Kind::Category(names) => {
            names.iter().position(|name| name == cell).map(|at| at as f32).context("the category is unknown")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIPS: &str = "hour,line,late,importance\n8,U2,yes,1\n9,U1,no,0.5\n,U2,no,2\n";

    fn table<'a>(columns: &'a [String], categories: &'a [String]) -> Table<'a> {
        Table { label: "late", columns, categories, weights: Some("importance") }
    }

    fn refused(csv: &str) -> String {
        format!("{:#}", table(&[], &["line".to_owned()]).read(csv.as_bytes()).unwrap_err())
    }

    #[test]
    fn classes_and_categories_are_sorted_and_an_empty_cell_is_missing() {
        let (signature, examples) = table(&[], &["line".to_owned()]).read(TRIPS.as_bytes()).unwrap();
        assert_eq!(signature.classes, ["no", "yes"]);
        let names: Vec<&str> = signature.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["hour", "line"]);
        let Kind::Category(lines) = &signature.columns[1].kind else { panic!("line is a category") };
        assert_eq!(lines, &["U1", "U2"]);
        assert_eq!(examples.labels, [1, 0, 0]);
        assert_eq!(examples.rows[..4], [8.0, 1.0, 9.0, 0.0]);
        assert!(examples.rows[4].is_nan());
        assert_eq!(examples.weights, Some(vec![1.0, 0.5, 2.0]));
    }

    #[test]
    fn columns_come_in_the_order_that_was_asked_for() {
        let columns = ["importance".to_owned(), "hour".to_owned()];
        let table = Table { weights: None, ..table(&columns, &[]) };
        let (signature, examples) = table.read(TRIPS.as_bytes()).unwrap();
        assert_eq!(signature.columns[0].name, "importance");
        assert_eq!(examples.rows[..2], [1.0, 8.0]);
        assert_eq!(examples.weights, None);
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_column() {
        let word = TRIPS.replace("9,", "nine,");
        assert!(
            refused(&word).starts_with("line 3, column \"hour\": \"nine\" is not a finite number"),
            "{}",
            refused(&word)
        );
        let unlabelled = TRIPS.replace("no,2", ",2");
        assert!(
            refused(&unlabelled).starts_with("line 4, column \"late\": the row has no class"),
            "{}",
            refused(&unlabelled)
        );
        let negative = TRIPS.replace("yes,1", "yes,-1");
        assert!(
            refused(&negative).starts_with("line 2, column \"importance\": \"-1\" is no weight"),
            "{}",
            refused(&negative)
        );
        assert!(refused(&TRIPS.replace("late", "delayed")).contains("hour, line, delayed, importance"));
        assert!(refused(&TRIPS.replace("hour", "line")).contains("names column \"line\" twice"));
        assert!(
            refused(&TRIPS.replace("8,U2", "8,U2,U3")).contains("line: 2"),
            "{}",
            refused(&TRIPS.replace("8,U2", "8,U2,U3"))
        );
        assert!(refused(&TRIPS.replace("yes", "no")).contains("at least two"));
    }

    #[test]
    fn a_setting_is_json_or_a_plain_string() {
        let settings = ["alpha=0.5".to_owned(), "solver=newton".to_owned()];
        assert_eq!(config(&settings).unwrap(), serde_json::json!({ "alpha": 0.5, "solver": "newton" }));
        assert!(config(&["alpha".to_owned()]).is_err());
    }

    #[test]
    fn the_flowers_are_learned() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.csv");
        let table = Table { label: "class", columns: &[], categories: &[], weights: None };
        let (signature, examples) = table.read(File::open(data).unwrap()).unwrap();
        assert_eq!((signature.columns.len(), signature.classes.len(), examples.labels.len()), (4, 3, 150));
        let component = sandpiper_sandbox::stock::component("logistic").unwrap();
        let plugin = Arc::new(Plugin::load(&Engine::new(None).unwrap(), "logistic", component).unwrap());
        let model =
            train::train(plugin.clone(), train::limits(), &serde_json::json!({}), &signature, &examples).unwrap();
        let fit = train::check(plugin, train::limits(), model, &signature, &examples).unwrap();
        assert!(fit.accuracy().unwrap() > 0.95, "{fit:?}");
    }
}
