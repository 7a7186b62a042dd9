//! Lines in the daemon's log, under the plugin's name. The host limits their rate.

#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sandpiper::plugin::log::{Level, log};
#[cfg(not(target_arch = "wasm32"))]
use native::{Level, log};

pub fn debug(message: &str) {
    log(Level::Debug, message);
}

pub fn info(message: &str) {
    log(Level::Info, message);
}

pub fn warn(message: &str) {
    log(Level::Warn, message);
}

pub fn error(message: &str) {
    log(Level::Error, message);
}

/// In native tests the lines go to standard error.
#[cfg(not(target_arch = "wasm32"))]
mod native {
    #[derive(Debug)]
    pub enum Level {
        Debug,
        Info,
        Warn,
        Error,
    }

    pub fn log(level: Level, message: &str) {
        let level = format!("{level:?}").to_lowercase();
        eprintln!("{level}: {message}");
    }
}
