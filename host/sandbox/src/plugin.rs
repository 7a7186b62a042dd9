//! A component as loaded: what it exports and imports, and whether this host can run it.

use anyhow::{Result, bail};
use wasmtime::component::{Component, InstancePre};

use crate::Digest;
use crate::engine::Engine;
use crate::shape;
use crate::state::State;
use crate::wit::latest::{PACKAGE, VERSION};

/// What a plugin can be.
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

/// A compiled component whose imports are all granted.
#[derive(Clone)]
pub struct Plugin {
    /// For people: a stock name, or the file's stem.
    pub name: String,
    pub digest: Digest,
    /// Bytes of the component.
    pub size: usize,
    /// Names of the exported interfaces, in the component's order.
    pub exports: Vec<String>,
    /// Names of the imported interfaces, in the component's order.
    pub imports: Vec<String>,
    pub(super) engine: Engine,
    pub(super) pre: InstancePre<State>,
}

/// A compiled component, whether or not its imports are granted: what can be said of it before it is linked.
pub struct Described {
    pub digest: Digest,
    pub size: usize,
    pub exports: Vec<String>,
    pub imports: Vec<String>,
    component: Component,
}

impl Described {
    /// # Errors
    /// When the bytes are no component, or compiling fails; the message says what it is and what is needed.
    pub fn of(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self> {
        check_is_component(name, bytes)?;
        shape::check(name, bytes)?;
        let component = engine.compile(bytes).map_err(|error| {
            anyhow::anyhow!("plugin {name} is not a valid component: {error:#}; build it anew for wasm32-wasip2")
        })?;
        Ok(Self {
            digest: Digest::of(bytes),
            size: bytes.len(),
            exports: names(&component, Names::Exports),
            imports: names(&component, Names::Imports),
            component,
        })
    }

    /// The interfaces of ours that it exports.
    pub fn interfaces(&self) -> Vec<Interface> {
        Interface::ALL.into_iter().filter(|interface| self.exports.contains(&interface.export())).collect()
    }

    /// # Errors
    /// When it imports what no plugin is granted; the message names the surplus and the way out.
    pub fn link(self, engine: &Engine, name: &str) -> Result<Plugin> {
        let Self { digest, size, exports, imports, component } = self;
        let surplus: Vec<&str> = imports.iter().map(String::as_str).filter(|name| !is_granted(name)).collect();
        if !surplus.is_empty() {
            bail!(
                "plugin {name} imports {}, which no plugin is granted; granted are {PACKAGE}@{VERSION}'s log and \
                 record-context, and of WASI 0.2 cli, io, clocks, random and an empty filesystem: remove the call \
                 that needs it",
                surplus.join(", ")
            );
        }
        let pre = engine.linker.instantiate_pre(&component).map_err(|error| {
            anyhow::anyhow!(
                "plugin {name} imports functions in a form that this host does not offer: {error:#}; build it against \
                 {PACKAGE}@{VERSION}"
            )
        })?;
        Ok(Plugin { name: name.to_owned(), digest, size, exports, imports, engine: engine.clone(), pre })
    }
}

impl Plugin {
    /// Compiles a component and links it against what plugins may import.
    ///
    /// # Errors
    /// When the bytes are no component, when compiling fails, or when it imports what no plugin is granted;
    /// the message says what it is, what is needed, and how to get there.
    pub fn load(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self> {
        Described::of(engine, name, bytes)?.link(engine, name)
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
    const HOW: &str = "build it with `cargo build --release --target wasm32-wasip2`";
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => bail!(
            "plugin {name} is a core WebAssembly module; a component is needed: {HOW}, or wrap it with \
             `wasm-tools component new`"
        ),
        [0, b'a', b's', b'm', ..] => {
            bail!("plugin {name} is WebAssembly of an unknown version; a component is needed: {HOW}")
        }
        [] => bail!("plugin {name} is an empty file; a component is needed: {HOW}"),
        _ => bail!(
            "plugin {name} is no WebAssembly (it starts with {:02x?}); a component is needed: {HOW}",
            bytes.get(..4).unwrap_or(bytes)
        ),
    }
}

enum Names {
    Exports,
    Imports,
}

fn names(component: &Component, which: Names) -> Vec<String> {
    let (kind, engine) = (component.component_type(), component.engine());
    match which {
        Names::Exports => kind.exports(engine).map(|(name, _)| name.to_owned()).collect(),
        Names::Imports => kind.imports(engine).map(|(name, _)| name.to_owned()).collect(),
    }
}

/// Whether a plugin may import that. Everything of WASI here is inert: no files, no environment, no arguments.
pub fn is_granted(import: &str) -> bool {
    let ours = [
        format!("{PACKAGE}/types@{VERSION}"),
        format!("{PACKAGE}/log@{VERSION}"),
        format!("{PACKAGE}/record-context@{VERSION}"),
    ];
    let wasi = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"];
    ours.iter().any(|name| name == import)
        || wasi.iter().any(|prefix| import.starts_with(prefix)) && import.contains("@0.2.")
}
