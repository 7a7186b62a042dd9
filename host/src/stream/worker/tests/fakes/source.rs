//! A group's member, told what happens to it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::broker::Broker;
use super::journal::{Journal, name, names, spots};
use crate::record::{BatchBuilder, Origin, Topics};
use crate::stream::fault::Fault;
use crate::stream::source::{Committed, Event, Position, Source, TopicPartition};
use crate::stream::stop::Stop;
use crate::stream::transaction::{Deployed, deployed_in};

/// A group's member: scripted events first, then the records behind its positions.
pub struct Scripted {
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) journal: Journal,
    pub(super) topics: Topics,
    pub(super) events: VecDeque<Event>,
    pub(super) positions: BTreeMap<TopicPartition, i64>,
    pub(super) paused: BTreeSet<TopicPartition>,
    /// Told to be out of range; nothing comes before a seek.
    pub(super) stalled: BTreeSet<TopicPartition>,
    /// Records in a batch, at most.
    pub(super) batch: usize,
    pub(super) stop: Stop,
    /// Tells the worker to stop when nothing is left to be read.
    pub(super) stops_when_idle: bool,
}

impl Scripted {
    /// Comes before any record.
    pub fn queue(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub fn batch(&mut self, records: usize) {
        self.batch = records;
    }

    fn read(&mut self) -> Option<Event> {
        let broker = self.broker.borrow();
        let mut batch = BatchBuilder::new(self.topics.clone());
        for (partition, position) in &mut self.positions {
            if self.paused.contains(partition) || self.stalled.contains(partition) {
                continue;
            }
            if *position < broker.first.get(partition).copied().unwrap_or_default() {
                self.stalled.insert(*partition);
                return Some(Event::OutOfRange(*partition));
            }
            let log = broker.inputs.get(partition).map(Vec::as_slice).unwrap_or_default();
            for record in log.iter().skip(*position as usize) {
                if batch.len() == self.batch {
                    break;
                }
                let origin = Origin { topic: partition.topic, partition: partition.partition, offset: *position };
                batch.push(origin, Some(*position), record.key.as_deref(), record.value.as_deref(), None);
                *position += 1;
            }
        }
        if batch.is_empty() { None } else { Some(Event::Batch(batch.finish())) }
    }
}

impl Source for Scripted {
    type Group = ();

    fn next(&mut self, _wait: Duration) -> Result<Event, Fault> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        self.broker.borrow_mut().ordered("next")?;
        let event = self.read();
        if event.is_none() && self.stops_when_idle {
            self.stop.set();
        }
        Ok(event.unwrap_or(Event::Idle))
    }

    fn assign(&mut self, positions: &[Position]) -> Result<(), Fault> {
        self.journal.write(format!("assign{}", spots(positions)));
        self.broker.borrow_mut().ordered("assign")?;
        for position in positions {
            self.positions.insert(position.partition, position.offset);
            self.paused.remove(&position.partition);
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("unassign{}", names(partitions)));
        self.broker.borrow_mut().ordered("unassign")?;
        for partition in partitions {
            self.positions.remove(partition);
            self.stalled.remove(partition);
        }
        Ok(())
    }

    fn seek(&mut self, positions: &[Position]) -> Result<(), Fault> {
        self.journal.write(format!("seek{}", spots(positions)));
        self.broker.borrow_mut().ordered("seek")?;
        for sought in positions {
            let Some(position) = self.positions.get_mut(&sought.partition) else {
                return Err(Fault::Unknown(format!("{} is not assigned and cannot be sought", name(sought.partition))));
            };
            *position = sought.offset;
            self.stalled.remove(&sought.partition);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("pause{}", names(partitions)));
        self.paused.extend(partitions);
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("resume{}", names(partitions)));
        self.paused.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Fault> {
        self.journal.write(format!("committed?{}", names(partitions)));
        let mut broker = self.broker.borrow_mut();
        broker.ordered("committed")?;
        let read = |partition: &TopicPartition| match broker.committed.get(partition) {
            Some((offset, metadata)) => {
                Committed { partition: *partition, offset: Some(*offset), metadata: metadata.clone() }
            }
            None => Committed { partition: *partition, offset: None, metadata: String::new() },
        };
        Ok(partitions.iter().map(read).collect())
    }

    fn start_of(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Position>, Fault> {
        let mut broker = self.broker.borrow_mut();
        broker.ordered("start_of")?;
        let first = |partition: &TopicPartition| broker.first.get(partition).copied().unwrap_or_default();
        let start =
            |partition: &TopicPartition| if broker.start_latest { broker.end(*partition) } else { first(partition) };
        Ok(partitions.iter().map(|partition| Position { partition: *partition, offset: start(partition) }).collect())
    }

    fn oldest(&mut self, partition: TopicPartition) -> Result<Position, Fault> {
        let mut broker = self.broker.borrow_mut();
        broker.ordered("oldest")?;
        Ok(Position { partition, offset: broker.first.get(&partition).copied().unwrap_or_default() })
    }

    fn commit(&mut self, positions: &[Position], metadata: &str) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        self.journal.write(format!("offsets{} {metadata}", spots(positions)).trim_end());
        let mut broker = self.broker.borrow_mut();
        broker.ordered("offsets")?;
        broker
            .committed
            .extend(positions.iter().map(|position| (position.partition, (position.offset, metadata.to_owned()))));
        Ok(())
    }

    fn group(&mut self) -> Result<(), Fault> {
        match self.broker.borrow().member_is_gone {
            true => Err(Fault::Abortable("this member is not in the group at the moment".into())),
            false => Ok(()),
        }
    }

    fn deployments(&mut self) -> Vec<Deployed> {
        self.broker.borrow().committed.values().filter_map(|(_, metadata)| deployed_in(metadata)).collect()
    }

    fn end(&self, partition: TopicPartition) -> Option<i64> {
        Some(self.broker.borrow().end(partition))
    }

    fn close(&mut self) {
        self.journal.write("close");
        self.positions.clear();
    }
}
