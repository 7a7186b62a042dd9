//! A rollout: the steps by which a candidate proves itself beside what runs, and what ends it early.
//!
//! It decides nothing by itself: the fold asks it, with the figures of its running step.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::By;
use super::deployment::{Challenger, Releases};
use crate::config::plan::{self, Guard, RolloutStep, Until};
use crate::record::comparison::share;
use crate::record::{Comparison, Revision};

/// A candidate on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The revision of its first step.
    pub id: Revision,
    /// What the pipeline runs once it is promoted.
    pub candidate: Releases,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_new_classes: bool,
    /// As the pipeline's file had it when the rollout began.
    pub plan: plan::Rollout,
    /// Index of the running step.
    pub step: usize,
    /// When that began, milliseconds since the Unix epoch.
    pub since: i64,
    #[serde(flatten)]
    pub state: RolloutState,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// When the rollout began.
    pub at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RolloutState {
    /// The next step comes by itself.
    Running,
    /// It waits for a person; guards are judged all the same.
    Held { why: String },
    /// All steps are passed: it waits to be promoted.
    Passed,
}

/// Calls from which on their 99th percentile is judged.
const CALLS: u64 = 100;

/// What the running step has come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Records whose outcome is committed, and those of them that became dead letters.
    pub records: u64,
    pub dead_letters: u64,
    /// Labels that have judged both arms.
    pub labels: u64,
    pub comparison: Comparison,
}

impl StepFigures {
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.dead_letters += other.dead_letters;
        self.labels += other.labels;
        self.comparison.add(&other.comparison);
    }
}

/// What a step leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Arms that differ from what runs: a deployment.
    Step(Rollout),
    /// Nothing else runs.
    Waits(Rollout),
}

impl Rollout {
    /// The candidate as the running step has it beside what runs.
    pub fn challenger(&self) -> Challenger {
        Challenger {
            releases: self.candidate.clone(),
            rollout: self.id,
            sample: self.plan.sample,
            canary: self.canary(),
            allow_new_classes: self.allow_new_classes,
        }
    }

    /// The share of records whose answer is the candidate's: a step that waits keeps that of the one before.
    pub fn canary(&self) -> f32 {
        let before = self.plan.steps.iter().take(self.step + 1).rev();
        let share = before.filter_map(|step| match step {
            RolloutStep::Shadow { .. } => Some(0.0),
            RolloutStep::Canary { share, .. } => Some(*share),
            RolloutStep::Pause => None,
        });
        share.take(1).sum()
    }

    /// The running step in words: `rollout 17, step 2 of 3: canary of 5 %`.
    pub fn describe(&self) -> String {
        let what = match self.current_step() {
            Some(RolloutStep::Shadow { .. }) => "shadow".to_owned(),
            Some(RolloutStep::Canary { share, .. }) => format!("canary of {}", percent(f64::from(*share))),
            Some(RolloutStep::Pause) | None => "waits for a person".to_owned(),
        };
        format!("rollout {}, step {} of {}: {what}", self.id, self.step + 1, self.plan.steps.len())
    }

    /// What happens next, and what it waits for.
    pub fn describe_next(&self, figures: &StepFigures, pipeline: &str, now: i64) -> String {
        match &self.state {
            RolloutState::Held { why } => {
                return format!("waits: {why}; `sandpiper rollout resume {pipeline}` has it go on");
            }
            RolloutState::Passed => {
                return format!("its steps are passed; `sandpiper rollout promote {pipeline}` has it take over");
            }
            RolloutState::Running => {}
        }
        let then = match self.plan.steps.get(self.step + 1) {
            Some(RolloutStep::Shadow { .. }) => "shadow".to_owned(),
            Some(RolloutStep::Canary { share, .. }) => format!("canary of {}", percent(f64::from(*share))),
            Some(RolloutStep::Pause) => "it waits for a person".to_owned(),
            None => "it waits to be promoted".to_owned(),
        };
        let after = match self.current_step() {
            Some(RolloutStep::Shadow { until } | RolloutStep::Canary { until, .. }) => match until {
                Until::Labels(wanted) => format!("{} of {wanted} labels for both arms", figures.labels),
                Until::Records(wanted) => format!("{} of {wanted} records in both arms", figures.comparison.judged()),
                Until::Time(millis) => {
                    let left = (self.since.saturating_add_unsigned(*millis) - now).max(0).unsigned_abs();
                    format!("{} more", humantime::format_duration(Duration::from_secs(left.div_ceil(1_000))))
                }
            },
            Some(RolloutStep::Pause) | None => "a person's word".to_owned(),
        };
        format!("after {after}: {then}")
    }

    pub fn current_step(&self) -> Option<&RolloutStep> {
        self.plan.steps.get(self.step)
    }

    /// Whether the running step has what it waits for.
    pub fn is_step_over(&self, figures: &StepFigures, now: i64) -> bool {
        match self.current_step() {
            _ if self.state != RolloutState::Running => false,
            Some(RolloutStep::Shadow { until } | RolloutStep::Canary { until, .. }) => match until {
                Until::Labels(wanted) => figures.labels >= *wanted,
                Until::Records(wanted) => figures.comparison.judged() >= *wanted,
                // Time in which nothing was processed proves nothing.
                Until::Time(millis) => {
                    figures.comparison.judged() > 0
                        && now.saturating_sub(self.since) >= i64::try_from(*millis).unwrap_or(i64::MAX)
                }
            },
            Some(RolloutStep::Pause) | None => false,
        }
    }

    /// What comes after the running step.
    pub fn next(&self, now: i64) -> Next {
        let next = Self { step: self.step + 1, since: now, state: RolloutState::Running, ..self.clone() };
        match next.current_step() {
            Some(RolloutStep::Shadow { .. } | RolloutStep::Canary { .. }) => Next::Step(next),
            Some(RolloutStep::Pause) => {
                let why = "this step of the file waits for a person".to_owned();
                Next::Waits(Self { state: RolloutState::Held { why }, ..next })
            }
            None => Next::Waits(Self { step: self.step, since: self.since, state: RolloutState::Passed, ..next }),
        }
    }

    /// The first guard that the figures break, in words.
    pub fn broken_guard(&self, figures: &StepFigures) -> Option<String> {
        let (guards, comparison) = (&self.plan.guards, &figures.comparison);
        let ratio = |what: &str, guard: &Option<Guard>, count: u64, of: u64| {
            let guard = guard.as_ref()?;
            let found = share(count, of).filter(|_| of >= guard.records)?;
            let bound = guard.broken_by(found)?;
            Some(format!("{what} {} of {of} records ({}), {bound}", count, percent(found)))
        };
        let failed = || {
            let why = ratio("the challenger failed on", &guards.failed, comparison.failed, comparison.judged())?;
            let last = comparison.last_failure.as_deref().unwrap_or("not told");
            Some(format!("{why}; its last failure: {last}"))
        };
        let rejected = || {
            let of = comparison.both() + comparison.rejected;
            ratio("the challenger rejected", &guards.rejected, comparison.rejected, of)
        };
        let disagreement =
            || ratio("the arms disagree on", &guards.disagreement, comparison.disagreed, comparison.both());
        let dead_letters = || ratio("dead letters became", &guards.dead_letters, figures.dead_letters, figures.records);
        let latency = || {
            let guard = guards.latency_p99.as_ref().filter(|guard| comparison.judged() >= guard.records)?;
            // Of a few calls the slowest is no quantile.
            let calls = &comparison.challenger_calls;
            let found = calls.quantile(0.99).filter(|_| calls.total() >= CALLS)?;
            (found.as_secs_f64() * 1e3 > guard.above_ms).then(|| {
                format!(
                    "a call of the challenger takes {:.1} ms (99th percentile), above {} ms",
                    found.as_secs_f64() * 1e3,
                    guard.above_ms
                )
            })
        };
        failed().or_else(rejected).or_else(latency).or_else(disagreement).or_else(dead_letters)
    }
}

impl Guard {
    /// The bound that a share breaks, in words.
    fn broken_by(&self, found: f64) -> Option<String> {
        if let Some(above) = self.above.filter(|above| found > *above) {
            return Some(format!("above {}", percent(above)));
        }
        let below = self.below.filter(|below| found < *below)?;
        Some(format!("below {}", percent(below)))
    }
}

/// A share for people: `1.25 %`.
pub fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Guards, LatencyGuard};
    use std::time::Duration;

    fn rollout(steps: Vec<RolloutStep>, guards: Guards) -> Rollout {
        Rollout {
            id: Revision::FIRST.next(),
            candidate: Releases::default(),
            allow_new_classes: false,
            plan: plan::Rollout { sample: 1.0, steps, guards },
            step: 0,
            since: 1_000,
            state: RolloutState::Running,
            reason: "try".into(),
            by: None,
            at: 1_000,
        }
    }

    fn figures(change: impl FnOnce(&mut StepFigures)) -> StepFigures {
        let mut figures = StepFigures::default();
        change(&mut figures);
        figures
    }

    #[test]
    fn a_step_ends_with_its_labels_its_records_or_its_time_and_a_pause_with_a_person() {
        let none = StepFigures::default();
        let labels = rollout(vec![RolloutStep::Shadow { until: Until::Labels(3) }], Guards::default());
        assert!(!labels.is_step_over(&figures(|figures| figures.labels = 2), 9_999_999));
        assert!(labels.is_step_over(&figures(|figures| figures.labels = 3), 1_000));
        let records = rollout(vec![RolloutStep::Shadow { until: Until::Records(3) }], Guards::default());
        let sampled = |sampled, skipped| {
            figures(|figures| (figures.comparison.sampled, figures.comparison.skipped) = (sampled, skipped))
        };
        assert!(!records.is_step_over(&sampled(3, 1), 1_000) && records.is_step_over(&sampled(4, 1), 1_000));
        let time = rollout(vec![RolloutStep::Canary { share: 0.5, until: Until::Time(500) }], Guards::default());
        assert!(!time.is_step_over(&sampled(1, 0), 1_499) && time.is_step_over(&sampled(1, 0), 1_500));
        assert!(!time.is_step_over(&none, i64::MAX), "nothing was processed");
        let held = Rollout { state: RolloutState::Held { why: "lunch".into() }, ..time };
        assert!(!held.is_step_over(&sampled(1, 0), 1_500));
        assert!(!rollout(vec![RolloutStep::Pause], Guards::default()).is_step_over(&none, i64::MAX));
    }

    #[test]
    fn steps_follow_each_other_a_pause_keeps_the_share_and_the_last_one_waits_to_be_promoted() {
        let until = Until::Time(1);
        let steps = vec![RolloutStep::Shadow { until }, RolloutStep::Canary { share: 0.25, until }, RolloutStep::Pause];
        let first = rollout(steps, Guards::default());
        assert_eq!(first.canary(), 0.0);
        let Next::Step(second) = first.next(2_000) else { panic!("a canary is a deployment") };
        assert_eq!((second.step, second.since, second.canary(), second.challenger().canary), (1, 2_000, 0.25, 0.25));
        let Next::Waits(third) = second.next(3_000) else { panic!("a pause is none") };
        assert_eq!((third.canary(), matches!(third.state, RolloutState::Held { .. })), (0.25, true));
        let Next::Waits(last) = third.next(4_000) else { panic!("nothing comes after the last") };
        assert_eq!((last.step, last.canary(), last.state), (2, 0.25, RolloutState::Passed));
    }

    #[test]
    fn a_guard_is_broken_beyond_its_bound_with_enough_records_and_says_both_figures() {
        let guard = |above, below| Some(Guard { above, below, records: 100 });
        let guards = Guards {
            failed: guard(Some(0.01), None),
            rejected: guard(Some(0.1), None),
            latency_p99: Some(LatencyGuard { above_ms: 5.0, records: 100 }),
            disagreement: guard(Some(0.2), Some(0.001)),
            dead_letters: guard(Some(0.05), None),
        };
        let rollout = rollout(vec![RolloutStep::Pause], guards);
        let agreed = |agreed: u64, disagreed: u64| {
            figures(|figures| {
                let comparison = &mut figures.comparison;
                (comparison.sampled, comparison.agreed, comparison.disagreed) = (agreed + disagreed, agreed, disagreed);
            })
        };
        assert_eq!(rollout.broken_guard(&agreed(80, 20)), None, "at the bound");
        assert_eq!(rollout.broken_guard(&agreed(1, 98)), None, "too few");
        let broken = |figures: StepFigures| rollout.broken_guard(&figures).unwrap();
        assert_eq!(broken(agreed(79, 21)), "the arms disagree on 21 of 100 records (21 %), above 20 %");
        assert_eq!(broken(agreed(2_000, 1)), "the arms disagree on 1 of 2001 records (0.05 %), below 0.1 %");
        let with = |change: fn(&mut StepFigures)| {
            let mut figures = agreed(90, 10);
            change(&mut figures);
            broken(figures)
        };
        let failed = with(|figures| {
            (figures.comparison.sampled, figures.comparison.failed) = (102, 2);
            figures.comparison.last_failure = Some("it trapped".into());
        });
        assert_eq!(
            failed,
            "the challenger failed on 2 of 102 records (1.9608 %), above 1 %; its last failure: it trapped"
        );
        let rejected = with(|figures| (figures.comparison.sampled, figures.comparison.rejected) = (112, 12));
        assert_eq!(rejected, "the challenger rejected 12 of 112 records (10.7143 %), above 10 %");
        let slow_calls = |calls: u32| {
            let mut figures = agreed(90, 10);
            (0..calls).for_each(|_| figures.comparison.challenger_calls.note(Duration::from_millis(8)));
            figures
        };
        assert_eq!(rollout.broken_guard(&slow_calls(99)), None, "too few calls");
        let slow = broken(slow_calls(100));
        assert!(slow.contains("99th percentile), above 5 ms"), "{slow}");
        let letters = with(|figures| (figures.records, figures.dead_letters) = (100, 6));
        assert_eq!(letters, "dead letters became 6 of 100 records (6 %), above 5 %");
    }
}
