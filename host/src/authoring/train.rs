//! Training: labelled rows become a model, through a plugin's `learner` and outside of any pipeline.
//!
//! The host knows no kind of model: the same few calls train whatever the plugin implements, and the model is opaque bytes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use sandpiper_sandbox::Opening;
use sandpiper_sandbox::instance::Instance;
use sandpiper_sandbox::stage::{Classify as _, WasmClassifier};
use sandpiper_sandbox::wit::latest::learner::LearnerPlugin;
use sandpiper_sandbox::wit::latest::{Kind, Matrix, Signature};
use sandpiper_sandbox::{Failure, Limits, Plugin, answers};

/// Rows of one call.
const BATCH_ROWS: usize = 1_024;
/// Time to learn from one batch.
const LEARN_DEADLINE: Duration = Duration::from_secs(120);
/// Time for the snapshot, in which a learner may do all of its work.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(900);
/// Time to classify one batch.
const CLASSIFY_DEADLINE: Duration = Duration::from_secs(10);
/// A learner may keep all rows that it has seen, and no pipeline shares its process.
const MEMORY: usize = 1 << 30;

/// The limits of a learner, and of the classifier that its model is tried in.
pub fn limits() -> Limits {
    Limits { memory: MEMORY, ..Limits::default() }
}

/// Labelled rows. NaN is a missing cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// Row-major, one cell a column of the signature.
    pub rows: Vec<f32>,
    /// One a row: indices into the signature's classes.
    pub labels: Vec<u32>,
    /// One a row, finite, at least 0; `None` is 1 for each.
    pub weights: Option<Vec<f32>>,
}

/// How well a model classifies examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    pub correct: u64,
    /// Rows that the classifier rejects: those with missing values, where it takes none.
    pub rejected: u64,
    pub rows: u64,
}

impl Fit {
    /// The share of correct predictions among the rows that were not rejected; `None` where all were.
    pub fn accuracy(&self) -> Option<f64> {
        let classified = self.rows.saturating_sub(self.rejected);
        (classified > 0).then(|| self.correct as f64 / classified as f64)
    }
}

/// Trains a model afresh. `config` is the learner's. Equal examples in equal order give equal bytes.
///
/// # Errors
/// When the plugin is no learner, or refuses its configuration, the signature or the examples.
pub fn train(
    plugin: Arc<Plugin>,
    limits: Limits,
    config: &serde_json::Value,
    signature: &Signature,
    examples: &Examples,
) -> Result<Vec<u8>> {
    answers::check_signature(signature).map_err(|error| anyhow!("the training data cannot be used: {error}"))?;
    let columns = signature.columns.len();
    let rows = examples.labels.len();
    ensure!(
        examples.rows.len() == rows * columns,
        "{} cells for {rows} rows of {columns} columns",
        examples.rows.len()
    );
    ensure!(examples.weights.as_ref().is_none_or(|weights| weights.len() == rows), "there must be one weight a row");
    let name = plugin.name.clone();
    let opening = Opening {
        config: config.to_string(),
        model: Arc::default(),
        signature: Some(signature.clone()),
        ..Opening::default()
    };
    let (mut learner, ()) = Instance::<LearnerPlugin>::open(plugin, limits, opening)?;
    for (at, labels) in examples.labels.chunks(BATCH_ROWS).enumerate() {
        let first = at * BATCH_ROWS;
        let matrix = matrix(examples, columns, first, labels.len());
        let weights = match &examples.weights {
            Some(weights) => weights.get(first..first + labels.len()).unwrap_or_default().to_vec(),
            None => vec![1.0; labels.len()],
        };
        let answer = learner.call(LEARN_DEADLINE, None, |guest, store| {
            guest.sandpiper_plugin_learner().call_learn(store, &matrix, labels, &weights)
        });
        answer.map_err(with_log).with_context(|| {
            format!("plugin {name} cannot learn from rows {} to {}", first + 1, first + labels.len())
        })?;
    }
    let snapshot =
        learner.call(SNAPSHOT_DEADLINE, None, |guest, store| guest.sandpiper_plugin_learner().call_snapshot(store));
    snapshot.map_err(with_log).with_context(|| format!("plugin {name} makes no model of {rows} rows"))
}

/// Opens a model as a pipeline would, with an empty configuration, and has it classify the examples.
///
/// # Errors
/// When the plugin's classifier refuses the model, or the model is one of other columns or classes.
pub fn check(
    plugin: Arc<Plugin>,
    limits: Limits,
    model: Vec<u8>,
    signature: &Signature,
    examples: &Examples,
) -> Result<Fit> {
    let name = plugin.name.clone();
    let opening = Opening { config: "{}".into(), model: Arc::new(model), ..Opening::default() };
    let (mut classifier, opened) =
        WasmClassifier::open(plugin, limits, opening).context("the model that was made is not accepted")?;
    ensure!(
        opened.classes == signature.classes,
        "plugin {name} made a model of the classes {:?} instead of {:?}",
        opened.classes,
        signature.classes
    );
    ensure!(
        names(&opened) == names(signature) && kinds(&opened).eq(kinds(signature)),
        "plugin {name} made a model of the columns {:?} instead of {:?}",
        names(&opened),
        names(signature)
    );
    let columns = signature.columns.len();
    let mut fit = Fit::default();
    for (at, labels) in examples.labels.chunks(BATCH_ROWS).enumerate() {
        let matrix = matrix(examples, columns, at * BATCH_ROWS, labels.len());
        let predictions = classifier
            .classify(&matrix, CLASSIFY_DEADLINE)
            .map_err(with_log)
            .context("the model that was made cannot classify its own rows")?;
        let rejected = |row: usize| predictions.rejected.iter().any(|rejection| rejection.row as usize == row);
        let classified = predictions.labels.iter().zip(labels).enumerate().filter(|(row, _)| !rejected(*row));
        fit.correct += classified.filter(|(_, (label, truth))| label == truth).count() as u64;
        fit.rejected += predictions.rejected.len() as u64;
        fit.rows += labels.len() as u64;
    }
    Ok(fit)
}

fn matrix(examples: &Examples, columns: usize, first: usize, rows: usize) -> Matrix {
    let cells = examples.rows.get(first * columns..(first + rows) * columns).unwrap_or_default();
    // A signature that was checked has far fewer.
    Matrix { columns: u32::try_from(columns).unwrap_or(u32::MAX), values: cells.to_vec() }
}

fn names(signature: &Signature) -> Vec<&str> {
    signature.columns.iter().map(|column| column.name.as_str()).collect()
}

/// The categories of each column; `None` for numbers.
fn kinds(signature: &Signature) -> impl Iterator<Item = Option<&[String]>> {
    signature.columns.iter().map(|column| match &column.kind {
        Kind::Number => None,
        Kind::Category(names) => Some(names.as_slice()),
    })
}

/// A failed call's message, with the last lines that the plugin logged.
fn with_log(failure: Failure) -> anyhow::Error {
    anyhow!(failure.with_last_words())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandpiper_sandbox::Engine;
    use sandpiper_sandbox::stock;
    use sandpiper_sandbox::wit::latest::Column;

    fn plugin(name: &str) -> Arc<Plugin> {
        let engine = Engine::new(None, sandpiper_sandbox::Compiler::InProcess).unwrap();
        Arc::new(Plugin::load(&engine, name, stock::component(name).unwrap()).unwrap())
    }

    fn signature() -> Signature {
        let number = |name: &str| Column { name: name.into(), kind: Kind::Number };
        Signature { columns: vec![number("x"), number("y")], classes: vec!["high".into(), "low".into()] }
    }

    /// Two clusters along x, more than one batch of them.
    fn separable() -> Examples {
        let mut examples = Examples::default();
        for step in 0..1_500u32 {
            let label = step % 2;
            examples.rows.extend([label as f32 * -20.0 + (step % 7) as f32, (step % 3) as f32]);
            examples.labels.push(label);
        }
        examples
    }

    #[test]
    fn a_separable_set_is_learned_by_the_stock_learner() {
        let (plugin, examples) = (plugin("logistic"), separable());
        let learn = || train(plugin.clone(), limits(), &serde_json::json!({}), &signature(), &examples).unwrap();
        let model = learn();
        assert_eq!(model, learn(), "equal learning gives equal bytes");
        let fit = check(plugin.clone(), limits(), model, &signature(), &examples).unwrap();
        assert_eq!(fit, Fit { correct: 1_500, rejected: 0, rows: 1_500 });
        assert_eq!(fit.accuracy(), Some(1.0));
    }

    #[test]
    fn a_row_of_weight_zero_teaches_nothing_and_a_missing_cell_is_counted() {
        let (plugin, mut examples) = (plugin("logistic"), separable());
        let config = serde_json::json!({});
        let model = train(plugin.clone(), limits(), &config, &signature(), &examples).unwrap();
        examples.rows.extend([0.0, 0.0, f32::NAN, 0.0]);
        examples.labels.extend([1, 1]);
        examples.weights = Some((0..1_502).map(|row| if row == 1_500 { 0.0 } else { 1.0 }).collect());
        assert_eq!(model, train(plugin.clone(), limits(), &config, &signature(), &examples).unwrap());
        let fit = check(plugin, limits(), model, &signature(), &examples).unwrap();
        assert_eq!((fit.rejected, fit.rows), (1, 1_502));
    }

    #[test]
    fn what_cannot_be_learned_is_refused_with_the_plugins_own_message() {
        let learn = |name: &str, config: serde_json::Value, examples: &Examples| {
            format!("{:#}", train(plugin(name), limits(), &config, &signature(), examples).unwrap_err())
        };
        assert!(learn("csv", serde_json::json!({}), &separable()).contains("cannot be a learner"));
        assert!(learn("logistic", serde_json::json!({ "alfa": 1 }), &separable()).contains("`alfa`"));
        let one_class = Examples { rows: vec![1.0, 2.0], labels: vec![0], weights: None };
        assert!(learn("logistic", serde_json::json!({}), &one_class).contains("`low`"));
        let too_few_cells = Examples { rows: vec![1.0], labels: vec![0], weights: None };
        assert!(learn("logistic", serde_json::json!({}), &too_few_cells).contains("1 cells for 1 rows of 2 columns"));
    }

    #[test]
    fn a_model_of_other_classes_is_not_accepted_as_the_one_that_was_asked_for() {
        let (plugin, examples) = (plugin("logistic"), separable());
        let model = train(plugin.clone(), limits(), &serde_json::json!({}), &signature(), &examples).unwrap();
        let mut other = signature();
        other.classes.reverse();
        let error = check(plugin, limits(), model, &other, &examples).unwrap_err();
        assert!(error.to_string().contains("classes"), "{error}");
    }
}
