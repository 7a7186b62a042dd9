//! Whether a deployed release is trusted: not before this worker, or another, has committed enough of its records.

use crate::record::output::Counts;
use crate::stream::breaker::FEW;
use crate::stream::process::Probation;

/// Records after which a release is trusted, of each worker.
pub const PROBATION: u64 = 10_000;
/// One failed record of so many is the release's failure.
const ONE_IN: u64 = 20;

/// What the running release has committed here while it is on probation.
#[derive(Default)]
pub(super) struct ProbationCount {
    records: u64,
}

impl ProbationCount {
    /// Adds a committed transaction; whether the release has passed.
    pub(super) fn add(&mut self, counts: &Counts) -> bool {
        self.records += counts.records;
        self.records >= PROBATION
    }

    /// Another release runs.
    pub(super) fn restart(&mut self) {
        self.records = 0;
    }
}

/// Why what failed in a transaction is the failure of its release, when it is.
pub(super) fn failure(probation: Probation, counts: &Counts) -> Option<String> {
    let least = match probation {
        Probation::Passed | Probation::Developing => return None,
        // With nothing to go back to, a single record must not stop everything.
        Probation::First => FEW,
        Probation::Replaceable => 1,
    };
    if counts.failed < least || counts.failed * ONE_IN <= counts.records {
        return None;
    }
    let codes = counts.dead_letters.iter().map(|(code, count)| format!("{count} {code}")).collect::<Vec<_>>();
    Some(format!(
        "it failed on {} of {} records of one transaction ({})",
        counts.failed,
        counts.records,
        codes.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(records: u64, failed: u64) -> Counts {
        let mut counts = Counts { records: records - failed, failed, ..Counts::default() };
        (0..failed).for_each(|_| counts.dead_letter("plugin-trap"));
        counts
    }

    #[test]
    fn a_release_fails_above_one_record_in_twenty_and_not_at_it() {
        assert_eq!(failure(Probation::Replaceable, &counts(20, 1)), None);
        let why = failure(Probation::Replaceable, &counts(19, 1)).unwrap();
        assert_eq!(why, "it failed on 1 of 19 records of one transaction (1 plugin-trap)");
    }

    #[test]
    fn the_first_release_fails_on_more_than_a_few_and_a_trusted_one_on_none() {
        assert_eq!(failure(Probation::First, &counts(9, 9)), None);
        assert!(failure(Probation::First, &counts(10, 10)).is_some());
        for trusted in [Probation::Passed, Probation::Developing] {
            assert_eq!(failure(trusted, &counts(1_000, 1_000)), None);
        }
    }

    #[test]
    fn a_probation_ends_with_enough_records_of_one_release() {
        let mut probation = ProbationCount::default();
        assert!(!probation.add(&counts(PROBATION - 1, 0)));
        probation.restart();
        assert!(!probation.add(&counts(PROBATION - 1, 0)));
        assert!(probation.add(&counts(1, 0)));
    }
}
