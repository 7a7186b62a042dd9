//! Lines in the daemon's log, under the plugin's name. The host limits their rate.

#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sandpiper::plugin::log::{Level, log};

pub fn debug(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log(Level::Debug, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("debug: {message}");
}

pub fn info(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log(Level::Info, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("info: {message}");
}

pub fn warn(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log(Level::Warn, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("warn: {message}");
}

pub fn error(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log(Level::Error, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("error: {message}");
}
