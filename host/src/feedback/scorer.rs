//! The scorer of a deployment, opened: what the feedback loop exchanges between two transactions. What is joined is the
//! partition's, whoever judges it, and each outcome is judged by the one scorer of its transaction.

use std::time::{Duration, Instant};

use super::classes::Classes;
use crate::pipeline::isolate::isolate;
use crate::record::Revision;
use crate::stream::process::Probation;
use sandpiper_sandbox::Failure;
use sandpiper_sandbox::stage::Score;
use sandpiper_sandbox::wit::latest::{Judgement, Outcome};

pub struct Scorer {
    pub score: Box<dyn Score>,
    /// `loss@3fa2c4d5e6f7`: in scores and dead letters.
    pub release: String,
    /// Of the deployment that it was opened for.
    pub revision: Revision,
    pub probation: Probation,
}

/// One answer to be judged, and its classes.
pub(super) type Asked = (Classes, Outcome);
pub(super) type Judged = Result<Judgement, Failure>;

/// The time that one batch has.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// Of one call for all rows.
    pub deadline: Duration,
    /// Until when failing calls are tried again.
    pub until: Instant,
}

impl Time {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl Scorer {
    /// What it says of each outcome, by list of classes; nothing where there is none.
    pub(super) fn judge(&mut self, outcomes: Vec<Option<Asked>>, time: Time) -> Vec<Option<Judged>> {
        self.judge_groups(outcomes, || Some((time.deadline, time.left())))
    }

    /// As `judge`, of answers that did not count: in the time that those which do have left, and not at all where there is none.
    pub(super) fn judge_in_rest(&mut self, outcomes: Vec<Option<Asked>>, time: Time) -> Vec<Option<Judged>> {
        let rest = |left: Duration| (!left.is_zero()).then(|| (time.deadline.min(left), left));
        self.judge_groups(outcomes, || rest(time.left()))
    }

    /// `time` is a group's deadline and budget, asked for when its turn comes; none ends it.
    fn judge_groups(
        &mut self,
        outcomes: Vec<Option<Asked>>,
        time: impl Fn() -> Option<(Duration, Duration)>,
    ) -> Vec<Option<Judged>> {
        let mut judged: Vec<_> = outcomes.iter().map(|_| None).collect();
        let mut places = Vec::new();
        let mut waiting = Vec::new();
        for (at, (classes, outcome)) in outcomes.into_iter().enumerate().filter_map(|(at, each)| Some((at, each?))) {
            places.push(at);
            waiting.push((classes, outcome));
        }
        let mut first = 0;
        while let Some((classes, _)) = waiting.get(first) {
            let Some((deadline, budget)) = time() else { break };
            let classes = classes.clone();
            let group: Vec<Outcome> = (waiting.iter().skip(first))
                .take_while(|(other, _)| *other == classes)
                .map(|(_, outcome)| outcome.clone())
                .collect();
            let isolated = isolate(group.len(), deadline, budget, |range, deadline| {
                self.score.score(&classes, group.get(range).unwrap_or_default(), deadline)
            });
            let mut put = |at: usize, what: Judged| {
                if let Some(place) = places.get(first + at).and_then(|place| judged.get_mut(*place)) {
                    *place = Some(what);
                }
            };
            for (range, judgements) in isolated.answers {
                judgements.into_iter().for_each(|judgement| put(range.start + judgement.row as usize, Ok(judgement)));
            }
            for (at, failure) in isolated.poison.into_iter().chain(isolated.undecided) {
                put(at, Err(failure));
            }
            first += group.len();
        }
        judged
    }
}
