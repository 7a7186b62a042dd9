//! Fisher's irises: rows, models, and what a model must answer, computed here a second time.

use super::root;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

pub const COLUMNS: [&str; 4] = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
pub const CLASSES: [&str; 3] = ["setosa", "versicolor", "virginica"];

/// A row that every parser and model of this module takes.
pub const ROW: &str = "5.1,3.5,1.4,0.2";

/// One of the 150 flowers.
pub struct Flower {
    /// As it goes onto the topic: four numbers.
    pub row: String,
    pub species: String,
}

impl Flower {
    pub fn cells(&self) -> Result<Vec<f64>> {
        self.row.split(',').map(|cell| cell.parse().with_context(|| format!("not a number in {}", self.row))).collect()
    }
}

/// All of them, in the data's order.
pub fn flowers() -> Result<Vec<Flower>> {
    let path = root().join("data/iris.csv");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let flower = |line: &str| {
        let (row, species) = line.rsplit_once(',')?;
        Some(Flower { row: row.to_owned(), species: species.to_owned() })
    };
    lines.map(|line| flower(line).with_context(|| format!("no flower: {line}"))).collect()
}

/// The model that comes with the data.
pub fn model() -> PathBuf {
    root().join("data/models/iris.json")
}

/// A model in the stock classifier's format that finds every flower to be of that class.
pub fn model_of(class: &str) -> String {
    let zeros = [0.0; COLUMNS.len()];
    json!({
        "format": "sandpiper.logistic/1",
        "columns": COLUMNS,
        "classes": CLASSES,
        "mean": zeros,
        "scale": zeros.map(|_| 1.0),
        "weights": CLASSES.map(|_| zeros),
        "intercepts": CLASSES.map(|each| if each == class { 5.0 } else { 0.0 }),
    })
    .to_string()
}

/// Class and probabilities by the definition: softmax of intercept + Σ weight · (cell − mean) / scale, in f64.
pub fn expect(model: &Value, cells: &[f64]) -> Result<(String, Vec<(String, f64)>)> {
    let numbers = |value: &Value| -> Result<Vec<f64>> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|number| number.as_f64().context("the model holds no number"))
            .collect()
    };
    let (mean, scale, intercepts) =
        (numbers(&model["mean"])?, numbers(&model["scale"])?, numbers(&model["intercepts"])?);
    let classes: Vec<&str> = model["classes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(mean.len() == cells.len() && classes.len() == intercepts.len(), "the model does not fit the row");
    let mut scores = Vec::new();
    for (class, intercept) in intercepts.iter().enumerate() {
        let weights = numbers(&model["weights"][class])?;
        let terms = weights.iter().zip(cells).zip(mean.iter().zip(&scale));
        scores
            .push(intercept + terms.map(|((weight, cell), (mean, scale))| weight * (cell - mean) / scale).sum::<f64>());
    }
    let exponentials: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    let probabilities: Vec<(String, f64)> = classes
        .iter()
        .zip(&exponentials)
        .map(|(class, exponential)| ((*class).to_owned(), exponential / sum))
        .collect();
    let best = probabilities.iter().max_by(|left, right| left.1.total_cmp(&right.1)).context("no classes")?;
    Ok((best.0.clone(), probabilities))
}
