//! The worker's transaction, if there is one, and what outlives it: when the last one closed, and the outcomes that the
//! broker's refusals fixed.

use std::collections::HashSet;
use std::mem;
use std::time::{Duration, Instant};

use crate::record::output::Outputs;
use crate::record::{Batch, Origin, Topics};
use crate::stream::fault::{Fault, Refused};
use crate::stream::process::{Forced, Refusal};
use crate::stream::transaction::{Bounds, Transaction};

#[derive(Default)]
enum Current {
    #[default]
    None,
    Open(Transaction),
    /// It was open when a fault left nobody knowing whether it committed: the committed offsets tell, and until they are
    /// read no other begins.
    InDoubt(Transaction),
}

#[derive(Default)]
pub(super) struct Transactions {
    current: Current,
    /// When the last commit started.
    last: Option<Instant>,
    forced: Forced,
}

impl Transactions {
    pub(super) fn open(&self) -> Option<&Transaction> {
        match &self.current {
            Current::Open(transaction) => Some(transaction),
            Current::None | Current::InDoubt(_) => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open().is_some()
    }

    pub(super) fn in_doubt(&self) -> Option<&Transaction> {
        match &self.current {
            Current::InDoubt(transaction) => Some(transaction),
            Current::None | Current::Open(_) => None,
        }
    }

    /// Begins one where none is open. `rested` is when the sink can take a commit.
    pub(super) fn begin(&mut self, now: Instant, bounds: &Bounds, rested: Option<Instant>) {
        if let Current::None = self.current {
            let due = (self.last.unwrap_or(now) + bounds.interval).max(rested.unwrap_or(now));
            self.current = Current::Open(Transaction::open(now, due));
        }
    }

    /// Adds a batch whose outputs are for the sink; answers until when it may take them.
    pub(super) fn add(&mut self, batch: &Batch, outputs: &Outputs, bounds: &Bounds) -> Option<Instant> {
        let Current::Open(transaction) = &mut self.current else { return None };
        transaction.add(batch, outputs);
        Some(transaction.deadline(bounds))
    }

    /// Nobody knows whether the open one committed.
    pub(super) fn doubt(&mut self) {
        self.current = match mem::take(&mut self.current) {
            Current::Open(transaction) | Current::InDoubt(transaction) => Current::InDoubt(transaction),
            Current::None => Current::None,
        };
    }

    /// What became of the one in doubt is known.
    pub(super) fn take_doubtful(&mut self) -> Option<Transaction> {
        match mem::take(&mut self.current) {
            Current::InDoubt(transaction) => Some(transaction),
            current @ (Current::None | Current::Open(_)) => {
                self.current = current;
                None
            }
        }
    }

    /// The open one's commit starts now.
    pub(super) fn closing(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// The open one is over.
    pub(super) fn take_open(&mut self) -> Option<Transaction> {
        match mem::take(&mut self.current) {
            Current::Open(transaction) => Some(transaction),
            current @ (Current::None | Current::InDoubt(_)) => {
                self.current = current;
                None
            }
        }
    }

    pub(super) fn is_due(&self, bounds: &Bounds, now: Instant) -> bool {
        self.open().is_some_and(|transaction| transaction.is_due(bounds, now))
    }

    /// Until the open one is due.
    pub(super) fn time_left(&self, now: Instant) -> Option<Duration> {
        Some(self.open()?.time_left(now))
    }

    /// Outcomes that are fixed beforehand.
    pub(super) fn forced(&self) -> &Forced {
        &self.forced
    }

    /// The next attempt makes dead letters of the records whose outcome the broker does not take.
    ///
    /// # Errors
    /// When it was the smallest dead letter that there is: then only a person can help.
    pub(super) fn force(&mut self, refused: Vec<Refused>, topics: &Topics) -> Result<(), Fault> {
        // Before any of these: several outputs of one record may be refused at once.
        let forced: HashSet<Origin> = self.forced.keys().copied().collect();
        for Refused { origin, message, last_resort } in refused {
            if last_resort {
                return Err(Fault::Configuration(format!(
                    "the dead letter of {}/{}@{} is refused even without its value: {message}; the dead-letter topic must \
                     take records of 64 KiB and null keys: mend its max.message.bytes and cleanup.policy",
                    topics.name(origin.topic),
                    origin.partition,
                    origin.offset
                )));
            }
            // Refused once more means that its dead letter was refused: then without the value.
            let with_value = !forced.contains(&origin);
            self.forced.insert(origin, Refusal { message, with_value });
        }
        Ok(())
    }

    /// A transaction has committed: the outcomes that it fixed do not come again.
    pub(super) fn settled(&mut self, transaction: &Transaction) {
        if !self.forced.is_empty() {
            self.forced.retain(|origin, _| !transaction.covers((*origin).into(), origin.offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicIndex;

    fn refused(offset: i64, last_resort: bool) -> Refused {
        let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset };
        Refused { origin, message: "it is too large".into(), last_resort }
    }

    #[test]
    fn a_record_keeps_its_value_until_its_dead_letter_is_refused_too() {
        let (mut transactions, topics) = (Transactions::default(), Topics::new(["in"]));
        let with_value = |transactions: &Transactions| transactions.forced[&refused(7, false).origin].with_value;
        transactions.force(vec![refused(7, false), refused(7, false)], &topics).unwrap();
        assert!(with_value(&transactions), "two outputs of one record are one refusal");
        transactions.force(vec![refused(7, false)], &topics).unwrap();
        assert!(!with_value(&transactions));
        let fault = transactions.force(vec![refused(7, true)], &topics).unwrap_err();
        assert!(matches!(&fault, Fault::Configuration(message) if message.contains("in/0@7")), "{fault}");
    }

    #[test]
    fn while_one_is_in_doubt_none_is_open_and_none_begins() {
        let second = Duration::from_secs(1);
        let bounds = Bounds { interval: second, records: 9, bytes: 9, budget: second, pause_above: 1.0 };
        let mut transactions = Transactions::default();
        transactions.doubt();
        assert!(transactions.in_doubt().is_none(), "nothing was open");
        transactions.begin(Instant::now(), &bounds, None);
        transactions.doubt();
        transactions.begin(Instant::now(), &bounds, None);
        assert!(!transactions.is_open() && transactions.take_open().is_none() && transactions.in_doubt().is_some());
        assert!(transactions.take_doubtful().is_some());
        transactions.begin(Instant::now(), &bounds, None);
        assert!(transactions.is_open() && transactions.take_doubtful().is_none());
    }

    #[test]
    fn a_transaction_is_due_an_interval_after_the_last_commit_started_but_not_before_its_sink_has_rested() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let bounds = Bounds { interval: second, records: 9, bytes: 9, budget: second, pause_above: 1.0 };
        let due = |last: Option<Instant>, rested: Option<Instant>| {
            let mut transactions = Transactions { last, ..Transactions::default() };
            transactions.begin(now + second, &bounds, rested);
            transactions.time_left(now)
        };
        assert_eq!(due(None, None), Some(2 * second));
        assert_eq!(due(Some(now), None), Some(second));
        assert_eq!(due(Some(now), Some(now + 3 * second)), Some(3 * second));
    }
}
