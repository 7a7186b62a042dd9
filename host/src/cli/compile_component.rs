//! `compile-component`: the process that compiles one component for another verb, and the bounds that a verb gives it.

use std::time::Duration;

use clap::Args;

use super::{Failure, Outcome};
use crate::config::unit;
use crate::control::compiler::this_program;
use sandpiper_sandbox::Compiler;
use sandpiper_sandbox::compiler::{self, Bounds};

/// What compiling one plugin may take; above it the plugin is refused.
#[derive(Args, Clone)]
pub struct Compilation {
    /// Memory of the process that compiles a plugin.
    #[arg(long, value_name = "SIZE", env = "SANDPIPER_COMPILE_MEMORY", default_value = "2GiB", value_parser = unit::size)]
    pub(super) compile_memory: usize,
    /// Time for compiling a plugin.
    #[arg(long, value_name = "TIME", env = "SANDPIPER_COMPILE_TIME", default_value = "120s", value_parser = unit::duration)]
    compile_time: Duration,
}

impl Compilation {
    /// This program, started anew for each component.
    pub fn compiler(&self) -> Compiler {
        this_program(Bounds { memory: self.compile_memory, time: self.compile_time })
    }
}

/// For the other verbs: compiles the component on stdin to machine code on stdout.
#[derive(Args)]
pub struct CompileComponent {
    /// Bytes.
    memory: usize,
    /// Milliseconds.
    time: u64,
}

impl CompileComponent {
    pub fn run(self) -> Outcome {
        match compiler::serve(Bounds { memory: self.memory, time: Duration::from_millis(self.time) }) {
            0 => Ok(()),
            code => Err(Failure::Reported(code)),
        }
    }
}
