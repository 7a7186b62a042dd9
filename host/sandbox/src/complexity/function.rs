//! What makes one function hard to compile. The compiler's time and memory grow with these, each of which a few bytes can
//! make large; its own rule (7 MB and 50,000 locals a function) leaves room for minutes and gigabytes.

use anyhow::ensure;
use wasmparser::{BlockType, FunctionBody, Operator, Result};

use super::module::{Arity, Module};

/// Body of a function, bytes. The largest of CPython's has 426,843.
const MAX_BODY: usize = 1 << 20;
/// Locals of a function, its parameters among them.
const MAX_LOCALS: usize = 10_000;
/// Locals × (blocks + 1) of a function: where control flow joins, each local may need a value of its own.
const MAX_JOINS: usize = 100_000_000;
/// Values that a function passes.
const MAX_VALUES: usize = 1_000_000;

/// One function, measured.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Measure {
    /// Bytes.
    pub body: usize,
    pub locals: usize,
    /// Blocks, loops and both ways of an `if`.
    pub blocks: usize,
    /// Parameters and results of its own, of each call and of each block, and what each branch takes along.
    pub values: usize,
}

impl Measure {
    pub fn of(body: &FunctionBody<'_>, own: Arity, module: &Module) -> Result<Self> {
        let mut locals = own.params;
        for group in body.get_locals_reader()? {
            locals = locals.saturating_add(group?.0 as usize);
        }
        let mut walk = Walk { module, labels: vec![own.results], blocks: 0, values: own.params + own.results };
        for operator in body.get_operators_reader()? {
            walk.step(&operator?)?;
        }
        Ok(Self { body: body.range().len(), locals, blocks: walk.blocks, values: walk.values })
    }

    /// # Errors
    /// When a bound is exceeded; the message names it, the function by its place in the file, and what was found.
    pub fn check(&self, name: &str, nth: usize) -> anyhow::Result<()> {
        let bounds = [
            (self.body, MAX_BODY, "bytes"),
            (self.locals, MAX_LOCALS, "locals"),
            (self.locals.saturating_mul(self.blocks + 1), MAX_JOINS, "locals times blocks"),
            (self.values, MAX_VALUES, "values passed by its calls, blocks and branches"),
        ];
        for (found, bound, what) in bounds {
            ensure!(
                found <= bound,
                "plugin {name} has a function with {found} {what} (the {nth}. of the file), and at most {bound} are taken: \
                 split it"
            );
        }
        Ok(())
    }
}

/// A body, operator by operator.
struct Walk<'a> {
    module: &'a Module,
    /// How many values a branch to each open block takes along, the innermost last.
    labels: Vec<usize>,
    blocks: usize,
    values: usize,
}

impl Walk<'_> {
    fn step(&mut self, operator: &Operator<'_>) -> Result<()> {
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => self.open(*blockty, |arity| arity.results),
            Operator::TryTable { try_table } => self.open(try_table.ty, |arity| arity.results),
            Operator::Loop { blockty } => self.open(*blockty, |arity| arity.params),
            Operator::Else => self.blocks += 1,
            Operator::End => drop(self.labels.pop()),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth } => self.branch(*relative_depth),
            Operator::BrTable { targets } => {
                self.branch(targets.default());
                for target in targets.targets() {
                    self.branch(target?);
                }
            }
            Operator::Return => self.values += self.labels.first().copied().unwrap_or_default(),
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                self.pass(self.module.of_function(*function_index as usize));
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => self.pass(self.module.of_type(*type_index)),
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, kind: BlockType, label: impl Fn(Arity) -> usize) {
        let arity = match kind {
            BlockType::Empty => Arity::default(),
            BlockType::Type(_) => Arity { params: 0, results: 1 },
            BlockType::FuncType(index) => self.module.of_type(index),
        };
        self.blocks += 1;
        self.labels.push(label(arity));
        self.pass(arity);
    }

    fn branch(&mut self, depth: u32) {
        let label = self.labels.len().checked_sub(depth as usize + 1).and_then(|at| self.labels.get(at));
        self.values += label.copied().unwrap_or_default() + 1;
    }

    fn pass(&mut self, arity: Arity) {
        self.values += arity.params + arity.results;
    }
}
