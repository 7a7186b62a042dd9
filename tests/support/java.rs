//! Java programs of one file each, run with Kafka's own classes: the reference that our clients must agree with.

use super::root;
use crate::kafka::jars;
use anyhow::{Result, ensure};

/// Runs `tests/java/{file}`; returns what it prints.
pub fn run(file: &str, arguments: &[&str]) -> Result<String> {
    let output = jars::java()?.arg(root().join("tests/java").join(file)).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{file} failed ({}):\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
