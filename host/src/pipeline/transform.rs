//! A transform in its place: its named outputs go to topics or on to the next stage.

use super::{Run, Work, reason_of, reason_of_rejection, with_headers};
use crate::pipeline::isolate::{Isolated, isolate};
use crate::record::{BatchBuilder, Route};
use sandpiper_sandbox::stage::Transform;
use sandpiper_sandbox::wit::latest::{EmittedKey, Transformed};

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
        if !work.batch.is_empty() {
            let whole = 0..work.batch.len();
            let Isolated { answers, poison, undecided } =
                isolate(work.batch.len(), run.settings.deadline, run.settings.budget, |range, deadline| {
                    if range == whole {
                        self.stage.transform(&work.batch, deadline)
                    } else {
                        self.stage.transform(&work.batch.select(range), deadline)
                    }
                });
            for (range, answer) in answers {
                self.route(run, work, range.start, answer, &mut onward);
            }
            for (row, failure) in poison {
                run.dead_letter(work.source(row), &reason_of(&failure, &self.name, &self.release));
            }
            run.release_failed(&undecided, &self.name, &self.release);
        }
        Work { batch: std::borrow::Cow::Owned(onward.builder.finish()), sources: Some(onward.sources) }
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
                    onward.sources.push(work.source(row) as u32);
                }
                Some(route) => {
                    let mut one = BatchBuilder::new(work.batch.rows.topics.clone());
                    one.push(facts.origin, facts.timestamp, key, value, headers);
                    let sources = Some(vec![work.source(row) as u32]);
                    run.pass(&Work { batch: std::borrow::Cow::Owned(one.finish()), sources }, 0, route);
                }
            }
        }
    }
}

struct Onward {
    builder: BatchBuilder,
    sources: Vec<u32>,
}
