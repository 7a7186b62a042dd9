//! A failing call narrowed down to the rows that make it fail, so that their neighbours are unaffected.

use std::ops::Range;
use std::time::{Duration, Instant};

use sandpiper_sandbox::Failure;

/// Calls that one batch may cost: 100 poison rows of 1,024 take 745.
const CALLS: usize = 1_100;
/// Least share of the whole deadline that a few rows get.
const LEAST: f64 = 1.0 / 8.0;

/// What a batch came to.
pub struct Isolated<A> {
    /// Answers and the rows that they are for, ascending.
    pub answers: Vec<(Range<usize>, A)>,
    /// Rows that fail alone, ascending.
    pub poison: Vec<(usize, Failure)>,
    /// Rows that nobody asked about any more, since the budget was spent: the release's failure, not theirs.
    pub undecided: Vec<(usize, Failure)>,
}

impl<A> Isolated<A> {
    /// The undecided ones by another number of theirs.
    pub fn undecided_by(&self, number: impl Fn(usize) -> usize) -> Vec<(usize, Failure)> {
        self.undecided.iter().map(|(row, failure)| (number(*row), failure.clone())).collect()
    }
}

/// Calls for all rows; after a failure once more, then for halves, with a deadline that shrinks with the rows.
pub fn isolate<A>(
    rows: usize,
    deadline: Duration,
    budget: Duration,
    mut call: impl FnMut(Range<usize>, Duration) -> Result<A, Failure>,
) -> Isolated<A> {
    let mut result = Isolated { answers: Vec::new(), poison: Vec::new(), undecided: Vec::new() };
    if let Ok(answer) = call(0..rows, deadline) {
        result.answers.push((0..rows, answer));
        return result;
    }
    let (started, mut calls) = (Instant::now(), 1);
    // The first entry is the retry on a fresh instance: a transient failure ends here.
    let mut waiting: Vec<Range<usize>> = std::iter::once(0..rows).collect();
    while let Some(range) = waiting.pop() {
        calls += 1;
        // A row alone gets all of the time: what does not do in that is poison.
        let share = if range.len() <= 1 { 1.0 } else { (range.len() as f64 / rows as f64).max(LEAST) };
        match call(range.clone(), deadline.mul_f64(share)) {
            Ok(answer) => result.answers.push((range, answer)),
            Err(failure) if range.len() <= 1 => result.poison.push((range.start, failure)),
            Err(failure) if calls >= CALLS || started.elapsed() >= budget => {
                let rest = std::iter::once(range).chain(waiting.drain(..).rev()).flatten();
                result.undecided.extend(rest.map(|row| (row, failure.clone())));
            }
            Err(_) => {
                let middle = range.start + range.len() / 2;
                waiting.push(middle..range.end);
                waiting.push(range.start..middle);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandpiper_sandbox::FailureKind;

    const LONG: Duration = Duration::from_secs(3_600);

    fn failure() -> Failure {
        Failure { kind: FailureKind::Trap, message: "unreachable".into(), log: String::new() }
    }

    /// Fails whenever the rows hold one of `poison`; counts its calls.
    fn run(rows: usize, poison: &[usize]) -> (Isolated<usize>, usize) {
        let mut calls = 0;
        let isolated = isolate(rows, LONG, LONG, |range, _| {
            calls += 1;
            if poison.iter().any(|row| range.contains(row)) { Err(failure()) } else { Ok(range.len()) }
        });
        (isolated, calls)
    }

    #[test]
    fn a_batch_without_poison_is_one_call() {
        let (isolated, calls) = run(1_024, &[]);
        assert_eq!((calls, isolated.answers.len(), isolated.poison.len()), (1, 1, 0));
    }

    #[test]
    fn a_failure_that_passes_costs_one_more_call_and_no_row() {
        let mut calls = 0;
        let isolated = isolate(8, LONG, LONG, |range, _| {
            calls += 1;
            if calls == 1 { Err(failure()) } else { Ok(range.len()) }
        });
        assert_eq!((calls, isolated.answers.len(), isolated.poison.len()), (2, 1, 0));
    }

    #[test]
    fn poison_rows_stand_alone_and_every_neighbour_is_answered() {
        let poison = [0, 7, 500, 1_023];
        let (isolated, calls) = run(1_024, &poison);
        assert_eq!(isolated.poison.iter().map(|(row, _)| *row).collect::<Vec<_>>(), poison);
        assert_eq!(isolated.answers.iter().map(|(_, rows)| rows).sum::<usize>(), 1_020);
        assert!(isolated.answers.is_sorted_by_key(|(range, _)| range.start));
        assert!(isolated.undecided.is_empty());
        assert!(calls < 90, "{calls} calls");
    }

    #[test]
    fn a_hundred_poison_rows_stay_within_the_budget() {
        let poison: Vec<usize> = (0..100).map(|row| row * 10).collect();
        let (isolated, calls) = run(1_024, &poison);
        assert_eq!(isolated.poison.len(), 100);
        assert!(calls <= CALLS, "{calls} calls");
    }

    #[test]
    fn a_release_that_always_fails_spends_the_budget_and_no_row_is_forgotten() {
        let poison: Vec<usize> = (0..1_024).collect();
        let (isolated, calls) = run(1_024, &poison);
        assert!(calls <= CALLS + 1, "{calls} calls");
        let mut rows: Vec<usize> = isolated.poison.iter().chain(&isolated.undecided).map(|(row, _)| *row).collect();
        rows.sort_unstable();
        assert_eq!(rows, poison);
        assert!(!isolated.undecided.is_empty());
    }

    #[test]
    fn a_deadline_shrinks_with_the_rows() {
        let mut deadlines = Vec::new();
        isolate(4, Duration::from_secs(4), LONG, |range, deadline| {
            deadlines.push((range, deadline.as_secs()));
            Err::<(), _>(failure())
        });
        assert_eq!(deadlines.get(..3).unwrap(), [(0..4, 4), (0..4, 4), (0..2, 2)]);
    }
}
