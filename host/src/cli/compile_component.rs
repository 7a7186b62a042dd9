//! `compile-component`: the process that compiles one component for another verb, and the bounds that a verb gives it.

use std::time::Duration;

use clap::Args;

use super::{Failure, Outcome};
use crate::config::daemon::Compile;
use crate::config::unit;
use crate::control::compiler::this_program;
use sandpiper_sandbox::Compiler;
use sandpiper_sandbox::compiler::{self, Bounds};

const MEMORY: usize = 2 << 30;
/// Components that hold an interpreter took 36 s on two slow cores.
const TIME: Duration = Duration::from_secs(120);

/// What compiling one plugin may take; above it the plugin is refused.
#[derive(Args, Clone)]
pub struct Compilation {
    /// Memory of the process that compiles a plugin. [default: 2GiB]
    #[arg(long, value_name = "SIZE", env = "SANDPIPER_COMPILE_MEMORY", value_parser = unit::size)]
    compile_memory: Option<usize>,
    /// Time for compiling a plugin. [default: 120s]
    #[arg(long, value_name = "TIME", env = "SANDPIPER_COMPILE_TIME", value_parser = unit::duration)]
    compile_time: Option<Duration>,
}

impl Compilation {
    /// This program, started anew for each component.
    pub fn compiler(&self) -> Compiler {
        this_program(self.bounds())
    }

    pub fn bounds(&self) -> Bounds {
        Bounds { memory: self.compile_memory.unwrap_or(MEMORY), time: self.compile_time.unwrap_or(TIME) }
    }

    /// With the bounds of a daemon's file where no flag has set them.
    pub fn or(&self, file: &Compile) -> Self {
        Self { compile_memory: self.compile_memory.or(file.memory), compile_time: self.compile_time.or(file.time) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_a_daemons_file_holds_where_no_flag_sets_it() {
        let file = Compile { time: Some(Duration::from_secs(7)), memory: Some(1 << 30) };
        let none = Compilation { compile_memory: None, compile_time: None };
        assert_eq!(none.bounds(), Bounds { memory: 2 << 30, time: Duration::from_secs(120) });
        assert_eq!(none.or(&file).bounds(), Bounds { memory: 1 << 30, time: Duration::from_secs(7) });
        let flag = Compilation { compile_time: Some(Duration::from_secs(9)), ..none };
        assert_eq!(flag.or(&file).bounds(), Bounds { memory: 1 << 30, time: Duration::from_secs(9) });
        assert_eq!(flag.or(&Compile::default()).bounds().time, Duration::from_secs(9));
    }
}
