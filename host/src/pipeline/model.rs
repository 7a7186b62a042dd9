//! Parser and classifier in their place: bytes to a matrix, the matrix to predictions, predictions to JSON.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::{Run, Work, reason_of, reason_of_rejection};
use crate::config::plan::{Stamp, Tombstones};
use crate::pipeline::isolate::isolate;
use crate::record::dead_letter::Reason;
use crate::record::prediction::{Answer, Writer};
use crate::record::{Route, id};
use sandpiper_sandbox::stage::{Classify, Parse};
use sandpiper_sandbox::wit::latest::{Matrix, Parsed, Rejection};

/// A parser and a classifier, opened and matched.
pub struct ModelStage {
    pub parser: Box<dyn Parse>,
    pub parser_release: String,
    pub classifier: Box<dyn Classify>,
    pub classifier_release: String,
    /// For each column of the classifier the parser's; `None` when they are the same in the same order.
    pub gather: Option<Vec<usize>>,
    /// Columns of the classifier.
    pub columns: u32,
    pub classes: usize,
    pub writer: Writer,
}

/// Rows that were parsed, in the classifier's columns.
struct Features {
    matrix: Matrix,
    /// For each row of the matrix the row of the work; `None` when they are the same.
    rows: Option<Vec<usize>>,
}

impl Features {
    fn row(&self, at: usize) -> usize {
        self.rows.as_ref().map_or(at, |rows| rows.get(at).copied().unwrap_or_default())
    }
}

impl ModelStage {
    pub(super) fn run(&mut self, run: &mut Run<'_>, work: &Work<'_>) {
        if work.batch.rows.iter().any(|row| row.null) {
            let (null, valued): (Vec<_>, Vec<_>) =
                (0..work.batch.len()).partition(|row| work.batch.rows.get(*row).is_some_and(|facts| facts.null));
            for row in null {
                tombstone(run, work, row);
            }
            self.predict(run, &work.select(&valued));
        } else {
            self.predict(run, work);
        }
    }

    fn predict(&mut self, run: &mut Run<'_>, work: &Work<'_>) {
        if work.batch.is_empty() || run.overflow.is_some() {
            return;
        }
        let features = self.parse(run, work);
        let columns = self.columns as usize;
        let rows = features.matrix.values.len() / columns.max(1);
        if rows == 0 {
            return;
        }
        let whole = 0..rows;
        let isolated = isolate(rows, run.settings.deadline, run.settings.budget, |range, deadline| {
            if range == whole {
                self.classifier.classify(&features.matrix, deadline)
            } else {
                self.classifier.classify(&slice(&features.matrix, &range), deadline)
            }
        });
        let release = &self.classifier_release;
        for (range, answer) in &isolated.answers {
            let rejected = by_row(&answer.rejected);
            let scores = answer.scores.chunks_exact(self.classes.max(1));
            for ((at, label), scores) in range.clone().zip(&answer.labels).zip(scores) {
                let row = features.row(at);
                if !answer.rejected.is_empty()
                    && let Some(rejection) = rejected(at - range.start)
                {
                    run.dead_letter(work.source(row), &reason_of_rejection(rejection, "classify", release));
                    continue;
                }
                let features = features.matrix.values.get(at * columns..(at + 1) * columns).unwrap_or_default();
                self.emit(run, work, row, &Answer { label: *label, scores, features });
            }
        }
        let undecided = isolated.undecided_by(|at| work.source(features.row(at)));
        for (at, failure) in isolated.poison {
            run.dead_letter(work.source(features.row(at)), &reason_of(&failure, "classify", release));
        }
        run.release_failed(&undecided, "classify", release);
    }

    fn emit(&self, run: &mut Run<'_>, work: &Work<'_>, row: usize, answer: &Answer<'_>) {
        if run.overflow.is_some() {
            return;
        }
        let id = match id::of(&run.settings.id, &work.batch, row) {
            Ok(id) => id,
            Err(why) => {
                let message = format!("{why}, and [input] id = \"{}\"", run.settings.id);
                run.dead_letter(work.source(row), &Reason::of_host("input", "no-id", message));
                return;
            }
        };
        let Some(facts) = work.batch.rows.get(row) else { return };
        let topic = work.batch.rows.topic(facts.origin);
        let value = run.outputs.write(|out| self.writer.write(out, &id, answer, topic, facts.origin));
        run.emit(work, row, Route::Output, Some(value), run.settings.stamp == Stamp::Header);
    }

    fn parse(&mut self, run: &mut Run<'_>, work: &Work<'_>) -> Features {
        let whole = 0..work.batch.len();
        let mut isolated = isolate(work.batch.len(), run.settings.deadline, run.settings.budget, |range, deadline| {
            if range == whole {
                self.parser.parse(&work.batch, deadline)
            } else {
                self.parser.parse(&work.batch.select(range), deadline)
            }
        });
        let release = &self.parser_release;
        for (row, failure) in std::mem::take(&mut isolated.poison) {
            run.dead_letter(work.source(row), &reason_of(&failure, "parse", release));
        }
        run.release_failed(&isolated.undecided_by(|row| work.source(row)), "parse", release);
        // The usual case costs nothing: every row is taken, and the columns stand as the classifier wants them.
        let clean = |(range, parsed): &(Range<usize>, Parsed)| {
            *range == whole && parsed.rejected.is_empty() && parsed.dropped.is_empty() && self.gather.is_none()
        };
        if isolated.answers.first().is_some_and(clean)
            && let Some((_, parsed)) = isolated.answers.pop()
        {
            return Features { matrix: parsed.rows, rows: None };
        }
        let mut features =
            Features { matrix: Matrix { columns: self.columns, values: Vec::new() }, rows: Some(Vec::new()) };
        for (range, parsed) in &isolated.answers {
            self.gather(run, work, range.start, parsed, &mut features);
        }
        features
    }

    /// Copies the rows that were taken, in the classifier's columns; `first` is the row that the answer's row 0 is.
    fn gather(&self, run: &mut Run<'_>, work: &Work<'_>, first: usize, parsed: &Parsed, features: &mut Features) {
        let rejected = by_row(&parsed.rejected);
        let dropped: HashSet<usize> = parsed.dropped.iter().map(|row| *row as usize).collect();
        for (at, cells) in parsed.rows.values.chunks_exact(parsed.rows.columns.max(1) as usize).enumerate() {
            if !parsed.rejected.is_empty()
                && let Some(rejection) = rejected(at)
            {
                run.dead_letter(
                    work.source(first + at),
                    &reason_of_rejection(rejection, "parse", &self.parser_release),
                );
                continue;
            }
            if dropped.contains(&at) {
                continue;
            }
            match &self.gather {
                None => features.matrix.values.extend_from_slice(cells),
                Some(columns) => {
                    let cell = |column: &usize| cells.get(*column).copied().unwrap_or(f32::NAN);
                    features.matrix.values.extend(columns.iter().map(cell));
                }
            }
            features.rows.get_or_insert_default().push(first + at);
        }
    }
}

fn tombstone(run: &mut Run<'_>, work: &Work<'_>, row: usize) {
    match run.settings.tombstones {
        Tombstones::Drop => {}
        Tombstones::Pass => run.pass(work, row, Route::Output),
        Tombstones::DeadLetter => {
            let reason =
                Reason::of_host("input", "null-value", "the value is null; [input] tombstones says what becomes of it");
            run.dead_letter(work.source(row), &reason);
        }
    }
}

/// Finds the rejection of a row.
fn by_row<'a>(rejected: &'a [Rejection]) -> impl Fn(usize) -> Option<&'a Rejection> {
    let index: HashMap<usize, &'a Rejection> =
        rejected.iter().map(|rejection| (rejection.row as usize, rejection)).collect();
    move |row| index.get(&row).copied()
}

fn slice(matrix: &Matrix, rows: &Range<usize>) -> Matrix {
    let columns = matrix.columns as usize;
    let values = matrix.values.get(rows.start * columns..rows.end * columns).unwrap_or_default();
    Matrix { columns: matrix.columns, values: values.to_vec() }
}
