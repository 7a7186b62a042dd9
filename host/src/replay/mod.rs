//! Records read back: dead letters parsed, selected and replayed; a range of the input through a candidate;
//! what a revision processed.

pub mod affected;
pub mod backtest;
mod letter;
mod places;
pub mod process;
mod scan;
mod selection;
mod wait;

pub use letter::{Facts, Found, Letter, Place, REPLAYED};
pub use places::Places;
pub use scan::scan;
pub use selection::{Range, Selection};
