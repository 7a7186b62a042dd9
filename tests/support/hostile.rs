//! Components for tests: those that misbehave on purpose, and stock plugins where they do not belong.
//!
//! Built by a cargo of its own, since the target and the profile are not those of the tests.

use super::{root, target};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Prefixes of the environment variables that cargo set for the build of the tests: the components' build must not have them.
const CARGO_VARIABLES: [&str; 14] = [
    "CARGO_BIN_",
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_CRATE_",
    "CARGO_ENCODED_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
];

/// Name → component, of every library of a manifest.
type Components = BTreeMap<String, PathBuf>;

/// `parser`, `classifier`, `transform` or `scorer` of `tests/hostile`: they misbehave as their configuration says.
pub fn hostile(name: &str) -> Result<PathBuf> {
    component(&root().join("tests/hostile").join(name).join("Cargo.toml"), &format!("sandpiper_hostile_{name}"))
}

/// A stock plugin as a file.
pub fn stock(name: &str) -> Result<PathBuf> {
    component(&root().join("plugins").join(name).join("Cargo.toml"), &format!("sandpiper_{name}"))
}

/// A component that imports one interface, which no host offers, and exports nothing. It is written byte by byte, since no
/// toolchain makes it.
pub fn importing(interface: &str) -> Vec<u8> {
    let name = interface.as_bytes();
    let length = name.len() as u8;
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    // Section 7, types: one, an instance type (0x42) of no declarations.
    component.extend([7, 3, 1, 0x42, 0]);
    // Section 10, imports: one, of that name, an instance (5) of type 0.
    component.extend([10, length + 5, 1, 0, length]);
    component.extend(name);
    component.extend([5, 0]);
    component
}

fn component(manifest: &Path, name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<PathBuf, Components>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !built.contains_key(manifest) {
        built.insert(manifest.to_path_buf(), build(manifest)?);
    }
    let components = built.get(manifest).cloned().unwrap_or_default();
    let names: Vec<&String> = components.keys().collect();
    components
        .get(name)
        .cloned()
        .with_context(|| format!("{} builds no component {name}, but {names:?}", manifest.display()))
}

fn build(manifest: &Path) -> Result<Components> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| CARGO_VARIABLES.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    // The profile and the target directory of the stock plugins, which are built already.
    cargo.args([
        "build",
        "--locked",
        "--profile",
        "plugin",
        "--target",
        "wasm32-wasip2",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let manifest = manifest.canonicalize().with_context(|| format!("there is no {}", manifest.display()))?;
    cargo.arg("--manifest-path").arg(&manifest).arg("--target-dir").arg(target()?.join("plugins"));
    let output = cargo.output().context("cannot run cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} does not build (rustup target add wasm32-wasip2?):\n{errors}",
        manifest.display()
    );
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|message| artifact(&message))
        .collect())
}

/// Name and file of a component among cargo's messages.
fn artifact(message: &Value) -> Option<(String, PathBuf)> {
    let files = message["filenames"].as_array().filter(|_| message["reason"] == "compiler-artifact")?;
    let wasm = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"))?;
    Some((message["target"]["name"].as_str()?.replace('-', "_"), wasm.into()))
}
