//! The control topics, the records that a pipeline's workers write, and who owns which partition.

use sandpiper_sandbox::Digest;

use crate::control::journal::kafka::records::Changes;
use crate::record::Revision;
use crate::stream::failpoint::{self, is_on};

/// A record of the commands' topic: its offset is its place.
#[derive(Clone)]
pub struct Asked {
    pub key: String,
    pub value: Vec<u8>,
    pub at: i64,
}

/// A transaction of whoever decides.
#[derive(Clone)]
pub struct Decided {
    pub records: Changes,
}

/// What a worker has written of a record, by what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    pub revision: Revision,
    pub runs: Digest,
}

#[derive(Default)]
pub struct Cluster {
    /// Milliseconds since the Unix epoch, by the broker's clock.
    pub at: i64,
    pub commands: Vec<Asked>,
    pub deployments: Vec<Decided>,
    /// The next command that the deciders' group reads.
    pub position: usize,
    /// Who owns the commands' partition, and since which generation of the group.
    pub decider: Option<usize>,
    pub generation: u64,
    /// By partition of the input.
    pub written: Vec<Vec<Written>>,
    pub owners: Vec<Option<usize>>,
    /// Commands cannot be sent at the moment.
    pub is_away: bool,
    /// The next transaction is committed, and its answer lost.
    pub loses_answer: bool,
}

/// What came of a commit, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Committed {
    Yes,
    /// It may have been; the broker knows.
    Unknown,
    /// Somebody else has the partition, or has had it since.
    Fenced,
}

impl Cluster {
    pub fn new(partitions: usize) -> Self {
        Self { written: vec![Vec::new(); partitions], owners: vec![None; partitions], ..Self::default() }
    }

    /// The number of a command that is sent, or why it cannot be.
    pub fn ask(&mut self, key: &str, value: Vec<u8>) -> Result<i64, String> {
        if self.is_away {
            return Err("the brokers are away".into());
        }
        self.commands.push(Asked { key: key.to_owned(), value, at: self.at });
        Ok(self.commands.len() as i64 - 1)
    }

    /// Gives the commands' partition to another member, or to nobody.
    pub fn elect(&mut self, daemon: Option<usize>) {
        self.decider = daemon;
        self.generation += 1;
    }

    /// Outputs and offset, or neither.
    pub fn commit(&mut self, generation: u64, records: Changes, position: usize) -> Committed {
        if generation != self.generation && !is_on(failpoint::KEEPS_FENCED) {
            return Committed::Fenced;
        }
        self.deployments.push(Decided { records });
        self.position = position;
        if std::mem::take(&mut self.loses_answer) { Committed::Unknown } else { Committed::Yes }
    }
}
