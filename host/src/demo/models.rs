//! The demonstration's two models, trained by the stock plugins: a tree on two of the four columns, and a better one on all.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::flowers::{CLASSES, COLUMNS, Flower};
use crate::authoring::train::{self, Examples};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::wit::latest::{Column, Kind, Signature};
use sandpiper_sandbox::{Compiler, Engine, Plugin};

/// A plugin and the model that it was trained to.
pub struct Model {
    /// A stock name.
    pub plugin: &'static str,
    pub bytes: Vec<u8>,
}

pub struct Models {
    /// A tree on the sepals alone.
    pub first: Model,
    /// Logistic regression on all four columns.
    pub better: Model,
}

impl Models {
    /// Trains both. Compiled plugins are cached in `code`, where the daemon finds them.
    ///
    /// # Errors
    /// When the directory cannot be used, or a plugin cannot be run or trained.
    pub fn train(flowers: &[Flower], code: &Path, compiler: Compiler) -> Result<Self> {
        let engine = Engine::new(Some(code), compiler)?;
        Ok(Self {
            first: train_model(&engine, "tree", 2, flowers)?,
            better: train_model(&engine, "logistic", COLUMNS.len(), flowers)?,
        })
    }
}

/// Trains a model on the first `columns` columns.
fn train_model(engine: &Engine, plugin: &'static str, columns: usize, flowers: &[Flower]) -> Result<Model> {
    let component = stock::component(plugin).with_context(|| format!("there is no stock plugin {plugin}"))?;
    let loaded = Arc::new(Plugin::load(engine, plugin, component)?);
    let number = |name: &&str| Column { name: (*name).to_owned(), kind: Kind::Number };
    let signature = Signature {
        columns: COLUMNS.iter().take(columns).map(number).collect(),
        classes: CLASSES.iter().map(|class| (*class).to_owned()).collect(),
    };
    let examples = Examples {
        rows: flowers.iter().flat_map(|flower| flower.cells.iter().take(columns)).copied().collect(),
        labels: flowers.iter().map(|flower| u32::try_from(flower.class).unwrap_or_default()).collect(),
        weights: None,
    };
    let bytes = train::train(loaded, train::limits(), &serde_json::json!({}), &signature, &examples)?;
    Ok(Model { plugin, bytes })
}
