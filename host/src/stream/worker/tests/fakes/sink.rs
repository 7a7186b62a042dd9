//! A producer whose coordinator is the broker in memory.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::broker::{Broker, Ending, Offsets, Open, Refusal, Written};
use super::journal::{Journal, names, spots};
use crate::record::Route;
use crate::record::output::Outputs;
use crate::stream::fault::{Fault, Objection, Refused};
use crate::stream::sink::Sink;
use crate::stream::source::{Position, TopicPartition};

/// A producer, and all that its topics' readers find.
pub struct Ledger {
    pub(super) broker: Rc<RefCell<Broker>>,
    pub(super) journal: Journal,
    pub(super) transactional: bool,
    pub(super) rests_until: Option<Instant>,
}

impl Sink for Ledger {
    type Group = ();

    fn is_transactional(&self) -> bool {
        self.transactional
    }

    fn check(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.journal.write(format!("check{}", names(partitions)));
        self.broker.borrow_mut().ordered("check")
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.journal.write("begin");
        let mut broker = self.broker.borrow_mut();
        broker.producer("begin")?;
        assert!(matches!(broker.open, Open::No), "a transaction was begun within another: {:?}", self.journal.lines());
        broker.open = Open::Yes(Vec::new());
        Ok(())
    }

    fn rested(&self) -> Option<Instant> {
        self.rests_until
    }

    fn send(&mut self, outputs: &mut Outputs, _deadline: Instant) -> Result<(), Fault> {
        self.journal.write(format!("send {}", outputs.records.len()));
        let mut broker = self.broker.borrow_mut();
        broker.producer("send")?;
        let mut refused = Vec::new();
        let mut written = Vec::new();
        for output in &outputs.records {
            let form = match (output.route, output.last_resort) {
                (Route::DeadLetters, true) => Refusal::Everything,
                (Route::DeadLetters, false) => Refusal::Letter,
                _ => Refusal::Output,
            };
            if broker.refused.get(&output.origin).is_some_and(|refusal| form <= *refusal) {
                let message = "it is too large".to_owned();
                let objection = Objection::Size { fits: 0 };
                refused.push(Refused { origin: output.origin, message, what: output.into(), objection });
            } else {
                let bytes = |span| outputs.bytes(span).to_vec();
                let headers = output.headers.as_deref().cloned().unwrap_or_default();
                written.push(Written {
                    origin: output.origin,
                    route: output.route,
                    value: output.value.map(bytes),
                    headers,
                });
            }
        }
        if self.transactional {
            let Open::Yes(staged) = &mut broker.open else {
                panic!("sent outside of a transaction: {:?}", self.journal.lines())
            };
            staged.extend(written);
        } else {
            broker.visible.extend(written);
        }
        match (refused.is_empty(), broker.reports_late) {
            (true, _) => Ok(()),
            (false, true) => {
                broker.reported.extend(refused);
                Ok(())
            }
            (false, false) => Err(Fault::Refused(refused)),
        }
    }

    fn commit(&mut self, positions: &[Position], metadata: &str, _group: (), _deadline: Instant) -> Result<(), Fault> {
        self.journal.write(format!("commit{} {metadata}", spots(positions)).trim_end());
        let mut broker = self.broker.borrow_mut();
        broker.producer("commit")?;
        let reported = std::mem::take(&mut broker.reported);
        if !reported.is_empty() {
            return Err(Fault::Refused(reported));
        }
        let ending = broker.ending.take();
        if ending == Some(Ending::Abortable) {
            return Err(Fault::Abortable("the group is in a rebalance".into()));
        }
        let Open::Yes(outputs) = std::mem::take(&mut broker.open) else {
            panic!("committed outside of a transaction: {:?}", self.journal.lines())
        };
        if !self.transactional {
            return Ok(());
        }
        let offsets: Offsets =
            positions.iter().map(|position| (position.partition, (position.offset, metadata.to_owned()))).collect();
        if let Some(Ending::Unknown { took_effect }) = ending {
            broker.open = Open::InDoubt { outputs, offsets, took_effect };
            return Err(Fault::Unknown("the commit did not come to an end in time".into()));
        }
        broker.visible.extend(outputs);
        broker.committed.extend(offsets);
        Ok(())
    }

    fn abort(&mut self, _deadline: Instant) -> Result<(), Fault> {
        self.journal.write("abort");
        let mut broker = self.broker.borrow_mut();
        broker.producer("abort")?;
        match std::mem::take(&mut broker.open) {
            Open::No | Open::Yes(_) => {}
            Open::InDoubt { .. } => panic!("aborted what may have been committed: {:?}", self.journal.lines()),
        }
        broker.reported.clear();
        Ok(())
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.journal.write("recover");
        let mut broker = self.broker.borrow_mut();
        broker.ordered("recover")?;
        broker.fenced = false;
        broker.reported.clear();
        if let Open::InDoubt { outputs, offsets, took_effect: true } = std::mem::take(&mut broker.open) {
            broker.visible.extend(outputs);
            broker.committed.extend(offsets);
        }
        Ok(())
    }
}
