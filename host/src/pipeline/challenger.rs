//! A challenger beside the release that runs: asked after the champion about the same records, never in its way.
//!
//! What the champion makes of a record is fixed before the challenger sees it. A challenger that traps, is slow or rejects costs
//! its own answer and nothing else: also where its answer would count, the champion's does then.

use std::hash::Hasher as _;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::{Run, Work};
use crate::record::prediction::Writer;
use crate::record::{Comparison, Role};
use sandpiper_sandbox::stage::{Classify, Parse, Transform};
use sandpiper_sandbox::{Digest, Failure, FailureKind};

/// After a failing call the challenger rests so many times as long as that took: failing takes a tenth of the time at most.
const REST: u32 = 9;

/// The challenger's share of what a transaction may take: the rest is the champion's and the broker's.
const SHARE: f64 = 0.3;

/// Which records a challenger runs on, and of which its answer counts. By a keyed hash of the record's key, or of its value where it
/// has no key: a key keeps its arm while a rollout lasts, a wider share keeps those that were in it, and another rollout takes
/// others.
#[derive(Clone, Debug)]
pub struct Sampling {
    hasher: SipHasher13,
    /// Share of the records that both run on, and of those whose answer is the challenger's: 0..=1, the second not larger.
    sample: f64,
    canary: f64,
}

impl Sampling {
    /// `salt` is the rollout's.
    pub fn new(salt: &Digest, sample: f32, canary: f32) -> Self {
        let mut key = [0; 16];
        key.iter_mut().zip(salt.bytes()).for_each(|(key, salt)| *key = *salt);
        let canary = f64::from(canary);
        Self { hasher: SipHasher13::new_with_key(&key), sample: f64::from(sample).max(canary), canary }
    }

    /// Whose answer counts for a record that both run on; `None` where the challenger does not.
    pub(super) fn role(&self, work: &Work<'_>, row: usize) -> Option<Role> {
        if self.sample >= 1.0 && self.canary <= 0.0 {
            return Some(Role::Champion);
        }
        let facts = work.batch.rows.get(row)?;
        let mut hasher = self.hasher;
        hasher.write(work.batch.rows.key(facts).or_else(|| work.batch.bytes(row)).unwrap_or_default());
        // The upper 53 bits, which a double holds exactly, as a number from 0 to below 1.
        let place = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        if place < self.canary {
            Some(Role::Challenger)
        } else if place < self.sample {
            Some(Role::Champion)
        } else {
            None
        }
    }

    /// The role of every row, and the rows that both run on.
    pub(super) fn roles(&self, work: &Work<'_>) -> (Vec<Option<Role>>, Vec<usize>) {
        let roles: Vec<Option<Role>> = (0..work.batch.len()).map(|row| self.role(work, row)).collect();
        let sampled = roles.iter().enumerate().filter(|(_, role)| role.is_some()).map(|(row, _)| row).collect();
        (roles, sampled)
    }
}

/// A classifier, with or without a parser of its own, beside a model.
pub struct ModelChallenger {
    pub sampling: Sampling,
    /// Where it does not read what the champion's parser parsed.
    pub parser: Option<Box<dyn Parse>>,
    pub classifier: Box<dyn Classify>,
    /// In messages.
    pub release: String,
    /// For each column of its classifier the one of the parser that it reads from; `None` when they are the same in the same order.
    pub gather: Option<Vec<usize>>,
    pub columns: u32,
    pub classes: usize,
    pub writer: Writer,
}

/// A transform beside another.
pub struct TransformChallenger {
    pub sampling: Sampling,
    pub stage: Box<dyn Transform>,
    pub release: String,
    /// As the champion's.
    pub routes: Vec<Option<crate::record::Route>>,
}

/// What the challenger says of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Said {
    /// The row is not in the sample.
    NotAsked,
    /// Its time was spent.
    Skipped,
    /// The call that held the row failed.
    Failed,
    /// It rejected or dropped the row.
    Nothing,
    /// With that row of its answer.
    Answered(usize),
}

/// The time that a challenger may take of the open transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    spent: Duration,
    /// After a failure it is not asked before: to fail costs an instance, and a new one the time of its opening.
    rests_until: Option<Instant>,
}

impl Allowance {
    /// The transaction is over.
    pub(super) fn renew(&mut self) {
        self.spent = Duration::ZERO;
    }

    fn left(self, budget: Duration) -> Duration {
        match self.rests_until {
            Some(until) if Instant::now() < until => Duration::ZERO,
            _ => budget.mul_f64(SHARE).saturating_sub(self.spent),
        }
    }
}

/// What came of asking.
pub(super) enum Asked<A> {
    Answered(A),
    Failed,
    Skipped,
}

impl Run<'_> {
    pub(super) fn comparison(&mut self) -> &mut Comparison {
        self.outputs.counts.comparison.get_or_insert_default()
    }

    /// Has the challenger called once, within the time that is left to it.
    pub(super) fn ask<A>(&mut self, call: impl FnOnce(Duration) -> Result<A, Failure>) -> Asked<A> {
        let left = self.allowance.left(self.settings.budget);
        if left.is_zero() {
            return Asked::Skipped;
        }
        let started = Instant::now();
        let answer = call(left.min(self.settings.deadline));
        let took = started.elapsed();
        self.allowance.spent += took;
        self.comparison().challenger_calls.note(took);
        match answer {
            Ok(answer) => Asked::Answered(answer),
            Err(failure) => {
                self.allowance.rests_until = Instant::now().checked_add(took.saturating_mul(REST));
                // Less time than any call may take is no reason to blame it.
                if failure.kind == FailureKind::Deadline && left < self.settings.deadline {
                    return Asked::Skipped;
                }
                self.comparison().failed_with(failure.to_string());
                Asked::Failed
            }
        }
    }

    /// Counts a row that both were to run on, where one of them did not answer.
    pub(super) fn count_unequal(&mut self, champion_answered: bool, said: Said) {
        let comparison = self.comparison();
        comparison.sampled += u64::from(said != Said::NotAsked);
        match (champion_answered, said) {
            (_, Said::NotAsked) => {}
            (_, Said::Skipped) => comparison.skipped += 1,
            (_, Said::Failed) => comparison.failed += 1,
            (true, Said::Nothing) => comparison.rejected += 1,
            (false, Said::Answered(_)) => comparison.only_challenger += 1,
            (false, Said::Nothing) => comparison.neither += 1,
            // Whoever compares the answers counts them.
            (true, Said::Answered(_)) => {}
        }
    }

    /// Counts two answers.
    pub(super) fn count_pair(&mut self, equal: bool, describe: impl FnOnce() -> String) {
        let comparison = self.comparison();
        if equal {
            comparison.agreed += 1;
        } else {
            comparison.disagreed += 1;
            comparison.differs(describe);
        }
    }
}

/// Where a row came from, for people: `iris.measurements/3@1842`.
pub(super) fn place(work: &Work<'_>, row: usize) -> String {
    let Some(facts) = work.batch.rows.get(row) else { return String::new() };
    let origin = facts.origin;
    format!("{}/{}@{}", work.batch.rows.topic(origin), origin.partition, origin.offset)
}
