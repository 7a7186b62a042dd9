//! A transform in its place: its named outputs go to topics or on to the next stage.

use std::borrow::Cow;

use super::{Overflow, Run, Work, reason_of, reason_of_rejection, size, with_headers};
use crate::pipeline::isolate::isolate;
use crate::record::{BatchBuilder, Route};
use sandpiper_sandbox::stage::Transform;
use sandpiper_sandbox::wit::latest::{EmittedKey, Transformed};
use sandpiper_sandbox::{Failure, FailureKind};

/// A transform, opened.
pub struct TransformStage {
    pub stage: Box<dyn Transform>,
    /// `transform[0]`, in messages and dead letters.
    pub name: String,
    pub release: String,
    /// For each output of the plugin where it goes; `None` goes on to the next stage.
    pub routes: Vec<Option<Route>>,
}

impl TransformStage {
    /// What goes on to the next stage.
    pub(super) fn run(&mut self, run: &mut Run<'_>, work: &Work<'_>) -> Work<'static> {
        let mut onward = Onward { builder: BatchBuilder::new(work.batch.rows.topics.clone()), sources: Vec::new() };
        if !work.batch.is_empty() && run.overflow.is_none() {
            let whole = 0..work.batch.len();
            let mut room = Some(run.settings.max_output.saturating_sub(run.written));
            let isolated = isolate(work.batch.len(), run.settings.deadline, run.settings.budget, |range, deadline| {
                // Nothing is asked any more once there is no room for the answer.
                let left = room.ok_or_else(no_room)?;
                let batch = match range == whole {
                    true => Cow::Borrowed(&*work.batch),
                    false => Cow::Owned(work.batch.select(range)),
                };
                let answer = self.stage.transform(&batch, deadline)?;
                room = left.checked_sub(size::transformed(&answer, &batch));
                room.map(|_| answer).ok_or_else(no_room)
            });
            if room.is_none() {
                run.overflow = Some(Overflow { stage: self.name.clone(), release: Some(self.release.clone()) });
                return onward.finish();
            }
            let undecided = isolated.undecided_by(|row| work.source(row));
            for (range, answer) in isolated.answers {
                self.route(run, work, range.start, answer, &mut onward);
            }
            for (row, failure) in isolated.poison {
                run.dead_letter(work.source(row), &reason_of(&failure, &self.name, &self.release));
            }
            run.release_failed(&undecided, &self.name, &self.release);
        }
        onward.finish()
    }

    /// `first` is the row of `work` that the answer's row 0 is.
    fn route(&self, run: &mut Run<'_>, work: &Work<'_>, first: usize, answer: Transformed, onward: &mut Onward) {
        for rejection in &answer.rejected {
            let reason = reason_of_rejection(rejection, &self.name, &self.release);
            run.dead_letter(work.source(first + rejection.row as usize), &reason);
        }
        let spans = answer.offsets.iter().zip(answer.offsets.iter().skip(1));
        for (emitted, (start, end)) in answer.emitted.iter().zip(spans) {
            let row = first + emitted.source_row as usize;
            let Some(facts) = work.batch.rows.get(row) else { continue };
            let bytes = answer.payload.get(*start as usize..*end as usize).unwrap_or_default();
            let value = if emitted.tombstone { None } else { Some(bytes) };
            let key = match &emitted.key {
                EmittedKey::Input => work.batch.rows.key(facts),
                EmittedKey::None => None,
                EmittedKey::Bytes(bytes) => Some(bytes.as_slice()),
            };
            let added = emitted.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
            let headers = with_headers(facts.headers.as_deref(), added);
            match self.routes.get(emitted.output as usize).copied().flatten() {
                None => {
                    onward.builder.push(facts.origin, facts.timestamp, key, value, headers);
                    onward.sources.push(work.source(row));
                }
                Some(route) => {
                    let mut one = BatchBuilder::new(work.batch.rows.topics.clone());
                    one.push(facts.origin, facts.timestamp, key, value, headers);
                    let sources = Some(vec![work.source(row)]);
                    run.pass(&Work { batch: Cow::Owned(one.finish()), sources }, 0, route);
                }
            }
        }
    }
}

struct Onward {
    builder: BatchBuilder,
    sources: Vec<usize>,
}

impl Onward {
    fn finish(self) -> Work<'static> {
        Work { batch: Cow::Owned(self.builder.finish()), sources: Some(self.sources) }
    }
}

/// Ends the search for failing rows: that the answers are too large is no row's failure yet.
fn no_room() -> Failure {
    Failure { kind: FailureKind::Answer, message: String::new(), log: String::new() }
}
