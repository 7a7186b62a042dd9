//! The classes of failure on the way to and from Kafka, each with one action of the worker's.
//! (A plugin's failure is the sandbox's `Failure`: it concerns rows, or as `Halt` what runs, never the way.)

use crate::record::Origin;
use crate::record::output::Halt;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Outcomes that cannot be written: abort, and force them when the records are replayed.
    #[error("the broker refuses {} of the outputs: {}", .0.len(), .0.first().map_or("", |refused| &refused.message))]
    Refused(Vec<Refused>),
    /// Abort, go back to what is committed, keep the producer.
    #[error("{0}")]
    Abortable(String),
    /// Abort, go back to what is committed, and process nothing until it is decided what runs next.
    #[error("{0}")]
    Halt(Halt),
    /// Nobody knows whether the transaction committed: the recovery order.
    #[error("{0}")]
    Unknown(String),
    /// The cluster or the group does not let this member in, which passes when somebody else changes something: leave the
    /// group, name it, and try again slowly.
    #[error("{0}")]
    Denied(String),
    /// Nothing that is tried again can help: stop and name the fix.
    #[error("{0}")]
    Configuration(String),
}

impl Fault {
    /// Whether the worker cannot go on by itself: it leaves its group, and whoever started it decides about another.
    pub fn ends_worker(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Configuration(_))
    }
}

/// A record whose output the broker does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub origin: Origin,
    pub message: String,
    /// It was the dead letter without its value: there is nothing smaller to be written.
    pub last_resort: bool,
}
