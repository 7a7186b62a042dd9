//! The two models, taught by the stock plugins themselves: one that sees half of each flower, and a better one.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::flowers::{CLASSES, COLUMNS, Flower};
use crate::authoring::train::{self, Examples};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::wit::latest::{Column, Kind, Signature};
use sandpiper_sandbox::{Engine, Plugin};

/// A plugin and what it learned.
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
    /// `code` keeps what is compiled, for the daemon to find.
    ///
    /// # Errors
    /// When the directory cannot be used, or a plugin cannot be run or taught.
    pub fn learn(flowers: &[Flower], code: &Path) -> Result<Self> {
        let engine = Engine::new(Some(code))?;
        Ok(Self {
            first: learn(&engine, "tree", 2, flowers)?,
            better: learn(&engine, "logistic", COLUMNS.len(), flowers)?,
        })
    }
}

/// From the first `columns` columns.
fn learn(engine: &Engine, plugin: &'static str, columns: usize, flowers: &[Flower]) -> Result<Model> {
    let component = stock::component(plugin).with_context(|| format!("there is no stock plugin {plugin}"))?;
    let loaded = Arc::new(Plugin::load(engine, plugin, component)?);
    let number = |name: &&str| Column { name: (*name).to_owned(), kind: Kind::Number };
    let signature = Signature {
        columns: COLUMNS.iter().take(columns).map(number).collect(),
        classes: CLASSES.iter().map(|class| (*class).to_owned()).collect(),
    };
    let examples = Examples {
        rows: flowers.iter().flat_map(|flower| flower.cells.iter().take(columns)).copied().collect(),
        labels: flowers.iter().map(|flower| flower.class as u32).collect(),
        weights: None,
    };
    let bytes = train::train(loaded, train::limits(), &serde_json::json!({}), &signature, &examples)?;
    Ok(Model { plugin, bytes })
}
