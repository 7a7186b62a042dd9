//! What a worker says of itself: collected as it happens, published whole, and never read back by the worker.

use std::time::{Duration, Instant};

use super::State;
use crate::record::Revision;
use crate::record::output::Counts;
use crate::stream::report::{PartitionReport, Publisher, WorkerReport, WorkerState};

/// How often an idle worker's report is renewed.
const RENEWAL: Duration = Duration::from_millis(500);
/// Swap pauses kept.
const PAUSES: usize = 1_000;

/// Steps of rollouts that are kept.
const STEPS: usize = 32;

pub(super) struct Reporting {
    report: WorkerReport,
    publisher: Publisher,
    /// `None` when something has changed since.
    published: Option<Instant>,
    /// An input topic was not there, and nothing was started or committed since. The partitions do not show it: a member
    /// without any may be one too many.
    misses_topic: bool,
    /// The group has assigned something to this member, which may be nothing.
    has_joined: bool,
}

impl Reporting {
    /// Goes on with the counts of the worker before, of which the last report is the publisher's.
    pub(super) fn new(publisher: Publisher) -> Self {
        let report = publisher.latest().as_ref().clone();
        Self { report, publisher, published: None, misses_topic: false, has_joined: false }
    }

    /// Something has changed that is to be published soon.
    pub(super) fn outdated(&mut self) {
        self.published = None;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.published.is_none_or(|at| now.saturating_duration_since(at) >= RENEWAL)
    }

    /// The last error from now on; whether it is another than before.
    pub(super) fn error(&mut self, message: String) -> bool {
        let is_new = self.report.last_error.as_ref() != Some(&message);
        self.report.last_error = Some(message);
        is_new
    }

    pub(super) fn misses_topic(&mut self) {
        self.misses_topic = true;
    }

    pub(super) fn joined(&mut self) {
        self.has_joined = true;
    }

    /// So many offsets of the input were deleted before they were read.
    pub(super) fn missed(&mut self, offsets: u64) {
        self.report.missed += offsets;
    }

    pub(super) fn found_topics(&mut self) {
        self.misses_topic = false;
    }

    /// A transaction took that long from its closing to the broker's answer.
    pub(super) fn timed(&mut self, commit: Duration) {
        self.report.commits.add(commit);
    }

    pub(super) fn committed(&mut self, counts: &Counts, revision: Option<Revision>) {
        self.misses_topic = false;
        self.report.transactions += 1;
        self.report.counts.add(counts);
        // It is kept by revision.
        self.report.counts.comparison = None;
        if let Some(revision) = revision {
            *self.report.records_by_revision.entry(revision).or_default() += counts.records;
            if let Some(comparison) = &counts.comparison {
                let step = self.report.steps.entry(revision).or_default();
                step.records += counts.records;
                step.dead_letters += counts.dead_letters.values().sum::<u64>();
                step.comparison.add(comparison);
                while self.report.steps.len() > STEPS {
                    self.report.steps.pop_first();
                }
            }
        }
    }

    pub(super) fn aborted(&mut self) {
        self.report.aborted += 1;
    }

    pub(super) fn recovered(&mut self) {
        self.report.recoveries += 1;
    }

    pub(super) fn swapped(&mut self, pause: Duration) {
        if self.report.swap_pauses_us.len() == PAUSES {
            self.report.swap_pauses_us.remove(0);
        }
        self.report.swap_pauses_us.push(pause.as_micros() as u64);
    }

    pub(super) fn publish(
        &mut self,
        state: State,
        held: bool,
        revision: Option<Revision>,
        partitions: Vec<PartitionReport>,
        now: Instant,
        unix_ms: i64,
    ) {
        self.published = Some(now);
        self.report.state = match state {
            State::Recovering => WorkerState::Recovering,
            State::Failed => WorkerState::Failed,
            State::Stopped => WorkerState::Stopped,
            State::Running if held => WorkerState::Paused,
            State::Running if self.misses_topic || !self.has_joined => WorkerState::Starting,
            State::Starting => WorkerState::Starting,
            State::Running => WorkerState::Running,
        };
        (self.report.revision, self.report.partitions) = (revision, partitions);
        (self.report.at, self.report.published) = (unix_ms, Some(now));
        self.publisher.publish(self.report.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(reporting: &mut Reporting, state: State, held: bool) -> WorkerState {
        reporting.publish(state, held, None, Vec::new(), Instant::now(), 0);
        reporting.publisher.latest().state
    }

    #[test]
    fn a_worker_that_is_held_is_paused_and_one_that_misses_a_topic_is_starting_unless_it_is_worse() {
        let mut reporting = Reporting::new(Publisher::default());
        assert_eq!(published(&mut reporting, State::Running, false), WorkerState::Starting, "it is no member yet");
        reporting.joined();
        assert_eq!(published(&mut reporting, State::Starting, false), WorkerState::Starting);
        assert_eq!(published(&mut reporting, State::Running, false), WorkerState::Running);
        reporting.misses_topic();
        assert_eq!(published(&mut reporting, State::Running, false), WorkerState::Starting);
        assert_eq!(published(&mut reporting, State::Running, true), WorkerState::Paused);
        assert_eq!(published(&mut reporting, State::Recovering, true), WorkerState::Recovering);
        reporting.found_topics();
        assert_eq!(published(&mut reporting, State::Failed, true), WorkerState::Failed);
        assert_eq!(published(&mut reporting, State::Running, false), WorkerState::Running);
    }

    #[test]
    fn a_report_is_renewed_in_its_time_and_at_once_when_something_changed() {
        let (mut reporting, now) = (Reporting::new(Publisher::default()), Instant::now());
        assert!(reporting.is_due(now));
        reporting.publish(State::Running, false, None, Vec::new(), now, 0);
        assert!(!reporting.is_due(now + RENEWAL - Duration::from_millis(1)));
        assert!(reporting.is_due(now + RENEWAL));
        reporting.outdated();
        assert!(reporting.is_due(now));
    }

    #[test]
    fn counts_of_a_worker_go_on_in_the_next_one_of_its_place() {
        let publisher = Publisher::default();
        let mut reporting = Reporting::new(publisher.clone());
        let counts = Counts { records: 3, emitted: 3, ..Counts::default() };
        reporting.committed(&counts, Revision::new(7));
        published(&mut reporting, State::Running, false);
        let mut reporting = Reporting::new(publisher);
        reporting.committed(&counts, None);
        published(&mut reporting, State::Running, false);
        let report = reporting.publisher.latest();
        assert_eq!((report.counts.records, report.transactions), (6, 2));
        assert_eq!(report.records_by_revision.get(&Revision::new(7).unwrap()), Some(&3));
    }

    #[test]
    fn the_last_thousand_pauses_are_kept_and_an_error_is_new_once() {
        let mut reporting = Reporting::new(Publisher::default());
        (0..=PAUSES).for_each(|micros| reporting.swapped(Duration::from_micros(micros as u64)));
        assert_eq!(
            (reporting.report.swap_pauses_us.len(), reporting.report.swap_pauses_us.first()),
            (PAUSES, Some(&1))
        );
        assert!(reporting.error("a".into()) && !reporting.error("a".into()) && reporting.error("b".into()));
    }
}
