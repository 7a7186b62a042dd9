//! What two arms came to on the same records: the champion, whose answers are emitted as a rule, and the challenger beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Differences that are kept, and bytes of each.
const DIFFERENCES: usize = 8;
const DIFFERENCE: usize = 256;

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Champion,
    Challenger,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Challenger => "challenger",
        }
    }
}

/// Counts of one stage's records. Each sampled record is in exactly one of the counts from `agreed` to `skipped`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Records that both arms were to run on.
    pub sampled: u64,
    /// Both answered the same: the same class, or the same bytes.
    pub agreed: u64,
    pub disagreed: u64,
    /// The challenger rejected what the champion answered.
    pub rejected: u64,
    /// The champion rejected, or failed on, what the challenger answered.
    pub only_challenger: u64,
    /// Neither answered, and the challenger did not fail.
    pub neither: u64,
    /// The challenger trapped, ran out of time or broke the rules, in a call that held the record.
    pub failed: u64,
    /// The challenger was not asked: its share of the transaction's time was spent.
    pub skipped: u64,
    /// Records whose emitted answer is the challenger's.
    pub emitted: u64,
    /// How long the arms' calls took.
    pub champion_calls: Latency,
    pub challenger_calls: Latency,
    /// The last differences, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// The challenger's last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

impl Comparison {
    pub fn add(&mut self, other: &Self) {
        self.sampled += other.sampled;
        self.agreed += other.agreed;
        self.disagreed += other.disagreed;
        self.rejected += other.rejected;
        self.only_challenger += other.only_challenger;
        self.neither += other.neither;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.emitted += other.emitted;
        self.champion_calls.add(&other.champion_calls);
        self.challenger_calls.add(&other.challenger_calls);
        other.differences.iter().for_each(|difference| self.push(difference.clone()));
        if other.last_failure.is_some() {
            self.last_failure.clone_from(&other.last_failure);
        }
    }

    /// Records that the challenger has had its turn with.
    pub fn judged(&self) -> u64 {
        self.sampled - self.skipped
    }

    /// Records that both answered.
    pub fn both(&self) -> u64 {
        self.agreed + self.disagreed
    }

    /// Share of the records that both answered on which they agree; none before the first.
    pub fn agreement(&self) -> Option<f64> {
        share(self.agreed, self.both())
    }

    /// Keeps a difference for people to look at.
    pub fn differs(&mut self, describe: impl FnOnce() -> String) {
        if self.differences.len() < DIFFERENCES {
            self.push(describe());
        }
    }

    /// The challenger failed, for that reason.
    pub fn failed_with(&mut self, why: String) {
        self.last_failure = Some(cut(why));
    }

    fn push(&mut self, difference: String) {
        self.differences.push(cut(difference));
        let surplus = self.differences.len().saturating_sub(DIFFERENCES);
        self.differences.drain(..surplus);
    }
}

fn cut(mut text: String) -> String {
    if text.len() > DIFFERENCE {
        text.truncate(text.floor_char_boundary(DIFFERENCE));
        text.push('…');
    }
    text
}

/// A count's share of a whole; none of nothing.
pub fn share(count: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

/// Durations counted by their size, in steps of about a fifth: enough for a quantile that a bound is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// By step.
    #[serde(deserialize_with = "by_step")]
    counts: BTreeMap<u32, u32>,
}

/// JSON's keys are texts, also where serde buffers what it reads and forgets that they were numbers.
fn by_step<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, u32>, D::Error> {
    let counts = BTreeMap::<String, u32>::deserialize(deserializer)?;
    let step = |(step, count): (String, u32)| step.parse().map(|step| (step, count)).map_err(serde::de::Error::custom);
    counts.into_iter().map(step).collect()
}

/// Steps of one doubling.
const STEPS: u32 = 4;
/// Some twenty minutes; what takes longer counts there.
const LONGEST: u32 = 30 * STEPS;

impl Latency {
    pub fn note(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
        let doubling = micros.ilog2();
        let begins = |step: &u32| u128::from(micros) * u128::from(STEPS) >= u128::from(STEPS + step) << doubling;
        let within = (1..STEPS).rev().find(begins).unwrap_or_default();
        self.count((doubling * STEPS + within).min(LONGEST), 1);
    }

    fn count(&mut self, step: u32, more: u32) {
        let count = self.counts.entry(step).or_default();
        *count = count.saturating_add(more);
    }

    pub fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|(step, count)| self.count(*step, *count));
    }

    pub fn total(&self) -> u64 {
        self.counts.values().map(|count| u64::from(*count)).sum()
    }

    /// The upper end of the step that holds the quantile, which is from 0 to 1; none of nothing.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total = self.total();
        let wanted = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let (step, _) = self.counts.iter().find(|(_, count)| {
            seen += u64::from(**count);
            seen >= wanted
        })?;
        let (doubling, within) = (step / STEPS, step % STEPS);
        let end = (1_u64 << doubling) as f64 * f64::from(STEPS + within + 1) / f64::from(STEPS);
        Some(Duration::from_micros(end.ceil() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_within_a_fourth_and_never_too_small() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.99), None);
        for millis in 1..=1_000 {
            latency.note(Duration::from_millis(millis));
        }
        for quantile in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let (found, exact) = (latency.quantile(quantile).unwrap().as_secs_f64(), quantile);
            assert!(found >= exact && found <= exact * 1.25, "{quantile}: {found} and {exact}");
        }
        let mut sum = Latency::default();
        sum.note(Duration::ZERO);
        assert_eq!(sum.quantile(0.5), Some(Duration::from_micros(2)));
        sum.note(Duration::from_secs(1 << 40));
        sum.add(&latency);
        assert!(sum.quantile(1.0).unwrap() > Duration::from_secs(1_000));
    }

    #[test]
    fn the_last_differences_are_kept_and_cut_at_a_character() {
        let (mut sum, mut one) = (Comparison::default(), Comparison::default());
        (0..20).for_each(|number| one.differs(|| format!("{number} {}", "é".repeat(200))));
        assert_eq!((one.differences.len(), one.differences[0].len() <= DIFFERENCE + 4), (DIFFERENCES, true));
        sum.add(&one);
        one.differences = vec!["last".into()];
        sum.add(&one);
        assert_eq!((sum.differences.len(), sum.differences.last().unwrap().as_str()), (DIFFERENCES, "last"));
        assert_eq!((sum.agreement(), share(1, 4)), (None, Some(0.25)));
    }
}
