//! Bounds on how a component is built, checked before it is compiled: a file of a kilobyte can instantiate itself two to
//! the power of thirty times, and one of a megabyte can pass a thousand values through each of its calls; the compiler
//! lays all of that out.
//!
//! This is no validation: what cannot be parsed passes here, and the compiler says what is wrong with it. What passes all
//! of it and is hard to compile all the same meets the limits of the compiler's process.

mod function;
mod module;
#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};
use wasmparser::{ComponentInstance, Instance, Parser, Payload};

use module::Module;

/// Instances of modules in one component, and what a store holds at most. componentize-py makes 14, among them
/// one for each library that CPython is linked of; componentize-js makes 4.
pub const MAX_CORE_INSTANCES: u32 = 128;

/// Levels of components within components. A compiler makes two; composing plugins adds one each time.
const MAX_DEPTH: usize = 32;
/// Instantiations of components in the whole file. Each may hold the one before it several times, so that n of them make
/// at most 3^(n/3) instances: 350 here.
const MAX_COMPONENTS: usize = 16;
/// The file, bytes. CPython has 18 MB, StarlingMonkey 12 MB.
const MAX_FILE: usize = 128 << 20;
/// Functions in the whole file: each costs the compiler something, however empty it is. CPython has 13,364.
const MAX_FUNCTIONS: usize = 100_000;
/// Types of modules and components in the whole file. CPython has 1,261.
const MAX_TYPES: usize = 50_000;
/// Segments of data and of elements in the whole file.
const MAX_SEGMENTS: usize = 100_000;
/// What all functions together pass, as `function::Measure` counts it.
const MAX_VALUES: usize = 50_000_000;

/// What has been counted so far, over the whole file.
#[derive(Default)]
struct Counts {
    depth: usize,
    components: usize,
    core_instances: usize,
    functions: usize,
    types: usize,
    segments: usize,
    values: usize,
}

/// # Errors
/// When a bound is exceeded; the message names it and what was found.
pub fn check(name: &str, bytes: &[u8]) -> Result<()> {
    ensure!(
        bytes.len() <= MAX_FILE,
        "plugin {name} is {} bytes large, and at most {MAX_FILE} are taken: leave out what it does not need",
        bytes.len()
    );
    let (mut counts, mut module) = (Counts::default(), Module::default());
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { return Ok(()) };
        // A module holds no other one, so that the sections of two never alternate.
        if matches!(payload, Payload::ModuleSection { .. }) {
            module = Module::default();
        }
        counts.add(&payload);
        counts.check(name)?;
        if let Payload::CodeSectionEntry(body) = &payload {
            let Ok(measure) = module.measure(body) else { return Ok(()) };
            measure.check(name, counts.functions)?;
            counts.values = counts.values.saturating_add(measure.values);
        } else if module.add(&payload).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentInstanceSection(instances) => {
                self.components += instances.clone().into_iter().filter(is_component_instantiation).count();
            }
            Payload::InstanceSection(instances) => {
                self.core_instances += instances.clone().into_iter().filter(is_module_instantiation).count();
            }
            Payload::TypeSection(types) => self.types += types.count() as usize,
            Payload::CoreTypeSection(types) => self.types += types.count() as usize,
            Payload::ComponentTypeSection(types) => self.types += types.count() as usize,
            Payload::DataSection(data) => self.segments += data.count() as usize,
            Payload::ElementSection(elements) => self.segments += elements.count() as usize,
            Payload::CodeSectionEntry(_) => self.functions += 1,
            _ => {}
        }
    }

    fn check(&self, name: &str) -> Result<()> {
        let bounds = [
            (self.depth, MAX_DEPTH, "nests components", "levels deep"),
            (self.components, MAX_COMPONENTS, "instantiates components", "times"),
            (self.core_instances, MAX_CORE_INSTANCES as usize, "instantiates modules", "times"),
            (self.functions, MAX_FUNCTIONS, "has", "functions"),
            (self.types, MAX_TYPES, "has", "types"),
            (self.segments, MAX_SEGMENTS, "has", "segments of data and elements"),
            (self.values, MAX_VALUES, "passes values between its functions and blocks at", "places"),
        ];
        for (found, bound, what, unit) in bounds {
            ensure!(
                found <= bound,
                "plugin {name} {what} {found} {unit} or more, and at most {bound} are taken: make it of less"
            );
        }
        Ok(())
    }
}

fn is_component_instantiation(instance: &wasmparser::Result<ComponentInstance<'_>>) -> bool {
    matches!(instance, Ok(ComponentInstance::Instantiate { .. }))
}

fn is_module_instantiation(instance: &wasmparser::Result<Instance<'_>>) -> bool {
    matches!(instance, Ok(Instance::Instantiate { .. }))
}
