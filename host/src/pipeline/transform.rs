//! A transform in its place: its named outputs go to topics or on to the next stage.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Instant;

use super::challenger::{Asked, Said, TransformChallenger, place};
use super::{Overflow, Run, Work, reason_of, reason_of_rejection, size, with_headers};
use crate::pipeline::isolate::isolate;
use crate::record::{BatchBuilder, Role, Route};
use sandpiper_sandbox::stage::Transform;
use sandpiper_sandbox::wit::latest::{Emitted, EmittedKey, Transformed};
use sandpiper_sandbox::{Failure, FailureKind};

/// A transform, opened.
pub struct TransformStage {
    pub stage: Box<dyn Transform>,
    /// `transform[0]`, in messages and dead letters.
    pub name: String,
    pub release: String,
    /// For each output of the plugin where it goes; `None` goes on to the next stage.
    pub routes: Vec<Option<Route>>,
    pub challenger: Option<TransformChallenger>,
}

impl TransformStage {
    /// What goes on to the next stage.
    pub(super) fn run(&mut self, run: &mut Run<'_>, work: &Work<'_>) -> Work<'static> {
        let mut onward = Onward { builder: BatchBuilder::new(work.batch.rows.topics.clone()), sources: Vec::new() };
        if !work.batch.is_empty() && run.overflow.is_none() {
            let whole = 0..work.batch.len();
            let mut room = Some(run.settings.max_output.saturating_sub(run.written));
            let started = Instant::now();
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
            let took = started.elapsed();
            let Some(room) = room else {
                run.overflow = Some(Overflow { stage: self.name.clone(), release: Some(self.release.clone()) });
                return onward.finish();
            };
            let other = self.challenger.as_mut().map(|challenger| {
                run.comparison().champion_calls.note(took);
                challenger.answer(run, work, room)
            });
            let theirs = match (&self.challenger, &other) {
                (Some(challenger), Some(other)) => compare(run, work, (self, &isolated.answers), (challenger, other)),
                _ => HashSet::new(),
            };
            let undecided = isolated.undecided_by(|row| work.source(row));
            for (range, answer) in &isolated.answers {
                for rejection in &answer.rejected {
                    let reason = reason_of_rejection(rejection, &self.name, &self.release);
                    run.dead_letter(work.source(range.start + rejection.row as usize), &reason);
                }
                for emission in emissions(answer, |row| range.start + row) {
                    if !theirs.contains(&emission.row) {
                        let role = run.role(work, emission.row);
                        route(run, work, &self.routes, &emission, role, &mut onward);
                    }
                }
            }
            if let (Some(challenger), Some(other)) = (&self.challenger, &other) {
                run.challengers.extend(theirs.iter().map(|row| work.source(*row)));
                for emission in other.emissions().filter(|emission| theirs.contains(&emission.row)) {
                    route(run, work, &challenger.routes, &emission, Role::Challenger, &mut onward);
                }
            }
            for (row, failure) in isolated.poison {
                run.dead_letter(work.source(row), &reason_of(&failure, &self.name, &self.release));
            }
            run.release_failed(&undecided, &self.name, &self.release);
        }
        onward.finish()
    }
}

/// One record that a transform emits.
#[derive(Clone, Copy)]
struct Emission<'a> {
    /// Of the work.
    row: usize,
    emitted: &'a Emitted,
    /// `None` is a tombstone.
    value: Option<&'a [u8]>,
}

/// What an answer emits; `row` says which row of the work a row of the answer is.
fn emissions(answer: &Transformed, row: impl Fn(usize) -> usize) -> impl Iterator<Item = Emission<'_>> {
    let spans = answer.offsets.iter().zip(answer.offsets.iter().skip(1));
    answer.emitted.iter().zip(spans).map(move |(emitted, (start, end))| {
        let bytes = answer.payload.get(*start as usize..*end as usize).unwrap_or_default();
        Emission {
            row: row(emitted.source_row as usize),
            emitted,
            value: if emitted.tombstone { None } else { Some(bytes) },
        }
    })
}

/// Sends one record where its output goes.
fn route(
    run: &mut Run<'_>,
    work: &Work<'_>,
    routes: &[Option<Route>],
    emission: &Emission<'_>,
    role: Role,
    onward: &mut Onward,
) {
    let Emission { row, emitted, value } = *emission;
    let Some(facts) = work.batch.rows.get(row) else { return };
    let key = match &emitted.key {
        EmittedKey::Input => work.batch.rows.key(facts),
        EmittedKey::None => None,
        EmittedKey::Bytes(bytes) => Some(bytes.as_slice()),
    };
    let added = emitted.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
    let headers = with_headers(facts.headers.as_deref(), added);
    match routes.get(emitted.output as usize).copied().flatten() {
        None => {
            onward.builder.push(facts.origin, facts.timestamp, key, value, headers);
            onward.sources.push(work.source(row));
        }
        Some(route) => {
            let mut one = BatchBuilder::new(work.batch.rows.topics.clone());
            one.push(facts.origin, facts.timestamp, key, value, headers);
            let sources = Some(vec![work.source(row)]);
            run.pass(&Work { batch: Cow::Owned(one.finish()), sources }, 0, route, role);
        }
    }
}

/// What a challenger says of the rows of one batch.
struct ChallengersAnswer {
    roles: Vec<Option<Role>>,
    /// The row of the work of each row that it was asked about.
    sampled: Vec<usize>,
    /// By row of the work.
    said: Vec<Said>,
    answer: Option<Transformed>,
}

impl ChallengersAnswer {
    fn emissions(&self) -> impl Iterator<Item = Emission<'_>> {
        let row = |row: usize| self.sampled.get(row).copied().unwrap_or_default();
        self.answer.iter().flat_map(move |answer| emissions(answer, row))
    }
}

impl TransformChallenger {
    /// What it says of the rows that both run on; its answer may take as many bytes as there is room for.
    fn answer(&mut self, run: &mut Run<'_>, work: &Work<'_>, room: usize) -> ChallengersAnswer {
        let (roles, sampled) = self.sampling.roles(work);
        let mut said = vec![Said::NotAsked; roles.len()];
        if sampled.is_empty() {
            return ChallengersAnswer { roles, sampled, said, answer: None };
        }
        let batch = match sampled.len() == work.batch.len() {
            true => Cow::Borrowed(&*work.batch),
            false => Cow::Owned(work.batch.select(sampled.iter().copied())),
        };
        let asked = run.ask(|deadline| self.stage.transform(&batch, deadline));
        let (all, answer) = match asked {
            // The champion has taken the room, which is no fault of either.
            Asked::Answered(answer) if size::transformed(&answer, &batch) > room => (Said::Skipped, None),
            Asked::Answered(answer) => (Said::Answered(0), Some(answer)),
            Asked::Failed => (Said::Failed, None),
            Asked::Skipped => (Said::Skipped, None),
        };
        let rejected: HashSet<usize> =
            answer.iter().flat_map(|answer| &answer.rejected).map(|rejection| rejection.row as usize).collect();
        for (at, row) in sampled.iter().enumerate() {
            if let Some(each) = said.get_mut(*row) {
                *each = if rejected.contains(&at) { Said::Nothing } else { all };
            }
        }
        ChallengersAnswer { roles, sampled, said, answer }
    }
}

/// Counts what the two made of each row. Answers the rows of which the challenger's records are emitted.
fn compare(
    run: &mut Run<'_>,
    work: &Work<'_>,
    (stage, ours): (&TransformStage, &[(std::ops::Range<usize>, Transformed)]),
    (challenger, theirs): (&TransformChallenger, &ChallengersAnswer),
) -> HashSet<usize> {
    let rows = work.batch.len();
    let mut emitted: [Vec<Vec<Emission<'_>>>; 2] = [vec![Vec::new(); rows], vec![Vec::new(); rows]];
    let [champions, challengers] = &mut emitted;
    let mut answered = vec![false; rows];
    for (range, answer) in ours {
        range.clone().for_each(|row| answered.get_mut(row).into_iter().for_each(|answered| *answered = true));
        for rejection in &answer.rejected {
            answered.get_mut(range.start + rejection.row as usize).into_iter().for_each(|answered| *answered = false);
        }
        for emission in emissions(answer, |row| range.start + row) {
            champions.get_mut(emission.row).into_iter().for_each(|emitted| emitted.push(emission));
        }
    }
    for emission in theirs.emissions() {
        challengers.get_mut(emission.row).into_iter().for_each(|emitted| emitted.push(emission));
    }
    let mut taken = HashSet::new();
    for (row, (answered, said)) in answered.iter().zip(&theirs.said).enumerate() {
        run.count_unequal(*answered, *said);
        let (true, Said::Answered(_)) = (*answered, said) else { continue };
        let (Some(ours), Some(other)) = (champions.get(row), challengers.get(row)) else { continue };
        let same = ours.len() == other.len()
            && ours.iter().zip(other).all(|(one, other)| is_same(&stage.routes, one, &challenger.routes, other));
        run.count_pair(same, || format!("{}: {} / {}", place(work, row), describe(ours), describe(other)));
        if theirs.roles.get(row) == Some(&Some(Role::Challenger)) {
            run.comparison().emitted += 1;
            taken.insert(row);
        }
    }
    taken
}

/// Whether two records are the same, byte for byte, and go to the same place.
fn is_same(ours: &[Option<Route>], one: &Emission<'_>, theirs: &[Option<Route>], other: &Emission<'_>) -> bool {
    let key = |key: &EmittedKey| match key {
        EmittedKey::Input => (0, Vec::new()),
        EmittedKey::None => (1, Vec::new()),
        EmittedKey::Bytes(bytes) => (2, bytes.clone()),
    };
    let headers = |emission: &Emission<'_>| {
        emission.emitted.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect::<Vec<_>>()
    };
    one.value == other.value
        && ours.get(one.emitted.output as usize) == theirs.get(other.emitted.output as usize)
        && key(&one.emitted.key) == key(&other.emitted.key)
        && headers(one) == headers(other)
}

/// What was emitted for a row, for people.
fn describe(emitted: &[Emission<'_>]) -> String {
    let one = |emission: &Emission<'_>| match emission.value {
        None => "null".to_owned(),
        Some(value) => String::from_utf8_lossy(value.get(..SHOWN).unwrap_or(value)).into_owned(),
    };
    format!("{} [{}]", emitted.len(), emitted.iter().take(2).map(one).collect::<Vec<_>>().join(", "))
}

/// Bytes of a value that are shown of a difference.
const SHOWN: usize = 40;

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
