//! The open transaction, if there is one, and what outlives it: when the last one closed, and the outcomes that the
//! broker's refusals fixed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::record::{Origin, Topics};
use crate::stream::fault::{Fault, Refused};
use crate::stream::process::{Forced, Refusal};
use crate::stream::transaction::{Bounds, Transaction};

#[derive(Default)]
pub(super) struct Transactions {
    open: Option<Transaction>,
    /// When the last commit started.
    last: Option<Instant>,
    forced: Forced,
}

impl Transactions {
    pub(super) fn open(&self) -> Option<&Transaction> {
        self.open.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The open one, which begins now where there is none, and the outcomes that are fixed beforehand. `rested` is when
    /// the sink can take a commit.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        bounds: &Bounds,
        rested: Option<Instant>,
    ) -> (&mut Transaction, &Forced) {
        let due = (self.last.unwrap_or(now) + bounds.interval).max(rested.unwrap_or(now));
        (self.open.get_or_insert_with(|| Transaction::open(now, due)), &self.forced)
    }

    /// The open one's commit starts now.
    pub(super) fn closing(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// The open one is over.
    pub(super) fn take(&mut self) -> Option<Transaction> {
        self.open.take()
    }

    pub(super) fn is_due(&self, bounds: &Bounds, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|transaction| transaction.is_due(bounds, now))
    }

    /// Until the open one is due.
    pub(super) fn time_left(&self, now: Instant) -> Option<Duration> {
        Some(self.open.as_ref()?.time_left(now))
    }

    #[cfg(test)]
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
    fn a_transaction_is_due_an_interval_after_the_last_commit_started_but_not_before_its_sink_has_rested() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let bounds = Bounds { interval: second, records: 9, bytes: 9, budget: second, pause_above: 1.0 };
        let due = |last: Option<Instant>, rested: Option<Instant>| {
            let mut transactions = Transactions { last, ..Transactions::default() };
            transactions.begin(now + second, &bounds, rested).0.time_left(now)
        };
        assert_eq!(due(None, None), 2 * second);
        assert_eq!(due(Some(now), None), second);
        assert_eq!(due(Some(now), Some(now + 3 * second)), 3 * second);
    }
}
