//! The fuzz targets' seeds, fed to the same entry points: so that neither rots while nobody fuzzes.

use anyhow::{Context as _, Result, bail, ensure};

#[path = "../fuzz/entries.rs"]
mod entries;

pub fn run() -> Result<String> {
    let seeds = crate::root().join("tests/fuzz/seeds");
    let mut fed = Vec::new();
    for target in std::fs::read_dir(&seeds).with_context(|| seeds.display().to_string())? {
        let target = target?;
        let name = target.file_name().to_string_lossy().into_owned();
        let enter = match name.as_str() {
            "config" => entries::config,
            "label" => entries::label,
            "prediction" => entries::prediction,
            "pointer" => entries::pointer,
            "component" => entries::component,
            _ => bail!("no fuzz target is called {name}"),
        };
        let files: Vec<_> = std::fs::read_dir(target.path())?.collect::<Result<_, _>>()?;
        ensure!(!files.is_empty(), "{name} has no seeds");
        for file in &files {
            let bytes = std::fs::read(file.path())?;
            let entered = std::panic::catch_unwind(|| enter(&bytes));
            ensure!(entered.is_ok(), "{} panics", file.path().display());
        }
        fed.push(format!("{} of {name}", files.len()));
    }
    fed.sort();
    Ok(fed.join(", "))
}
