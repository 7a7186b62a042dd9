//! `plugin inspect`: what a component exports and imports, and whether this host would run it. It is compiled and
//! instantiated as for a pipeline with default limits; only `open`, which needs a configuration, is not called.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::compile_component::Compilation;
use super::{Failure, Global, Outcome, Output};
use crate::config::plan::PluginRef;
use crate::control::staging;
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::instance;
use sandpiper_sandbox::plugin::{Grant, grant};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::wit::latest::{PACKAGE, VERSION};
use sandpiper_sandbox::{Engine, Interface, Limits, UnlinkedPlugin};

/// Components, looked at without a pipeline.
#[derive(Args)]
pub struct Plugin {
    #[command(subcommand)]
    verb: PluginVerb,
}

#[derive(Subcommand)]
enum PluginVerb {
    /// What a component exports and imports, and whether this host would run it.
    #[command(
        after_help = "Examples:\n  sandpiper plugin inspect ./mine.wasm\n  sandpiper plugin inspect logistic -o json\n\n\
        The exit code is 1 when this host would refuse it."
    )]
    Inspect {
        /// A stock name, or a component file.
        plugin: String,
        #[command(flatten)]
        compilation: Compilation,
    },
}

impl Plugin {
    pub fn run(self, global: &Global) -> Outcome {
        let PluginVerb::Inspect { plugin, compilation } = self.verb;
        let (name, component) = staging::component(&named(&plugin)?)?;
        let inspection = inspect(&Engine::new(None, compilation.compiler())?, &name, &component)?;
        match global.output {
            Output::Json => super::print_json(&inspection)?,
            Output::Text => super::print(&render(&inspection))?,
        };
        if inspection.refused.is_some() { Err(Failure::Reported(1)) } else { Ok(()) }
    }
}

/// The plugin that an argument names: a file when it has a slash or ends in `.wasm`, and otherwise a stock plugin.
///
/// # Errors
/// When there is no stock plugin of that name.
pub fn named(plugin: &str) -> Result<PluginRef> {
    if plugin.contains('/') || plugin.ends_with(".wasm") {
        return Ok(PluginRef::Path(plugin.into()));
    }
    if stock::component(plugin).is_none() {
        bail!(
            "{plugin:?} is no stock plugin; there are {}; a file is named with a slash or .wasm",
            stock::names().join(", ")
        );
    }
    Ok(PluginRef::Stock(plugin.to_owned()))
}

#[derive(Serialize)]
struct Inspection {
    name: String,
    digest: Digest,
    /// Bytes.
    size: usize,
    /// The stages of a pipeline that it can take.
    interfaces: Vec<Interface>,
    /// Version of our WIT package that it was built against; `None` when it exports nothing of it.
    wit: Option<String>,
    exports: Vec<String>,
    imports: Vec<Import>,
    /// Why this host would not run it.
    refused: Option<String>,
}

#[derive(Serialize)]
struct Import {
    name: String,
    granted: bool,
    /// It traps when it is called, and may be imported.
    stubbed: bool,
}

fn inspect(engine: &Engine, name: &str, component: &[u8]) -> Result<Inspection> {
    let plugin = UnlinkedPlugin::compile(engine, name, component)?;
    let (digest, size, interfaces) = (plugin.digest, plugin.size, plugin.interfaces());
    let exports = plugin.exports.clone();
    let imports = plugin.imports.iter().map(|name| {
        let grant = grant(name);
        Import { name: name.clone(), granted: grant == Grant::Granted, stubbed: grant == Grant::Stubbed }
    });
    let imports = imports.collect();
    let wit_version = |export: &String| {
        export.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@').map(|(_, version)| version.to_owned())
    };
    let wit = exports.iter().find_map(wit_version);
    let tried = plugin.link(engine).map(Arc::new).and_then(|plugin| {
        interfaces.iter().try_for_each(|interface| instance::probe(&plugin, *interface, Limits::default()))
    });
    let refused = match tried {
        Err(error) => Some(format!("{error:#}")),
        Ok(()) if interfaces.is_empty() => Some(format!(
            "plugin {name} exports no interface of {PACKAGE}@{VERSION}: a pipeline has no stage for it; export one of {}",
            Interface::ALL.map(Interface::name).join(", ")
        )),
        Ok(()) => None,
    };
    Ok(Inspection { name: name.to_owned(), digest, size, interfaces, wit, exports, imports, refused })
}

fn render(inspection: &Inspection) -> String {
    let interfaces: Vec<&str> = inspection.interfaces.iter().map(|interface| interface.name()).collect();
    let usable = if interfaces.is_empty() { "nothing".to_owned() } else { interfaces.join(", ") };
    let wit = match &inspection.wit {
        Some(version) if version == VERSION => format!("{PACKAGE}@{version}"),
        Some(version) => format!("{PACKAGE}@{version}; this host speaks {VERSION}"),
        None => format!("nothing of {PACKAGE}"),
    };
    let mut text = format!(
        "{}\n  digest   {}\n  size     {} bytes\n  wit      {wit}\n  usable   {usable}\n",
        inspection.name,
        inspection.digest,
        super::table::grouped(inspection.size as u64),
    );
    text.push_str("  exports\n");
    for export in &inspection.exports {
        text.push_str(&format!("    {export}\n"));
    }
    text.push_str("  imports\n");
    for Import { name, granted, stubbed } in &inspection.imports {
        let what = match (granted, stubbed) {
            (true, _) => "granted    ",
            (_, true) => "stubbed    ",
            _ => "NOT GRANTED",
        };
        text.push_str(&format!("    {what} {name}\n"));
    }
    match &inspection.refused {
        Some(why) => text.push_str(&format!("  this host would refuse it: {why}\n")),
        None => text.push_str("  this host would run it\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use sandpiper_sandbox::Compiler;

    use super::*;

    fn inspection_of(name: &str) -> Inspection {
        inspect(&Engine::new(None, Compiler::InProcess).unwrap(), name, stock::component(name).unwrap()).unwrap()
    }

    #[test]
    fn a_stock_plugin_shows_its_interfaces_and_that_its_imports_are_granted() {
        let inspection = inspection_of("logistic");
        assert_eq!(inspection.interfaces, [Interface::Classifier, Interface::Learner]);
        assert_eq!(inspection.wit.as_deref(), Some(VERSION));
        assert!(inspection.refused.is_none() && inspection.imports.iter().all(|import| import.granted));
        let text = render(&inspection);
        assert!(text.contains("usable   classifier, learner") && text.contains("this host would run it"), "{text}");
        let json = serde_json::to_value(&inspection).unwrap();
        assert_eq!(json["interfaces"], serde_json::json!(["classifier", "learner"]));
        assert!(json["refused"].is_null());
    }

    /// `(component (import "wasi:keyvalue/store@0.2.0" (instance)))`, assembled by hand.
    fn store_importer() -> Vec<u8> {
        let name = b"wasi:keyvalue/store@0.2.0";
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        component.extend([7, 3, 1, 0x42, 0]);
        component.extend([10, name.len() as u8 + 5, 1, 0, name.len() as u8]);
        component.extend_from_slice(name);
        component.extend([5, 0]);
        component
    }

    #[test]
    fn an_import_that_is_not_granted_is_named() {
        let inspection =
            inspect(&Engine::new(None, Compiler::InProcess).unwrap(), "caller", &store_importer()).unwrap();
        let text = render(&inspection);
        assert!(text.contains("NOT GRANTED wasi:keyvalue/store@0.2.0"), "{text}");
        assert!(text.contains("this host would refuse it: plugin caller imports wasi:keyvalue/store@0.2.0"), "{text}");
    }

    /// A scorer that lacks its functions, so that it says no more about itself than its name.
    #[test]
    fn what_only_an_instance_shows_is_refused_here_too() {
        let scorer = wat::parse_str(
            r#"(component (core module $m) (core instance (instantiate $m)) (instance $api)
                (export "sandpiper:plugin/scorer@0.1.0" (instance $api)))"#,
        );
        let engine = Engine::new(None, Compiler::InProcess).unwrap();
        let refused = inspect(&engine, "mine", &scorer.unwrap()).unwrap().refused.unwrap();
        assert!(refused.contains("plugin mine cannot be instantiated") && refused.contains("score"), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_component_is_refused_with_what_it_is() {
        let engine = Engine::new(None, Compiler::InProcess).unwrap();
        let error = |bytes: &[u8]| inspect(&engine, "mine", bytes).err().unwrap().to_string();
        assert!(error(b"\0asm\x01\0\0\0").contains("core WebAssembly module"));
        assert!(error(b"").contains("empty file"));
        assert!(error(b"#!/bin/sh").contains("no WebAssembly"));
    }

    #[test]
    fn a_bare_word_is_a_stock_plugin_and_a_slash_or_an_ending_is_a_file() {
        assert_eq!(named("csv").unwrap(), PluginRef::Stock("csv".into()));
        assert_eq!(named("./csv").unwrap(), PluginRef::Path("./csv".into()));
        assert_eq!(named("csv.wasm").unwrap(), PluginRef::Path("csv.wasm".into()));
        assert!(named("cvs").unwrap_err().to_string().contains("csv"));
    }
}
