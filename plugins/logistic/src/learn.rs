//! Labelled rows to a model: linfa's multinomial logistic regression.
//!
//! Keeps the rows until the snapshot, at most [`CELLS`] numbers of them, and fits all of them at
//! once: the model depends on the rows and their order and on nothing else.

use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2, Axis};
use sandpiper_sdk::{Learner, Signature};
use serde::Deserialize;

use crate::model::{FORMAT, Model};

/// The most that is kept: rows × (columns + classes). Fitting needs about 40 bytes for each, and so
/// stays within the 64 MiB that a plugin has by default.
pub const CELLS: usize = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The weight of the L2 penalty; at 0 classes that a plane separates have no best model.
    #[serde(default = "one")]
    alpha: f64,
    #[serde(default = "hundred")]
    max_iterations: u64,
}

fn one() -> f64 {
    1.0
}

fn hundred() -> u64 {
    100
}

pub struct LogisticLearner {
    config: Config,
    columns: Vec<String>,
    classes: Vec<String>,
    /// Row-major, all finite.
    rows: Vec<f32>,
    labels: Vec<usize>,
}

impl Learner for LogisticLearner {
    type Config = Config;

    fn open(config: Config, signature: Signature, model: &[u8]) -> Result<Self, String> {
        if !(config.alpha.is_finite() && config.alpha >= 0.0) {
            return Err(format!("`alpha` is {}, it must be a finite number ≥ 0", config.alpha));
        }
        if config.max_iterations == 0 {
            return Err("`max_iterations` must be at least 1".to_owned());
        }
        if !model.is_empty() {
            return Err("a logistic model cannot be continued: it is fitted to all of its rows at \
                        once; learn afresh, without a model"
                .to_owned());
        }
        Ok(Self {
            config,
            columns: signature.number_columns("logistic")?,
            classes: signature.classes,
            rows: Vec::new(),
            labels: Vec::new(),
        })
    }

    /// A weight of 0 leaves the row out. A row with a missing value is left out too: the classifier
    /// would refuse it.
    fn learn(&mut self, row: &[f32], label: usize, weight: f32) -> Result<(), String> {
        if weight != 0.0 && weight != 1.0 {
            return Err(format!("logistic knows no weights but 0 (leave the row out) and 1, this row has {weight}"));
        }
        if weight == 0.0 || !row.iter().all(|cell| cell.is_finite()) {
            return Ok(());
        }
        let most = CELLS / (self.columns.len() + self.classes.len());
        if self.labels.len() >= most {
            return Err(format!("logistic learns from at most {most} rows of this signature; sample the data"));
        }
        self.rows.extend_from_slice(row);
        self.labels.push(label);
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, String> {
        let mut seen = vec![false; self.classes.len()];
        for label in &self.labels {
            if let Some(seen) = seen.get_mut(*label) {
                *seen = true;
            }
        }
        if let Some((class, _)) = self.classes.iter().zip(&seen).find(|(_, seen)| !**seen) {
            return Err(format!("no row to learn from has the class `{class}`"));
        }
        let rows = self.rows.iter().map(|cell| f64::from(*cell)).collect();
        let mut rows = Array2::from_shape_vec((self.labels.len(), self.columns.len()), rows)
            .map_err(|error| format!("the rows are not of one width: {error}"))?;
        let (mean, scale) = standardise(&mut rows)?;

        let fitted = MultiLogisticRegression::default()
            .alpha(self.config.alpha)
            .max_iterations(self.config.max_iterations)
            .check()
            .and_then(|regression| regression.fit(&Dataset::new(rows, Array1::from(self.labels.clone()))))
            .map_err(|error| format!("the model cannot be fitted: {error}"))?;

        // linfa sorts the labels that it has seen. Ours are indices and each was seen, so its order is that of the
        // classes.
        let model = Model {
            format: FORMAT.to_owned(),
            columns: self.columns.clone(),
            classes: self.classes.clone(),
            mean: mean.to_vec(),
            scale: scale.to_vec(),
            weights: fitted.params().columns().into_iter().map(|class| class.to_vec()).collect(),
            intercepts: fitted.intercept().to_vec(),
        };
        serde_json::to_vec(&model).map_err(|error| format!("the model cannot be written: {error}"))
    }
}

/// Subtracts each column's mean and divides by its standard deviation, or by 1 where all rows are
/// equal. Answers the means and the divisors.
fn standardise(rows: &mut Array2<f64>) -> Result<(Array1<f64>, Array1<f64>), String> {
    let mean = rows.mean_axis(Axis(0)).ok_or("there is no row to learn from")?;
    *rows -= &mean;
    let variance = rows.map(|cell| cell * cell).mean_axis(Axis(0));
    let deviation = variance.ok_or("there is no row to learn from")?.mapv(f64::sqrt);
    let scale = deviation.mapv(|deviation| if deviation > 0.0 { deviation } else { 1.0 });
    *rows /= &scale;
    Ok((mean, scale))
}

#[cfg(test)]
mod tests {
    use sandpiper_sdk::{Column, OpenClassifier, OpenLearner};

    use super::*;
    use crate::Logistic;

    fn signature() -> Signature {
        Signature {
            columns: vec![Column::number("x"), Column::number("y")],
            classes: vec!["low".to_owned(), "middle".to_owned(), "high".to_owned()],
        }
    }

    fn open(config: &str) -> Result<OpenLearner<LogisticLearner>, String> {
        OpenLearner::open(config, signature(), b"")
    }

    /// Three clusters along x, in two calls.
    fn taught() -> OpenLearner<LogisticLearner> {
        let mut learner = open("{}").unwrap();
        for half in 0..2 {
            let mut rows = Vec::new();
            let mut labels = Vec::new();
            for step in 0..60 {
                let label = step % 3;
                rows.push(label as f32 * 10.0 + (step / 3 + half) as f32 * 0.1);
                rows.push(7.0);
                labels.push(label);
            }
            learner.learn(2, &rows, &labels, &[1.0; 60]).unwrap();
        }
        learner
    }

    #[test]
    fn what_is_learned_is_what_is_classified() {
        let model = taught().snapshot().unwrap();
        let mut logistic = OpenClassifier::<Logistic>::open("{}", &model).unwrap();
        assert_eq!(logistic.signature(), &signature());
        let answer = logistic.classify(2, &[21.0, 7.0, 1.0, 7.0, 11.0, 7.0]).unwrap();
        assert_eq!(answer.labels, [2, 0, 1]);
    }

    #[test]
    fn equal_learning_gives_equal_bytes() {
        assert_eq!(taught().snapshot().unwrap(), taught().snapshot().unwrap());
    }

    #[test]
    fn rows_of_weight_zero_and_with_missing_values_are_left_out() {
        let mut learner = taught();
        let model = learner.snapshot().unwrap();
        learner.learn(2, &[0.0, 7.0, f32::NAN, 7.0], &[2, 2], &[0.0, 1.0]).unwrap();
        assert_eq!(learner.snapshot().unwrap(), model);
    }

    #[test]
    fn a_weight_that_logistic_does_not_know_is_refused() {
        let error = taught().learn(2, &[0.0, 7.0], &[2], &[0.5]).unwrap_err();
        assert!(error.contains("0.5"), "{error}");
    }

    #[test]
    fn a_class_without_rows_is_named() {
        let mut learner = open("{}").unwrap();
        learner.learn(2, &[1.0, 1.0, 2.0, 2.0], &[0, 2], &[1.0; 2]).unwrap();
        assert!(learner.snapshot().unwrap_err().contains("`middle`"));
    }

    #[test]
    fn rows_are_taken_up_to_the_bound_and_no_further() {
        let mut learner = open("{}").unwrap();
        let most = CELLS / 5;
        learner.learn(2, &vec![1.0; most * 2], &vec![0; most], &vec![1.0; most]).unwrap();
        let error = learner.learn(2, &[1.0, 1.0], &[0], &[1.0]).unwrap_err();
        assert!(error.contains("at most 200000 rows"), "{error}");
    }

    #[test]
    fn what_cannot_be_learned_is_refused_at_open() {
        assert!(open(r#"{"alpha": -1}"#).err().unwrap().contains("`alpha`"));
        assert!(open(r#"{"max_iterations": 0}"#).err().unwrap().contains("`max_iterations`"));
        assert!(open(r#"{"alfa": 1}"#).err().unwrap().contains("`alfa`"));
        let model = taught().snapshot().unwrap();
        let continued = OpenLearner::<LogisticLearner>::open("{}", signature(), &model);
        assert!(continued.err().unwrap().contains("cannot be continued"));
        let mut categories = signature();
        categories.columns.push(Column::category("colour", vec!["red".to_owned()]));
        let refused = OpenLearner::<LogisticLearner>::open("{}", categories, b"");
        assert!(refused.err().unwrap().contains("`colour`"));
    }

    /// The flowers, their classes as indices into the shipped model's.
    fn flowers(model: &Model) -> (Vec<f32>, Vec<u32>) {
        let lines = include_str!("../../../data/iris.csv").lines().skip(1);
        let mut flowers = (Vec::new(), Vec::new());
        for line in lines {
            let (cells, class) = line.rsplit_once(',').unwrap();
            flowers.0.extend(cells.split(',').map(|cell| cell.parse::<f32>().unwrap()));
            flowers.1.push(model.classes.iter().position(|known| known == class).unwrap() as u32);
        }
        flowers
    }

    #[test]
    fn the_flowers_teach_the_model_that_is_shipped() {
        let shipped = include_bytes!("../../../data/models/iris.json");
        let mut classifier = OpenClassifier::<Logistic>::open("{}", shipped).unwrap();
        let (rows, labels) = flowers(&Model::read(shipped).unwrap());
        let mut learner = OpenLearner::<LogisticLearner>::open("{}", classifier.signature().clone(), b"").unwrap();
        learner.learn(4, &rows, &labels, &vec![1.0; labels.len()]).unwrap();
        let mut taught = OpenClassifier::<Logistic>::open("{}", &learner.snapshot().unwrap()).unwrap();

        let answer = classifier.classify(4, &rows).unwrap();
        let right = answer.labels.iter().zip(&labels).filter(|(found, truth)| found == truth);
        assert_eq!(right.count(), 146);
        let again = taught.classify(4, &rows).unwrap();
        // Not to the last bit: the platform's logarithm steers the fit.
        for (shipped, taught) in answer.scores.iter().zip(&again.scores) {
            assert!((shipped - taught).abs() < 1e-3, "{shipped} {taught}");
        }
    }
}
