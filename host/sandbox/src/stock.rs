//! The plugins that are built in.

/// Name and component of each.
static STOCK: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// Their names, for messages.
pub fn names() -> Vec<&'static str> {
    STOCK.iter().map(|(name, _)| *name).collect()
}

/// The component of that name.
pub fn component(name: &str) -> Option<&'static [u8]> {
    STOCK.iter().find(|(stock, _)| *stock == name).map(|(_, bytes)| *bytes)
}
