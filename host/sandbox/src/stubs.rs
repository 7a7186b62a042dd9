//! What a plugin may import and must not call. Tools link the whole of WASI into what they make, as componentize-py its
//! sockets and componentize-js HTTP, whether anybody calls it or not; each such function traps, and nothing stands behind it.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use crate::state::State;

/// The host's type of each resource that is not granted. There is no value of it.
enum Nothing {}

/// Whether that interface is stubbed where a component imports it.
pub(super) fn is_stubbed(import: &str) -> bool {
    ["wasi:sockets/", "wasi:http/"].iter().any(|prefix| import.starts_with(prefix)) && import.contains("@0.2.")
}

/// Defines what a component imports of such interfaces.
pub(super) fn add(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    // What wasmtime's own WASI has of sockets is replaced.
    linker.allow_shadowing(true);
    let (engine, kind) = (component.engine(), component.component_type());
    // A resource that an interface only uses, as HTTP uses streams, is the one that was imported before.
    let mut known = Vec::new();
    for (interface, import) in kind.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        let mut stub = if is_stubbed(interface) { Some(linker.instance(interface)?) } else { None };
        for (name, export) in instance.exports(engine) {
            match (export.ty, &mut stub) {
                (ComponentItem::Resource(resource), _) if known.contains(&resource) => {}
                (ComponentItem::Resource(resource), stub) => {
                    known.push(resource);
                    if let Some(stub) = stub {
                        stub.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
                    }
                }
                (ComponentItem::ComponentFunc(_), Some(stub)) => add_function(stub, interface, name)?,
                _ => {}
            }
        }
    }
    linker.allow_shadowing(false);
    Ok(())
}

fn add_function(stub: &mut LinkerInstance<'_, State>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let called = format!("{interface} {name}");
    stub.func_new(name, move |_, _, _, _| {
        Err(wasmtime::Error::msg(format!("it called {called}, which is a stub: no plugin is granted a network")))
    })
}
