//! `/metrics`: the workers' last reports in Prometheus' text form. Nothing is counted here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use arc_swap::ArcSwap;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::api::status::{PipelineStatus, Status, WorkerStatus};
use crate::stream::report::{BUCKETS, Durations, WorkerState};

/// Label name and value pairs.
type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Total>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Histograms = Family<Labels, Histogram>;

/// A counter whose value was counted elsewhere.
#[derive(Clone, Debug, Default)]
struct Total(Arc<AtomicU64>);

impl Total {
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_counter::<NoLabelSet, u64, u64>(&self.0.load(Ordering::Relaxed), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A histogram whose durations were counted elsewhere.
#[derive(Clone, Debug, Default)]
struct Histogram(Arc<ArcSwap<Durations>>);

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let durations = self.0.load();
        // The encoder sums the buckets up, and its last one holds all.
        let inside: u64 = durations.buckets.iter().sum();
        let above = (f64::INFINITY, durations.count.saturating_sub(inside));
        let buckets: Vec<(f64, u64)> = BUCKETS.into_iter().zip(durations.buckets).chain([above]).collect();
        encoder.encode_histogram::<NoLabelSet>(durations.sum_us as f64 / 1e6, durations.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// # Errors
/// Never in practice: writing text into memory.
pub fn render(status: &Status) -> Result<String> {
    let mut registry = Registry::with_prefix("sandpiper");
    let mut counters = |name: &str, help: &str| {
        let family = Counters::default();
        registry.register(name, help, family.clone());
        family
    };
    let records = counters("records", "Input records whose outcome is committed, by outcome.");
    let dead_letters = counters("dead_letters", "Input records that became dead letters, by reason.");
    let transactions = counters("transactions", "Transactions, by result.");
    let recoveries = counters("recoveries", "Producers made anew since a transaction's outcome was unknown.");
    let missed = counters("missed_offsets", "Offsets of the input that were deleted before they were read.");
    let swaps = counters("swaps", "Deployments that a worker took while it ran, of the last 1,000.");
    let release_records = counters("release_records", "Input records whose outcome is committed, by revision.");
    let labels = counters("labels", "Labels and predictions of the feedback loop, by what became of them.");
    let scored = counters("scored", "Predictions judged by a label, by revision.");
    let confusion = counters("confusion", "Predictions judged by a label, by true and predicted class.");
    let rollout_records = counters("rollout_records", "Records of the rollout under way, by what both arms came to.");
    let commits = Histograms::default();
    registry.register(
        "commit_seconds",
        "Committed transactions, from their closing to the broker's answer.",
        commits.clone(),
    );
    let mut gauges = |name: &str, help: &str, unit: Option<Unit>| {
        let family = Gauges::default();
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
            None => registry.register(name, help, family.clone()),
        }
        family
    };
    let lag = gauges("lag_records", "Records behind the end of a partition, as last heard.", None);
    let position = gauges("position_offset", "Next offset to be read of a partition, as committed.", None);
    let revision = gauges("deployment_revision", "The revision that a worker runs.", None);
    let running = gauges("worker_running", "1 while a worker runs, else 0.", None);
    let paused = gauges("pipeline_paused", "1 while a pipeline is paused, else 0.", None);
    let pause = gauges("swap_pause_seconds", "The last swap's pause between two transactions.", None);
    let step = gauges("rollout_step", "The running step of the rollout under way, from 1; 0 where none is.", None);
    let canary = gauges("rollout_canary_ratio", "Share of the keys whose answer is the challenger's.", None);
    let accuracy = gauges("accuracy_ratio", "Prequential accuracy of a revision.", None);
    let log_loss = gauges("log_loss_nats", "Mean logarithmic loss of a revision.", None);

    for pipeline in &status.pipelines {
        let name = ("pipeline", pipeline.name.clone());
        let with = |more: Labels| -> Labels { std::iter::once(name.clone()).chain(more).collect() };
        for (role, worker) in workers(pipeline) {
            let with = |more: Labels| {
                with([("loop", role.to_owned()), ("worker", worker.slot.to_string())].into_iter().chain(more).collect())
            };
            let dead: u64 = worker.dead_letters.values().sum();
            for (outcome, count) in [("emitted", worker.emitted), ("dropped", worker.dropped), ("dead-lettered", dead)]
            {
                records.get_or_create(&with(vec![("outcome", outcome.into())])).set(count);
            }
            for (reason, count) in &worker.dead_letters {
                dead_letters.get_or_create(&with(vec![("reason", reason.clone())])).set(*count);
            }
            for (result, count) in [("committed", worker.transactions), ("aborted", worker.aborted)] {
                transactions.get_or_create(&with(vec![("result", result.into())])).set(count);
            }
            recoveries.get_or_create(&with(vec![])).set(worker.recoveries);
            missed.get_or_create(&with(vec![])).set(worker.missed);
            commits.get_or_create(&with(vec![])).0.store(Arc::new(worker.commits.clone()));
            swaps.get_or_create(&with(vec![])).set(worker.swap_pauses_us.len() as u64);
            for partition in &worker.partitions {
                let labels =
                    with(vec![("topic", partition.topic.clone()), ("partition", partition.partition.to_string())]);
                if let Some(behind) = partition.lag {
                    lag.get_or_create(&labels).set(behind as f64);
                }
                if let Some(offset) = partition.position {
                    position.get_or_create(&labels).set(offset as f64);
                }
            }
            if let Some(number) = worker.revision {
                revision.get_or_create(&with(vec![])).set(number.get() as f64);
            }
            running.get_or_create(&with(vec![])).set(if worker.state == WorkerState::Running { 1.0 } else { 0.0 });
            if let Some(last) = worker.swap_pauses_us.last() {
                pause.get_or_create(&with(vec![])).set(*last as f64 / 1e6);
            }
        }
        for release in &pipeline.releases {
            let with =
                |more: Labels| with(std::iter::once(("revision", release.revision.to_string())).chain(more).collect());
            release_records.get_or_create(&with(vec![])).set(release.records);
            if let Some(count) = release.scored {
                scored.get_or_create(&with(vec![])).set(count);
            }
            for (truth, row) in &release.confusion {
                for (predicted, count) in row {
                    let labels = with(vec![("truth", truth.clone()), ("predicted", predicted.clone())]);
                    confusion.get_or_create(&labels).set(*count);
                }
            }
            if let Some(value) = release.accuracy {
                accuracy.get_or_create(&with(vec![])).set(value);
            }
            if let Some(value) = release.log_loss {
                log_loss.get_or_create(&with(vec![])).set(value);
            }
        }
        let rollout = pipeline.rollout.as_ref();
        step.get_or_create(&with(vec![])).set(rollout.map_or(0.0, |rollout| rollout.rollout.step as f64 + 1.0));
        canary.get_or_create(&with(vec![])).set(rollout.map_or(0.0, |rollout| f64::from(rollout.canary)));
        if let Some(comparison) = rollout.map(|rollout| &rollout.all_figures.comparison) {
            for (outcome, count) in [
                ("agreed", comparison.agreed),
                ("disagreed", comparison.disagreed),
                ("rejected", comparison.rejected),
                ("failed", comparison.failed),
                ("skipped", comparison.skipped),
                ("emitted", comparison.emitted),
            ] {
                rollout_records.get_or_create(&with(vec![("outcome", outcome.into())])).set(count);
            }
        }
        paused.get_or_create(&with(vec![])).set(if pipeline.paused.is_some() { 1.0 } else { 0.0 });
        for (kind, count) in pipeline.feedback.iter().flat_map(|feedback| &feedback.labels) {
            labels.get_or_create(&with(vec![("kind", kind.clone())])).set(*count);
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn workers(pipeline: &PipelineStatus) -> impl Iterator<Item = (&'static str, &WorkerStatus)> {
    let main = pipeline.workers.iter().map(|worker| ("main", worker));
    main.chain(pipeline.feedback.iter().map(|feedback| ("feedback", &feedback.worker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_read_as_prometheus_wants_them() {
        let worker = serde_json::json!({
            "slot": 0, "state": "running", "revision": 3, "records": 9, "emitted": 7, "dropped": 0,
            "dead_letters": { "not-a-number": 2 }, "transactions": 4, "aborted": 1, "recoveries": 0, "missed": 12,
            "commits": { "count": 4, "sum_us": 6_500_000, "buckets": [0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0] },
            "swap_pauses_us": [250], "at": 0, "silent_ms": 0,
            "partitions": [{ "topic": "in", "partition": 1, "position": 9, "lag": 5 }],
        });
        let feedback = worker.clone();
        let status: Status = serde_json::from_value(serde_json::json!({
            "version": "0", "instance": "a",
            "pipelines": [{
                "name": "iris", "state": "running", "delivery": "exactly-once", "revision": 3, "records": 9,
                "emitted": 7, "dropped": 0, "dead_letters": {}, "lag": 5, "workers": [worker],
                "releases": [{ "revision": 3, "releases": {}, "records": 9, "scored": 4, "accuracy": 0.75 }],
                "feedback": { "labels": {}, "waiting": 0, "worker": feedback },
            }],
        }))
        .unwrap();
        let text = render(&status).unwrap();
        let main = r#"pipeline="iris",loop="main",worker="0""#;
        for line in [
            format!("sandpiper_records_total{{{main},outcome=\"emitted\"}} 7"),
            format!("sandpiper_records_total{{{main},outcome=\"dead-lettered\"}} 2"),
            format!("sandpiper_dead_letters_total{{{main},reason=\"not-a-number\"}} 2"),
            format!("sandpiper_transactions_total{{{main},result=\"aborted\"}} 1"),
            format!("sandpiper_missed_offsets_total{{{main}}} 12"),
            format!("sandpiper_commit_seconds_sum{{{main}}} 6.5"),
            format!("sandpiper_commit_seconds_count{{{main}}} 4"),
            format!("sandpiper_commit_seconds_bucket{{le=\"0.005\",{main}}} 0"),
            format!("sandpiper_commit_seconds_bucket{{le=\"0.01\",{main}}} 2"),
            format!("sandpiper_commit_seconds_bucket{{le=\"5.0\",{main}}} 3"),
            format!("sandpiper_commit_seconds_bucket{{le=\"+Inf\",{main}}} 4"),
            format!("sandpiper_lag_records{{{main},topic=\"in\",partition=\"1\"}} 5.0"),
            format!("sandpiper_swap_pause_seconds{{{main}}} 0.00025"),
            "sandpiper_accuracy_ratio{pipeline=\"iris\",revision=\"3\"} 0.75".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in:\n{text}");
        }
        let mut revisions: Vec<&str> =
            text.lines().filter(|line| line.starts_with("sandpiper_deployment_revision{")).collect();
        let feedback = main.replace("main", "feedback");
        revisions.sort_unstable();
        assert_eq!(revisions, [&feedback, main].map(|of| format!("sandpiper_deployment_revision{{{of}}} 3.0")));
    }
}
