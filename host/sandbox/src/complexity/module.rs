//! One module as far as its functions' bodies are to be understood: how many values each of its types and functions passes.

use wasmparser::{CompositeInnerType, FunctionBody, Payload, Result, TypeRef};

use super::function::Measure;

/// Parameters and results of a function type.
#[derive(Clone, Copy, Default)]
pub(super) struct Arity {
    pub params: usize,
    pub results: usize,
}

#[derive(Default)]
pub(super) struct Module {
    types: Vec<Arity>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    /// Index of the function whose body comes next.
    next: usize,
}

impl Module {
    pub fn add(&mut self, payload: &Payload<'_>) -> Result<()> {
        match payload {
            Payload::TypeSection(groups) => {
                for group in groups.clone() {
                    self.types.extend(group?.types().map(|kind| match &kind.composite_type.inner {
                        CompositeInnerType::Func(kind) => {
                            Arity { params: kind.params().len(), results: kind.results().len() }
                        }
                        _ => Arity::default(),
                    }));
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    if let TypeRef::Func(kind) = import?.ty {
                        self.functions.push(kind);
                        self.next += 1;
                    }
                }
            }
            Payload::FunctionSection(kinds) => {
                for kind in kinds.clone() {
                    self.functions.push(kind?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Measures the body of the next function.
    pub fn measure(&mut self, body: &FunctionBody<'_>) -> Result<Measure> {
        let own = self.of_function(self.next);
        self.next += 1;
        Measure::of(body, own, self)
    }

    /// Without values where there is no such type: that is for the compiler to say.
    pub fn of_type(&self, index: u32) -> Arity {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    pub fn of_function(&self, index: usize) -> Arity {
        self.functions.get(index).map_or(Arity::default(), |kind| self.of_type(*kind))
    }
}
