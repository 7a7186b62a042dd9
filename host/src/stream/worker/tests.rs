//! A worker's stories, each told on a broker in memory.
//!
//! What they run, a pipeline or a feedback loop, stands above this room: `above` is the one place of this room that imports it.

mod bounds;
mod delivery;
mod effects;
mod fakes;
mod hold;
mod memory;
mod rebalance;
mod recovery;
mod scorer;
mod stop;
mod swap;

/// What the stories run.
mod above {
    pub(super) use crate::{feedback, pipeline};
}
