//! The stock plugins, embedded by the build script: the daemon is one file.

/// Each plugin's name and component.
static STOCK: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// The names of the stock plugins.
pub fn names() -> Vec<&'static str> {
    STOCK.iter().map(|(name, _)| *name).collect()
}

/// The component of a stock plugin; `None` when there is none of that name.
pub fn component(name: &str) -> Option<&'static [u8]> {
    STOCK.iter().find(|(stock, _)| *stock == name).map(|(_, bytes)| *bytes)
}
