//! Bounds on how a component is built, checked before it is compiled: a file of a kilobyte can instantiate itself two to
//! the power of thirty times, and the compiler lays all of that out.
//!
//! This is no validation: what cannot be parsed passes here, and the compiler says what is wrong with it.

use anyhow::{Result, ensure};
use wasmparser::{ComponentInstance, Instance, Parser, Payload};

/// Levels of components within components. A compiler makes two; composing plugins adds one each time.
const MAX_DEPTH: usize = 32;
/// Instantiations of components in the whole file. Each may hold the one before it several times, so that n of them make
/// at most 3^(n/3) instances: 350 here.
const MAX_COMPONENTS: usize = 16;
/// Instantiations of modules in the whole file. The limit of a store, 32 instances, holds besides.
const MAX_MODULES: usize = 64;

/// # Errors
/// When the component nests deeper or instantiates more than any plugin needs to.
pub fn check(name: &str, bytes: &[u8]) -> Result<()> {
    let (mut depth, mut components, mut modules) = (0_usize, 0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ComponentSection { .. } | Payload::ModuleSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentInstanceSection(instances)) => {
                components += instances.into_iter().filter(is_component_instantiation).count();
            }
            Ok(Payload::InstanceSection(instances)) => {
                modules += instances.into_iter().filter(is_module_instantiation).count();
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        ensure!(
            depth <= MAX_DEPTH,
            "plugin {name} nests components more than {MAX_DEPTH} deep: take them out of each other"
        );
        ensure!(
            components <= MAX_COMPONENTS && modules <= MAX_MODULES,
            "plugin {name} instantiates more than {MAX_COMPONENTS} components or {MAX_MODULES} modules: compose it of fewer"
        );
    }
    Ok(())
}

fn is_component_instantiation(instance: &wasmparser::Result<ComponentInstance<'_>>) -> bool {
    matches!(instance, Ok(ComponentInstance::Instantiate { .. }))
}

fn is_module_instantiation(instance: &wasmparser::Result<Instance<'_>>) -> bool {
    matches!(instance, Ok(Instance::Instantiate { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

    /// A component in a component, `depth` times; lengths of up to two bytes.
    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(HEADER.to_vec(), |inner, _| {
            let length = [(inner.len() & 0x7f) as u8 | 0x80, (inner.len() >> 7) as u8];
            [&HEADER, [4].as_slice(), &length, &inner].concat()
        })
    }

    /// An empty component and that many instances of it (section 5; `0 0 0`: instantiate component 0 with nothing).
    fn instantiated(times: u8) -> Vec<u8> {
        let instances = [0, 0, 0].repeat(usize::from(times));
        let section = [&[5, instances.len() as u8 + 1, times], instances.as_slice()].concat();
        [&HEADER, [4, 8].as_slice(), &HEADER, &section].concat()
    }

    #[test]
    fn components_may_nest_thirty_two_deep_and_no_deeper() {
        check("p", &nested(MAX_DEPTH)).unwrap();
        let error = check("p", &nested(MAX_DEPTH + 1)).unwrap_err().to_string();
        assert!(error.contains("nests components more than 32 deep"), "{error}");
    }

    #[test]
    fn sixteen_components_may_be_instantiated_and_no_more() {
        check("p", &instantiated(MAX_COMPONENTS as u8)).unwrap();
        let error = check("p", &instantiated(MAX_COMPONENTS as u8 + 1)).unwrap_err().to_string();
        assert!(error.contains("instantiates more than 16 components"), "{error}");
    }

    #[test]
    fn every_stock_plugin_passes() {
        for name in crate::stock::names() {
            check(name, crate::stock::component(name).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_left_to_the_compiler() {
        check("p", b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f").unwrap();
    }
}
