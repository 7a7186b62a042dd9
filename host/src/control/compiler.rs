//! This program as the compiler of plugins: it is started anew for each component.

use std::path::PathBuf;

use sandpiper_sandbox::Compiler;
use sandpiper_sandbox::compiler::{Bounds, Process};

/// The verb that it is started with; memory in bytes and time in milliseconds follow.
pub const VERB: &str = "compile-component";

pub fn this_program(bounds: Bounds) -> Compiler {
    let arguments = [VERB.to_owned(), bounds.memory.to_string(), bounds.time.as_millis().to_string()];
    Compiler::Process(Process::new(program(), arguments.map(Into::into).to_vec(), bounds))
}

fn program() -> PathBuf {
    if cfg!(target_os = "linux") {
        // The program that runs, also when its file has been replaced since.
        return "/proc/self/exe".into();
    }
    std::env::current_exe().unwrap_or_else(|_| "sandpiper".into())
}
