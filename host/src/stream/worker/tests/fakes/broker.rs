//! Logs, a group's offsets and a transaction, as strict as Kafka is with them.

use std::collections::{BTreeMap, VecDeque};

use crate::record::{Headers, Origin, Route};
use crate::stream::fault::{Fault, Refused};
use crate::stream::source::TopicPartition;

/// How far the broker's refusal of a record goes.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Refusal {
    /// What is made of it is refused, its dead letter is taken.
    Output,
    /// Its dead letter is taken only without its value.
    Letter,
    /// Not even that.
    Everything,
}

/// What the next commit comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// Nobody answers; whether it took effect shows when the transaction is resolved.
    Unknown { took_effect: bool },
    /// Refused, and the transaction can be aborted.
    Abortable,
}

/// What a read_committed reader finds in an output topic.
#[derive(Clone, Debug)]
pub struct Written {
    pub origin: Origin,
    pub route: Route,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Written {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Of a dead letter.
    pub fn error(&self, name: &str) -> Option<&str> {
        self.header(&format!("{}{name}", crate::record::dead_letter::PREFIX))
    }
}

/// A record of an input topic.
#[derive(Clone)]
pub(super) struct Input {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

pub(super) type Offsets = BTreeMap<TopicPartition, (i64, String)>;

/// The producer's transaction, as its coordinator sees it.
#[derive(Default)]
pub(super) enum Open {
    #[default]
    No,
    Yes(Vec<Written>),
    /// It was told to commit, and did or will do that; the producer does not know.
    InDoubt {
        outputs: Vec<Written>,
        offsets: Offsets,
        took_effect: bool,
    },
}

/// Logs, a group's offsets and one producer's transaction.
#[derive(Default)]
pub struct Broker {
    pub(super) inputs: BTreeMap<TopicPartition, Vec<Input>>,
    /// Records before it are deleted.
    pub(super) first: BTreeMap<TopicPartition, i64>,
    pub committed: Offsets,
    pub(super) visible: Vec<Written>,
    pub(super) open: Open,
    pub(super) fenced: bool,
    pub(super) refused: BTreeMap<Origin, Refusal>,
    /// Refusals come as delivery reports, at the commit.
    pub reports_late: bool,
    pub(super) reported: Vec<Refused>,
    pub(super) ending: Option<Ending>,
    pub(super) faults: BTreeMap<&'static str, VecDeque<Fault>>,
    /// The group forgot this member.
    pub member_is_gone: bool,
    /// `start = "latest"`.
    pub start_latest: bool,
}

impl Broker {
    pub(super) fn end(&self, partition: TopicPartition) -> i64 {
        self.inputs.get(&partition).map_or(0, |records| records.len() as i64)
    }

    /// The fault that was ordered for that call, once.
    pub(super) fn ordered(&mut self, call: &'static str) -> Result<(), Fault> {
        self.faults.get_mut(call).and_then(VecDeque::pop_front).map_or(Ok(()), Err)
    }

    pub(super) fn producer(&mut self, call: &'static str) -> Result<(), Fault> {
        if self.fenced {
            return Err(Fault::Unknown("the transactional id was taken over".into()));
        }
        self.ordered(call)
    }
}
