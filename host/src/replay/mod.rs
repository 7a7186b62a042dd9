//! Dead letters read back: parsed, selected, replayed.

mod letter;
mod places;
pub mod process;
mod scan;
mod selection;

pub use letter::{Facts, Found, Letter, Place, REPLAYED};
pub use places::Places;
pub use scan::scan;
pub use selection::{Range, Selection};
