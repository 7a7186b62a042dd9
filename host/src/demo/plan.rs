//! The demonstration's pipeline, as a user would write it into a file.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::broker::Broker;
use super::flowers::COLUMNS;
use crate::config;
use crate::config::plan::Plan;
use sandpiper_sandbox::stock;

/// The first model's file.
pub const MODEL: &str = "sepals.json";

/// `directory` holds the model's file.
///
/// # Errors
/// When the broker's address is invalid.
pub fn plan(name: &str, broker: &Broker, plugin: &str, directory: &Path) -> Result<Plan> {
    let text = text(name, broker, plugin);
    let plan = config::parse(&directory.join("pipeline.toml"), &text, &stock::names(), &|_| None);
    plan.map_err(|mistakes| anyhow!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn text(name: &str, broker: &Broker, plugin: &str) -> String {
    let address = toml::Value::from(broker.address.as_str());
    let columns = toml::Value::from(COLUMNS.to_vec());
    // The mock answers a fetch that finds nothing only after its full wait, even when a record comes earlier.
    let fetch = if broker.is_mock { "fetch.wait.max.ms = 20" } else { "" };
    let guarantee = if broker.is_mock { "at-least-once" } else { "exactly-once" };
    format!(
        r#"
        name = "{name}"

        [kafka]
        bootstrap.servers = {address}
        {fetch}

        [input]
        topics = ["{name}.measurements"]
        id     = "key"

        [parse]
        plugin = "csv"
        config = {{ columns = {columns} }}

        [classify]
        plugin = "{plugin}"
        model  = "{MODEL}"

        [output]
        topic = "{name}.predictions"

        [feedback]
        labels = "{name}.labels"
        score  = {{ plugin = "loss", config = {{ metric = "error" }} }}

        [delivery]
        guarantee = "{guarantee}"
        "#
    )
}
