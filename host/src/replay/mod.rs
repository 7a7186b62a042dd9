//! Dead letters read back: parsed, selected, replayed.

mod letter;
pub mod process;
mod scan;
mod selection;

pub use letter::{Facts, Found, Letter, REPLAYED};
pub use scan::scan;
pub use selection::{Range, Selection};
