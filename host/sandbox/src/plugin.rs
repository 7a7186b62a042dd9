//! From a component's bytes to a plugin that can be opened: it is compiled, its imports are checked against what is
//! granted, and it is linked. Nothing of the guest runs here.

use anyhow::{Context as _, Result, bail};
use wasmtime::component::{Component, InstancePre, Linker};

use crate::Digest;
use crate::complexity;
use crate::engine::Engine;
use crate::plugin_log::LogRate;
use crate::state::State;
use crate::stubs;
use crate::wit::latest::{PACKAGE, VERSION};

/// An interface that a plugin can export: the stage that it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    Parser,
    Classifier,
    Learner,
    Scorer,
    Transform,
}

impl Interface {
    pub const ALL: [Self; 5] = [Self::Parser, Self::Classifier, Self::Learner, Self::Scorer, Self::Transform];

    pub fn name(self) -> &'static str {
        match self {
            Self::Parser => "parser",
            Self::Classifier => "classifier",
            Self::Learner => "learner",
            Self::Scorer => "scorer",
            Self::Transform => "transform",
        }
    }

    fn export(self) -> String {
        format!("{PACKAGE}/{}@{VERSION}", self.name())
    }
}

/// A component that is compiled and not linked yet: it may import what no plugin is granted.
pub struct UnlinkedPlugin {
    name: String,
    pub digest: Digest,
    /// Bytes of the component.
    pub size: usize,
    /// Names of the exported interfaces, in the component's order.
    pub exports: Vec<String>,
    /// Names of the imported interfaces, in the component's order.
    pub imports: Vec<String>,
    component: Component,
}

impl UnlinkedPlugin {
    /// # Errors
    /// When the bytes are no component, or compiling fails; the message says what it is and what is needed.
    pub fn compile(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self> {
        check_is_component(name, bytes)?;
        complexity::check(name, bytes)?;
        let digest = Digest::of(bytes);
        let component = engine.compile(bytes, digest).with_context(|| format!("plugin {name} cannot be compiled"))?;
        let (kind, engine) = (component.component_type(), component.engine());
        Ok(Self {
            name: name.to_owned(),
            digest,
            size: bytes.len(),
            exports: kind.exports(engine).map(|(name, _)| name.to_owned()).collect(),
            imports: kind.imports(engine).map(|(name, _)| name.to_owned()).collect(),
            component,
        })
    }

    /// The interfaces of ours that it exports.
    pub fn interfaces(&self) -> Vec<Interface> {
        Interface::ALL.into_iter().filter(|interface| self.exports.contains(&interface.export())).collect()
    }

    /// # Errors
    /// When it imports what no plugin is granted; the message names the surplus and the way out.
    pub fn link(self, engine: &Engine) -> Result<Plugin> {
        let Self { name, digest, exports, imports, component, .. } = self;
        let surplus: Vec<&str> =
            imports.iter().map(String::as_str).filter(|name| grant(name) == Grant::Refused).collect();
        if !surplus.is_empty() {
            bail!(
                "plugin {name} imports {}, which no plugin is granted; granted are {PACKAGE}@{VERSION}'s log and \
                 record-context, and of WASI 0.2 cli, io, clocks, random and an empty filesystem: remove the call \
                 that needs it",
                surplus.join(", ")
            );
        }
        let mut linker = Linker::clone(&engine.linker);
        let linked = stubs::add(&mut linker, &component).and_then(|()| linker.instantiate_pre(&component));
        let pre = linked.map_err(|error| {
            anyhow::anyhow!(
                "plugin {name} imports functions in a form that this host does not offer: {error:#}; build it against \
                 {PACKAGE}@{VERSION}"
            )
        })?;
        Ok(Plugin { name, digest, exports, log_rate: LogRate::default(), engine: engine.clone(), pre })
    }
}

/// A compiled component whose imports are all granted.
#[derive(Clone)]
pub struct Plugin {
    /// For people: a stock name, or the file's stem.
    pub name: String,
    pub digest: Digest,
    /// Names of the exported interfaces, in the component's order.
    pub exports: Vec<String>,
    /// Of all of its instances together.
    pub(super) log_rate: LogRate,
    pub(super) engine: Engine,
    pub(super) pre: InstancePre<State>,
}

impl Plugin {
    /// Compiles a component and links it against what plugins may import.
    ///
    /// # Errors
    /// When the bytes are no component, when compiling fails, or when it imports what no plugin is granted;
    /// the message says what it is, what is needed, and how to get there.
    pub fn load(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self> {
        UnlinkedPlugin::compile(engine, name, bytes)?.link(engine)
    }

    /// # Errors
    /// When it does not export that interface; the message names both sides and the fix.
    pub fn require(&self, interface: Interface) -> Result<()> {
        let needed = interface.export();
        if self.exports.contains(&needed) {
            return Ok(());
        }
        let prefix = format!("{PACKAGE}/{}@", interface.name());
        if let Some(other) = self.exports.iter().find(|export| export.starts_with(&prefix)) {
            bail!(
                "plugin {} exports {other}, this host speaks {needed}: rebuild it against {PACKAGE}@{VERSION}",
                self.name
            );
        }
        let found = if self.exports.is_empty() { "nothing".to_owned() } else { self.exports.join(", ") };
        bail!(
            "plugin {} cannot be a {name}: it exports {found}, a {name} exports {needed}; implement the {name} \
             interface, or name this plugin in the stage that it was made for",
            self.name,
            name = interface.name(),
        )
    }
}

fn check_is_component(name: &str, bytes: &[u8]) -> Result<()> {
    const HOW_TO_BUILD: &str = "build it with `cargo build --release --target wasm32-wasip2`";
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => bail!(
            "plugin {name} is a core WebAssembly module; a component is needed: {HOW_TO_BUILD}, or wrap it with \
             `wasm-tools component new`"
        ),
        [0, b'a', b's', b'm', ..] => {
            bail!("plugin {name} is WebAssembly of an unknown version; a component is needed: {HOW_TO_BUILD}")
        }
        [] => bail!("plugin {name} is an empty file; a component is needed: {HOW_TO_BUILD}"),
        _ => bail!(
            "plugin {name} is no WebAssembly (it starts with {:02x?}); a component is needed: {HOW_TO_BUILD}",
            bytes.get(..4).unwrap_or(bytes)
        ),
    }
}

/// What becomes of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It is offered. What is granted of WASI gives access to nothing: no files, no environment, no arguments.
    Granted,
    /// It may be imported, and traps when it is called.
    Stubbed,
    /// A component that imports it is no plugin.
    Refused,
}

/// What becomes of the import of that interface.
pub fn grant(import: &str) -> Grant {
    let ours = [
        format!("{PACKAGE}/types@{VERSION}"),
        format!("{PACKAGE}/log@{VERSION}"),
        format!("{PACKAGE}/record-context@{VERSION}"),
    ];
    let wasi = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"];
    let is_granted = ours.iter().any(|name| name == import)
        || wasi.iter().any(|prefix| import.starts_with(prefix)) && import.contains("@0.2.");
    match (is_granted, stubs::is_stubbed(import)) {
        (true, _) => Grant::Granted,
        (false, true) => Grant::Stubbed,
        (false, false) => Grant::Refused,
    }
}
