//! How a component is put together, looked at before it is compiled: a file of a kilobyte can instantiate itself two
//! to the power of thirty, and the compiler lays all of that out.

use anyhow::{Result, ensure};
use wasmparser::{ComponentInstance, Instance, Parser, Payload};

/// Components in components. A compiler makes two levels, composing plugins one more each time.
const DEPTH: usize = 32;
/// Components that are instantiated, everywhere in the file. Each may hold the one before it several times, so n of
/// them come to 3^(n/3) at the worst: 350 here.
const COMPONENTS: usize = 16;
/// Modules that are instantiated, everywhere in the file. A store takes 32, however they came about.
const MODULES: usize = 64;

/// # Errors
/// When the component is deeper or made of more parts than any that does honest work. What cannot be read is left to
/// the compiler, which says better what is wrong.
pub fn check(name: &str, bytes: &[u8]) -> Result<()> {
    let (mut depth, mut components, mut modules) = (0_usize, 0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ComponentSection { .. } | Payload::ModuleSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentInstanceSection(made)) => {
                components += made.into_iter().filter(is_component).count();
            }
            Ok(Payload::InstanceSection(made)) => modules += made.into_iter().filter(is_module).count(),
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        ensure!(depth <= DEPTH, "plugin {name} nests components more than {DEPTH} deep: take them out of each other");
        ensure!(
            components <= COMPONENTS && modules <= MODULES,
            "plugin {name} instantiates more than {COMPONENTS} components or {MODULES} modules: compose it of fewer"
        );
    }
    Ok(())
}

fn is_component(made: &wasmparser::Result<ComponentInstance<'_>>) -> bool {
    matches!(made, Ok(ComponentInstance::Instantiate { .. }))
}

fn is_module(made: &wasmparser::Result<Instance<'_>>) -> bool {
    matches!(made, Ok(Instance::Instantiate { .. }))
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
    fn components_stand_in_each_other_thirty_two_deep_and_no_deeper() {
        check("p", &nested(DEPTH)).unwrap();
        let error = check("p", &nested(DEPTH + 1)).unwrap_err().to_string();
        assert!(error.contains("nests components more than 32 deep"), "{error}");
    }

    #[test]
    fn sixteen_components_may_be_instantiated_and_no_more() {
        check("p", &instantiated(COMPONENTS as u8)).unwrap();
        let error = check("p", &instantiated(COMPONENTS as u8 + 1)).unwrap_err().to_string();
        assert!(error.contains("instantiates more than 16 components"), "{error}");
    }

    #[test]
    fn a_stock_plugin_is_far_from_any_of_it() {
        for name in crate::stock::names() {
            check(name, crate::stock::component(name).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_compiler() {
        check("p", b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f").unwrap();
    }
}
