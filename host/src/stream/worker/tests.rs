//! A worker's stories, each told on a broker in memory.

mod bounds;
mod brake;
mod delivery;
mod effects;
mod rebalance;
mod recovery;
mod stop;
mod swap;
