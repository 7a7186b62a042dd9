//! The worker's transaction, if there is one, and what outlives it: when the last one closed, and the outcomes that the
//! broker's refusals fixed.

use std::mem;
use std::time::{Duration, Instant};

use crate::record::dead_letter::Form;
use crate::record::output::Outputs;
use crate::record::{Batch, Topics};
use crate::stream::fault::{Fault, Objection, Refused, Written};
use crate::stream::process::Forced;
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
        if !self.forced.is_empty() {
            let origins = outputs.records.iter().map(|output| output.origin);
            transaction.fixed.extend(origins.filter(|origin| self.forced.contains_key(origin)));
        }
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

    /// The next attempt makes dead letters of the records whose outcome the broker does not take. `topics` are those of their
    /// origins.
    ///
    /// # Errors
    /// When it was the smallest dead letter that there is: then only a person can help.
    pub(super) fn force(&mut self, refused: Vec<Refused>, topics: &Topics) -> Result<(), Fault> {
        for Refused { origin, message, what, objection } in refused {
            let refusal = self.forced.entry(origin).or_default();
            let form = lesser(refusal.form, what, objection).ok_or_else(|| {
                Fault::Configuration(format!(
                    "the dead letter of {}/{}@{} is refused even without value, headers and key: {message}; the dead-letter \
                     topic must take records of 64 KiB: mend its max.message.bytes",
                    topics.name(origin.topic),
                    origin.partition,
                    origin.offset
                ))
            })?;
            refusal.form = form;
            if what == Written::Output {
                // The first reason stays.
                refusal.output.get_or_insert(message);
            }
        }
        Ok(())
    }

    /// A transaction has committed: the outcomes that it fixed do not come again.
    pub(super) fn settled(&mut self, transaction: &Transaction) {
        transaction.fixed.iter().for_each(|origin| drop(self.forced.remove(origin)));
    }
}

/// The form of the next dead letter: it never carries what was refused, and keeps everything else. `None` where nothing is
/// left to be left out.
fn lesser(form: Form, what: Written, objection: Objection) -> Option<Form> {
    let is_letter = what != Written::Output;
    match objection {
        Objection::Size { .. } if what == Written::LastResort => None,
        Objection::Size { fits } if is_letter => {
            Some(Form { fits: Some(form.fits.map_or(fits, |before| before.min(fits))), ..form })
        }
        // The letter would inherit it.
        Objection::Time => Some(Form { undated: true, ..form }),
        Objection::NullKey if is_letter => (!form.keyed).then_some(Form { keyed: true, ..form }),
        Objection::Unnamed if is_letter => (form != Form::LEAST).then_some(Form::LEAST),
        Objection::Size { .. } | Objection::NullKey | Objection::Unnamed => Some(form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::output::Output;
    use crate::record::{BatchBuilder, Origin, TopicIndex};
    use crate::stream::process::Refusal;

    const ORIGIN: Origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: 7 };

    fn refused(what: Written, objection: Objection) -> Vec<Refused> {
        let message = format!("{what:?}: {objection:?}");
        vec![Refused { origin: ORIGIN, message, what, objection }]
    }

    #[test]
    fn a_letter_leaves_out_what_was_refused_of_it_and_its_first_reason_stays() {
        let (mut transactions, topics) = (Transactions::default(), Topics::new(["in"]));
        let mut force = |what, objection| {
            transactions.force(refused(what, objection), &topics).map(|()| transactions.forced[&ORIGIN].clone())
        };
        let size = |fits| Objection::Size { fits };
        let reason = Some("Output: Size { fits: 9 }".to_owned());
        let whole = Refusal { output: reason.clone(), form: Form::default() };
        assert_eq!(
            force(Written::Output, size(9)),
            Ok(whole.clone()),
            "the output's size says nothing of the letter's"
        );
        assert_eq!(force(Written::Output, size(8)), Ok(whole), "two outputs of one record are one refusal");
        let undated = Form { undated: true, ..Form::default() };
        assert_eq!(force(Written::Letter, Objection::Time), Ok(Refusal { output: reason.clone(), form: undated }));
        let small = Form { fits: Some(100), ..undated };
        assert_eq!(force(Written::Letter, size(100)), Ok(Refusal { output: reason, form: small }));
        let fault = force(Written::LastResort, size(50)).unwrap_err();
        assert!(matches!(&fault, Fault::Configuration(message) if message.contains("in/0@7")), "{fault}");
    }

    #[test]
    fn a_letter_that_alone_was_refused_keeps_the_records_own_outcome() {
        let (mut transactions, topics) = (Transactions::default(), Topics::new(["in"]));
        transactions.force(refused(Written::Letter, Objection::NullKey), &topics).unwrap();
        let forced = &transactions.forced[&ORIGIN];
        assert_eq!((&forced.output, forced.form.keyed, forced.form.fits), (&None, true, None));
        transactions.force(refused(Written::Letter, Objection::Unnamed), &topics).unwrap();
        assert_eq!(transactions.forced[&ORIGIN].form, Form::LEAST);
        assert!(transactions.force(refused(Written::Letter, Objection::Unnamed), &topics).is_err());
    }

    #[test]
    fn an_outputs_time_that_is_refused_is_not_the_letters() {
        let (mut transactions, topics) = (Transactions::default(), Topics::new(["in"]));
        transactions.force(refused(Written::Output, Objection::Time), &topics).unwrap();
        assert_eq!(transactions.forced[&ORIGIN].form, Form { undated: true, ..Form::default() });
    }

    #[test]
    fn what_was_fixed_is_forgotten_once_it_is_committed_wherever_it_was_read() {
        let (mut transactions, topics) = (Transactions::default(), Topics::new(["in"]));
        let second = Duration::from_secs(1);
        let bounds = Bounds { interval: second, records: 9, bytes: 9, budget: second, pause_above: 1.0 };
        transactions.force(refused(Written::Letter, Objection::NullKey), &topics).unwrap();
        // A replay reads letters: their places in the topic say nothing of the records that they were.
        let mut builder = BatchBuilder::new(Topics::new(["dead"]));
        builder.push(Origin { offset: 900, ..ORIGIN }, None, None, None, None);
        let batch = builder.finish();
        for (origin, is_left) in [(Origin { offset: 5, ..ORIGIN }, true), (ORIGIN, false)] {
            let mut outputs = Outputs::default();
            let route = crate::record::Route::DeadLetters;
            let (key, value, timestamp, headers, last_resort) = (None, None, None, None, false);
            outputs.records.push(Output { origin, route, key, value, timestamp, headers, last_resort });
            transactions.begin(Instant::now(), &bounds, None);
            transactions.add(&batch, &outputs, &bounds);
            let transaction = transactions.take_open().unwrap();
            transactions.settled(&transaction);
            assert_eq!(transactions.forced().contains_key(&ORIGIN), is_left, "{origin:?}");
        }
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
