//! A process that remembers something of each partition, and the store that keeps it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::above::pipeline::{Pipeline, fakes};
use super::journal::{Journal, names};
use crate::record::output::Outputs;
use crate::record::{Batch, Revision};
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Process};
use crate::stream::source::TopicPartition;
use crate::stream::state::{Progress, Restored, Store};

/// Gives one entry of each open partition at a time.
pub struct Shelf {
    journal: Journal,
    /// How many there are of each partition.
    entries: BTreeMap<i32, u64>,
    /// How many were given of those that are open.
    given: BTreeMap<i32, u64>,
    faults: VecDeque<Fault>,
}

impl Store<()> for Shelf {
    fn open(&mut self, partition: i32) {
        self.given.insert(partition, 0);
    }

    fn read(&mut self, _wait: Duration) -> Result<Vec<(i32, ())>, Fault> {
        if let Some(fault) = self.faults.pop_front() {
            self.journal.write("restore fails");
            return Err(fault);
        }
        let mut entries = Vec::new();
        for (partition, given) in &mut self.given {
            let all = self.entries.get(partition).copied().unwrap_or_default();
            if *given < all {
                *given += 1;
                self.journal.write(format!("restore {partition} {given}/{all}"));
                entries.push((*partition, ()));
            }
        }
        Ok(entries)
    }

    fn progress(&self, partition: i32) -> Option<Progress> {
        let (done, of) = (*self.given.get(&partition)?, *self.entries.get(&partition)?);
        (done < of).then_some(Progress { done, of })
    }

    fn close(&mut self, partition: i32) {
        self.given.remove(&partition);
    }
}

/// Writes into the journal what it remembers and forgets; refuses to process what it does not remember whole.
pub struct Rememberer {
    pub revision: Revision,
    pub store: Shelf,
    journal: Journal,
    assigned: BTreeSet<TopicPartition>,
    inner: Pipeline,
}

impl Rememberer {
    pub fn new(number: u64, entries: BTreeMap<i32, u64>, journal: &Journal) -> Self {
        let store = Shelf { journal: journal.clone(), entries, given: BTreeMap::new(), faults: VecDeque::new() };
        let (revision, inner) = (fakes::revision(number), fakes::passing(number));
        Self { revision, store, journal: journal.clone(), assigned: BTreeSet::new(), inner }
    }

    /// The next reads of its store fail.
    pub fn fails(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.store.faults.extend(faults);
    }
}

impl Process for Rememberer {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn assigned(&mut self, partitions: &[TopicPartition]) {
        let new: Vec<TopicPartition> =
            partitions.iter().filter(|partition| self.assigned.insert(**partition)).copied().collect();
        if !new.is_empty() {
            self.journal.write(format!("remember{}", names(&new)));
            new.iter().for_each(|partition| self.store.open(partition.partition));
        }
    }

    fn restore(&mut self, wait: Duration) -> Result<Restored, Fault> {
        self.store.read(wait)?;
        let left = |partition: &TopicPartition| Some((*partition, self.store.progress(partition.partition)?));
        Ok(Restored { left: self.assigned.iter().filter_map(left).collect() })
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        for row in batch.rows.iter() {
            assert!(self.assigned.contains(&row.origin.into()), "a record of nobody's partition: {:?}", row.origin);
            assert_eq!(self.store.progress(row.origin.partition), None, "a record before its partition was restored");
        }
        self.journal.write(format!("process {}", batch.len()));
        self.inner.process(batch, forced, now, outputs);
    }

    fn committed(&mut self) {
        self.journal.write("effects applied");
    }

    fn aborted(&mut self) {
        self.journal.write("effects discarded");
    }

    fn unassigned(&mut self, partitions: &[TopicPartition]) {
        self.journal.write(format!("forget{}", names(partitions)));
        for partition in partitions {
            self.assigned.remove(partition);
            self.store.close(partition.partition);
        }
    }

    fn revision(&self) -> Option<Revision> {
        Some(self.revision)
    }
}
