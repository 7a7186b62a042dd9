//! Parser and classifier in their place: bytes to a matrix, the matrix to predictions, predictions to JSON.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Instant;

use super::challenger::{Asked, ModelChallenger, Said, place};
use super::{Run, Work, reason_of, reason_of_rejection};
use crate::config::plan::Tombstones;
use crate::pipeline::isolate::{Isolated, isolate};
use crate::record::dead_letter::Reason;
use crate::record::prediction::{Answer, Writer};
use crate::record::{Role, Route, id};
use sandpiper_sandbox::stage::{Classify, Parse};
use sandpiper_sandbox::wit::latest::{Matrix, Parsed, Predictions, Rejection};

/// Bytes of the largest value that holds both arms' answers: every topic that Sandpiper writes must take as much.
const LARGEST_PAIR: usize = 64 << 10;

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
    pub challenger: Option<ModelChallenger>,
    /// For records that a challenger among the transforms has made.
    pub behind_challenger: Option<Writer>,
}

/// Rows that were parsed, in the classifier's columns.
struct Features {
    matrix: Matrix,
    /// For each row of the matrix the row of the work; `None` when they are the same.
    rows: Option<Vec<usize>>,
}

impl Features {
    fn none(columns: u32) -> Self {
        Self { matrix: Matrix { columns, values: Vec::new() }, rows: Some(Vec::new()) }
    }

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
        let sampled = self.challenger.as_ref().map(|challenger| challenger.sampling.roles(work));
        let started = Instant::now();
        let (features, parsed) = self.parse(run, work);
        let columns = self.columns as usize;
        let rows = features.matrix.values.len() / columns.max(1);
        let whole = 0..rows;
        let isolated = match rows {
            0 => Isolated { answers: Vec::new(), poison: Vec::new(), undecided: Vec::new() },
            _ => isolate(rows, run.settings.deadline, run.settings.budget, |range, deadline| {
                if range == whole {
                    self.classifier.classify(&features.matrix, deadline)
                } else {
                    self.classifier.classify(&slice(&features.matrix, &range), deadline)
                }
            }),
        };
        let took = started.elapsed();
        let mut other = match (&mut self.challenger, sampled) {
            (Some(challenger), Some((roles, sampled))) => {
                run.comparison().champion_calls.note(took);
                Some(challenger.answer(run, work, roles, &sampled, &features, &parsed))
            }
            _ => None,
        };
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
                let answer = Answer { label: *label, scores, features };
                match &mut other {
                    None => self.emit(run, work, row, &answer),
                    Some(other) => self.emit_both(run, work, row, &answer, other),
                }
            }
        }
        let undecided = isolated.undecided_by(|at| work.source(features.row(at)));
        for (at, failure) in isolated.poison {
            run.dead_letter(work.source(features.row(at)), &reason_of(&failure, "classify", release));
        }
        run.release_failed(&undecided, "classify", release);
        if let Some(other) = other {
            for (said, champion_answered) in other.said.iter().zip(&other.champion_answered) {
                run.count_unequal(*champion_answered, *said);
            }
        }
    }

    fn emit(&self, run: &mut Run<'_>, work: &Work<'_>, row: usize, answer: &Answer<'_>) {
        let role = run.role(work, row);
        let behind = self.behind_challenger.as_ref().filter(|_| role == Role::Challenger);
        write(run, work, row, role, (behind.unwrap_or(&self.writer), answer), None);
    }

    /// Emits what the champion answered, with what the challenger did, or the other way round.
    fn emit_both(
        &self,
        run: &mut Run<'_>,
        work: &Work<'_>,
        row: usize,
        answer: &Answer<'_>,
        other: &mut ChallengersAnswer,
    ) {
        if let Some(answered) = other.champion_answered.get_mut(row) {
            *answered = true;
        }
        let ours = (&self.writer, answer);
        let (Some(challenger), Some(theirs)) = (&self.challenger, other.row(row)) else {
            return write(run, work, row, Role::Champion, ours, None);
        };
        let classes = (self.writer.class(answer.label), challenger.writer.class(theirs.label));
        run.count_pair(classes.0 == classes.1, || format!("{}: {} / {}", place(work, row), classes.0, classes.1));
        let theirs = (&challenger.writer, &theirs);
        match other.roles.get(row).copied().flatten() {
            Some(Role::Challenger) => {
                run.comparison().emitted += 1;
                write(run, work, row, Role::Challenger, theirs, Some(ours));
            }
            _ => write(run, work, row, Role::Champion, ours, Some(theirs)),
        }
    }

    /// The rows that the parser takes, and its answers as they came where they are not these.
    fn parse(&mut self, run: &mut Run<'_>, work: &Work<'_>) -> (Features, Vec<(Range<usize>, Parsed)>) {
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
            let features = Features { matrix: parsed.rows, rows: None };
            return (features, Vec::new());
        }
        let mut features = Features::none(self.columns);
        for (range, parsed) in &isolated.answers {
            self.take(run, work, range.start, parsed, &mut features);
        }
        (features, isolated.answers)
    }

    /// Copies the rows that were taken, in the classifier's columns; `first` is the row that the answer's row 0 is.
    fn take(&self, run: &mut Run<'_>, work: &Work<'_>, first: usize, parsed: &Parsed, features: &mut Features) {
        for rejection in &parsed.rejected {
            let reason = reason_of_rejection(rejection, "parse", &self.parser_release);
            run.dead_letter(work.source(first + rejection.row as usize), &reason);
        }
        gather(self.gather.as_deref(), first, parsed, |_| true, features);
    }
}

impl ModelChallenger {
    /// What it says of the rows that both run on. `features` are the champion's; `parsed` is what its parser answered, where that is
    /// something else.
    fn answer(
        &mut self,
        run: &mut Run<'_>,
        work: &Work<'_>,
        roles: Vec<Option<Role>>,
        sampled: &[usize],
        features: &Features,
        parsed: &[(Range<usize>, Parsed)],
    ) -> ChallengersAnswer {
        let said = roles.iter().map(|role| if role.is_some() { Said::Nothing } else { Said::NotAsked }).collect();
        let mut answer = ChallengersAnswer {
            said,
            champion_answered: vec![false; roles.len()],
            roles,
            predictions: None,
            features: Features::none(self.columns),
            columns: self.columns as usize,
            classes: self.classes,
        };
        if sampled.is_empty() {
            return answer;
        }
        let everything = sampled.len() == work.batch.len();
        let is_sampled = |row: usize| answer.roles.get(row).is_some_and(Option::is_some);
        let mut own = Features::none(self.columns);
        if let Some(parser) = &mut self.parser {
            let asked = run.ask(|deadline| match everything {
                true => parser.parse(&work.batch, deadline),
                false => parser.parse(&work.batch.select(sampled.iter().copied()), deadline),
            });
            let parsed = match asked {
                Asked::Answered(parsed) => parsed,
                Asked::Failed => return answer.all(Said::Failed),
                Asked::Skipped => return answer.all(Said::Skipped),
            };
            gather(self.gather.as_deref(), 0, &parsed, |_| true, &mut own);
            // Of the sample, as yet.
            own.rows.iter_mut().flatten().for_each(|row| *row = sampled.get(*row).copied().unwrap_or_default());
        } else if parsed.is_empty() {
            // The champion's parser took every row, in the columns in which it supplies them.
            let whole = Parsed { rows: features.matrix.clone(), rejected: Vec::new(), dropped: Vec::new() };
            gather(self.gather.as_deref(), 0, &whole, is_sampled, &mut own);
        } else {
            for (range, parsed) in parsed {
                gather(self.gather.as_deref(), range.start, parsed, is_sampled, &mut own);
            }
        }
        if own.matrix.values.is_empty() {
            return answer;
        }
        answer.features = own;
        match run.ask(|deadline| self.classifier.classify(&answer.features.matrix, deadline)) {
            Asked::Answered(predictions) => answer.answered(predictions),
            Asked::Failed => answer.parsed(Said::Failed),
            Asked::Skipped => answer.parsed(Said::Skipped),
        }
    }
}

/// What a challenger says of the rows of one batch.
struct ChallengersAnswer {
    /// By row of the work.
    said: Vec<Said>,
    champion_answered: Vec<bool>,
    roles: Vec<Option<Role>>,
    predictions: Option<Predictions>,
    features: Features,
    columns: usize,
    classes: usize,
}

impl ChallengersAnswer {
    /// Of every row that it was to be asked about.
    fn all(mut self, said: Said) -> Self {
        self.said.iter_mut().filter(|each| **each != Said::NotAsked).for_each(|each| *each = said);
        self
    }

    /// Of every row that it parsed.
    fn parsed(mut self, said: Said) -> Self {
        for row in self.features.rows.iter().flatten() {
            if let Some(each) = self.said.get_mut(*row) {
                *each = said;
            }
        }
        self
    }

    fn answered(mut self, predictions: Predictions) -> Self {
        let rejected: HashSet<usize> = predictions.rejected.iter().map(|rejection| rejection.row as usize).collect();
        for (at, row) in self.features.rows.iter().flatten().enumerate() {
            if let Some(each) = self.said.get_mut(*row).filter(|_| !rejected.contains(&at)) {
                *each = Said::Answered(at);
            }
        }
        self.predictions = Some(predictions);
        self
    }

    /// Its answer for a row, where it has one.
    fn row(&self, row: usize) -> Option<Answer<'_>> {
        let Some(Said::Answered(at)) = self.said.get(row) else { return None };
        let predictions = self.predictions.as_ref()?;
        Some(Answer {
            label: *predictions.labels.get(*at)?,
            scores: predictions.scores.get(at * self.classes..(at + 1) * self.classes)?,
            features: self.features.matrix.values.get(at * self.columns..(at + 1) * self.columns)?,
        })
    }
}

/// Writes one prediction, with what the other arm says where there is one.
fn write(
    run: &mut Run<'_>,
    work: &Work<'_>,
    row: usize,
    role: Role,
    (writer, answer): (&Writer, &Answer<'_>),
    other: Option<(&Writer, &Answer<'_>)>,
) {
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
    let value = run.outputs.write(|out| {
        let start = out.len();
        writer.write(out, &id, answer, other, topic, facts.origin);
        // What the topic would take alone is not to be refused for what stands beside it.
        if other.is_some() && out.len() - start > LARGEST_PAIR {
            out.truncate(start);
            writer.write(out, &id, answer, None, topic, facts.origin);
        }
    });
    run.emit(work, row, Route::Output, Some(value), role);
}

/// Copies those rows of a parser's answer that it took, in a classifier's columns. `first` is the row of the work that the
/// answer's row 0 is.
fn gather(
    columns: Option<&[usize]>,
    first: usize,
    parsed: &Parsed,
    wanted: impl Fn(usize) -> bool,
    features: &mut Features,
) {
    let left_out: HashSet<usize> = (parsed.rejected.iter().map(|rejection| rejection.row))
        .chain(parsed.dropped.iter().copied())
        .map(|row| row as usize)
        .collect();
    let Features { matrix, rows } = features;
    let rows = rows.get_or_insert_default();
    for (at, cells) in parsed.rows.values.chunks_exact(parsed.rows.columns.max(1) as usize).enumerate() {
        if left_out.contains(&at) || !wanted(first + at) {
            continue;
        }
        match columns {
            None => matrix.values.extend_from_slice(cells),
            Some(columns) => {
                matrix.values.extend(columns.iter().map(|column| cells.get(*column).copied().unwrap_or(f32::NAN)));
            }
        }
        rows.push(first + at);
    }
}

fn tombstone(run: &mut Run<'_>, work: &Work<'_>, row: usize) {
    match run.settings.tombstones {
        Tombstones::Drop => {}
        Tombstones::Pass => run.pass(work, row, Route::Output, run.role(work, row)),
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
