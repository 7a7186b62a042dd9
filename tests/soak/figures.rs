//! Samples, and what is computed from them: figures of each phase, the slope of memory, and what has grown.
//!
//! This module only computes; `watch` samples. So a test of it can plant a leak.

use crate::measure::{median, quantile};
use std::fmt::Write as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Steady,
    Faults,
    /// The faults are over, and not everything that came meanwhile is committed yet.
    Recovering,
    Recovered,
}

impl Phase {
    /// The name in tables and the picture, where both parts of a recovery are one phase.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Steady => "steady",
            Phase::Faults => "faults",
            Phase::Recovering | Phase::Recovered => "recovery",
        }
    }

    fn is_at_rest(self) -> bool {
        matches!(self, Phase::Steady | Phase::Recovered)
    }
}

/// One sample of the daemon, taken each second.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Seconds since the watch began.
    pub at: f64,
    /// Counted from 1.
    pub round: usize,
    pub phase: Phase,
    /// Resident memory, megabytes.
    pub resident: f64,
    pub files: usize,
    pub threads: usize,
    /// Milliseconds from the writing of a record until its prediction is read: median and maximum of the predictions that were
    /// read in this second.
    pub latency: Option<(f64, f64)>,
    /// Milliseconds that a commit took, as the daemon itself reports: the mean of this second's.
    pub commit: Option<f64>,
}

/// A fault, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct AppliedFault {
    pub name: &'static str,
    /// Seconds since the watch began.
    pub from: f64,
    pub to: f64,
}

/// How much resident memory grows, megabytes an hour, by two fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Slope {
    /// The median of the slopes between all pairs: a few samples far off do not move it.
    pub theil_sen: f64,
    pub least_squares: f64,
    /// The Theil-Sen line's height at `from`.
    pub height: f64,
    /// Seconds between which the samples lie.
    pub from: f64,
    pub to: f64,
    pub samples: usize,
}

/// The slope over the samples at rest after the first round, which fills caches and pools. `None` when there are none.
pub fn slope(samples: &[Sample]) -> Option<Slope> {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.round > 1 && sample.phase.is_at_rest())
        .map(|sample| (sample.at, sample.resident))
        .collect();
    let ((from, _), (to, _)) = (points.first()?, points.last()?);
    let per_second = theil_sen(&points)?;
    let heights: Vec<f64> = points.iter().map(|(at, value)| value - per_second * (at - from)).collect();
    Some(Slope {
        theil_sen: per_second * 3_600.0,
        least_squares: least_squares(&points)? * 3_600.0,
        height: median(&heights),
        from: *from,
        to: *to,
        samples: points.len(),
    })
}

/// Sen 1968, Estimates of the regression coefficient based on Kendall's tau.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let pairs =
        points.iter().enumerate().flat_map(|(at, left)| points.iter().skip(at + 1).map(move |right| (left, right)));
    let slopes: Vec<f64> = pairs
        .filter(|(left, right)| right.0 > left.0)
        .map(|(left, right)| (right.1 - left.1) / (right.0 - left.0))
        .collect();
    (!slopes.is_empty()).then(|| median(&slopes))
}

pub fn least_squares(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (spread > 0.0).then(|| points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread)
}

/// What the last recovery may have more of. A librdkafka client that was not closed has at least as many threads, and twice as
/// many files.
const THREADS: f64 = 3.0;
const FILES: f64 = 8.0;
/// Megabytes, on top of twice the memory of the first steady phase.
const MEMORY: f64 = 64.0;

/// What the last recovery has more of than the first steady phase, beyond the allowance: a sentence for each, or none.
pub fn growth(samples: &[Sample]) -> Vec<String> {
    let last = samples.last().map_or(0, |sample| sample.round);
    let mut found = Vec::new();
    let mut compare = |what: &str, of: fn(&Sample) -> f64, bound: fn(f64) -> f64| {
        let typical = |round, phase| {
            let values = samples.iter().filter(|sample| sample.round == round && sample.phase == phase).map(of);
            median(&values.collect::<Vec<f64>>())
        };
        let (before, after) = (typical(1, Phase::Steady), typical(last, Phase::Recovered));
        let bound = bound(before);
        // A missing sample fails the comparison as well.
        if after.is_nan() || bound.is_nan() || after > bound {
            found.push(format!(
                "{what}: {after:.0} after the last recovery, {before:.0} at first, at most {bound:.0} are allowed"
            ));
        }
    };
    compare("open files", |sample| sample.files as f64, |before| before + FILES);
    compare("threads", |sample| sample.threads as f64, |before| before + THREADS);
    compare("resident memory, MB", |sample| sample.resident, |before| 2.0 * before + MEMORY);
    found
}

/// A table with a row for each phase: median and maximum of each figure.
pub fn table(samples: &[Sample]) -> String {
    let mut text = format!(
        "{:<5} {:<9} {:>13} {:>11} {:>11} {:>22} {:>15}\n{:<5} {:<9} {:>13} {:>11} {:>11} {:>22} {:>15}\n",
        "",
        "",
        "memory, MB",
        "files",
        "threads",
        "written to read, ms",
        "commit, ms",
        "round",
        "phase",
        "median  max",
        "median max",
        "median max",
        "median    worst",
        "median    max",
    );
    let mut rest = samples;
    while let Some(first) = rest.first() {
        let is_same = |sample: &&Sample| (sample.round, sample.phase.name()) == (first.round, first.phase.name());
        let (phase, after) = rest.split_at(rest.iter().take_while(is_same).count());
        let column = |of: fn(&Sample) -> Option<f64>| phase.iter().filter_map(of).collect::<Vec<f64>>();
        let pair = |values: &[f64], places| match values {
            [] => "-".to_owned(),
            values => format!("{:.places$} {:>6.places$}", median(values), quantile(values, 1.0)),
        };
        let medians = column(|sample| sample.latency.map(|(median, _)| median));
        let worst = column(|sample| sample.latency.map(|(_, worst)| worst));
        let latency = match medians.as_slice() {
            [] => "-".to_owned(),
            medians => format!("{:.0} {:>8.0}", median(medians), quantile(&worst, 1.0)),
        };
        let _ = writeln!(
            text,
            "{:<5} {:<9} {:>13} {:>11} {:>11} {latency:>22} {:>15}",
            first.round,
            first.phase.name(),
            pair(&column(|sample| Some(sample.resident)), 1),
            pair(&column(|sample| Some(sample.files as f64)), 0),
            pair(&column(|sample| Some(sample.threads as f64)), 0),
            pair(&column(|sample| sample.commit), 1),
        );
        rest = after;
    }
    text
}

/// CSV with a line for each sample, and the faults that were active in its second.
pub fn csv(samples: &[Sample], faults: &[AppliedFault]) -> String {
    let mut text =
        "seconds,round,phase,faults,resident_mb,files,threads,latency_median_ms,latency_worst_ms,commit_mean_ms\n"
            .to_owned();
    let mut before = 0.0;
    for sample in samples {
        let on = faults.iter().filter(|fault| fault.from <= sample.at && fault.to > before);
        let on: Vec<&str> = on.map(|fault| fault.name).collect();
        let number = |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{:.3},{},{},{},{:.3},{},{},{},{},{}",
            sample.at,
            sample.round,
            sample.phase.name(),
            on.join(" + "),
            sample.resident,
            sample.files,
            sample.threads,
            number(sample.latency.map(|(median, _)| median)),
            number(sample.latency.map(|(_, worst)| worst)),
            number(sample.commit),
        );
        before = sample.at;
    }
    text
}
