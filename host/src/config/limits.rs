//! `[limits]`: threads, memory and time, and whether a worker's parts fit into its memory.

use std::time::Duration;

use crate::config::plan::Limits;

use super::section::Section;
use super::stage::StageCount;
use super::unit::{GIB, KIB, MIB, show_size};
use super::value::Setting;
use super::{delivery, feedback};

/// librdkafka's own maximum for a queue is 2,097,151 KiB.
const LARGEST_QUEUE: usize = 2047 * MIB;
/// librdkafka counts the bytes of values only, and keeps some 300 more beside each record: small ones are limited by number.
const SMALL_RECORD: usize = 128;
/// Instances of each plugin while a swap is staged: of the release that runs and of the one that is to replace it.
const INSTANCES: usize = 2;

pub(super) fn read(
    section: &Section<'_>,
    delivery: Option<&delivery::DeliverySettings>,
    stages: StageCount,
    feedback: Option<&feedback::FeedbackSettings>,
) -> Option<Limits> {
    let workers = section.count("workers", 1, 1..=256);
    let plugin_memory = section.size("plugin_memory", 64 * MIB, MIB..=4 * GIB);
    let deadline = section.duration(
        "deadline",
        Duration::from_millis(500),
        Duration::from_millis(10)..=Duration::from_secs(86_400),
    );
    let batch_records = section.count("batch_records", 1024, 1..=1024);
    let batch_bytes = section.size("batch_bytes", 4 * MIB, KIB..=4 * MIB);
    // Below 4 GiB, so that a batch's offsets hold whatever a stage hands on.
    let output_bytes = section.size("output_bytes", 32 * MIB, 8 * MIB..=GIB);
    let max_key = section.size("max_key", MIB, KIB..=GIB);
    let max_headers = section.count("max_headers", 1_000, 0..=100_000);
    let max_header_bytes = section.size("max_header_bytes", MIB, KIB..=GIB);
    let fetch_queue = section.size("fetch_queue", 4 * MIB, 64 * KIB..=LARGEST_QUEUE);
    let small = fetch_queue.as_ref().map_or(0, |queue| queue.value / SMALL_RECORD);
    let fetch_records = section.count("fetch_records", small.max(1), 1..=10_000_000);
    let producer_queue = section.size("producer_queue", 16 * MIB, 64 * KIB..=LARGEST_QUEUE);
    // A challenger's plugins are more instances.
    let enough = if stages.has_challenger { 768 * MIB } else { 512 * MIB };
    let worker_memory = section.size("worker_memory", enough, MIB..=1024 * GIB);
    section.finish();

    let budget = delivery.and_then(|delivery| delivery.budget.as_ref());
    if let (Some(deadline), Some(budget)) = (&deadline, budget)
        && deadline.value >= budget.value
        && let Some(at) = deadline.at.as_ref().or(budget.at.as_ref())
    {
        let message = format!(
            "deadline is {} and must be less than [delivery] budget, which is {}: one plugin call must not use up its transaction",
            deadline.shown, budget.shown
        );
        section.file.mistake(at, section.key("deadline"), message);
    }
    if let (Some(batch), Some(memory)) = (&batch_bytes, &plugin_memory)
        && batch.value >= memory.value
        && let Some(at) = batch.at.as_ref().or(memory.at.as_ref())
    {
        let message = format!(
            "batch_bytes is {} and must be less than plugin_memory, which is {}: a plugin holds its whole batch",
            batch.shown, memory.shown
        );
        section.file.mistake(at, section.key("batch_bytes"), message);
    }
    let max_bytes = delivery.and_then(|delivery| delivery.max_bytes.as_ref());
    if let (Some(output), Some(fetch), Some(produce), Some(transaction), Some(plugin), Some(worker)) =
        (&output_bytes, &fetch_queue, &producer_queue, max_bytes, &plugin_memory, &worker_memory)
    {
        let buffers = [("fetch_queue", fetch), ("producer_queue", produce), ("[delivery] max_bytes", transaction)];
        let [fetch, produce, transaction] = buffers;
        let fits =
            check_memory(section, [("output_bytes", output), fetch, produce, transaction], plugin, stages, worker);
        if let Some(feedback) = feedback.filter(|_| fits) {
            check_feedback_memory(section, buffers, plugin, &feedback.max_bytes, worker);
        }
    }
    Some(Limits {
        workers: workers?.value,
        plugin_memory: plugin_memory?.value,
        deadline: deadline?.value,
        batch_records: batch_records?.value,
        batch_bytes: batch_bytes?.value,
        output_bytes: output_bytes?.value,
        max_key: max_key?.value,
        max_headers: max_headers?.value,
        max_header_bytes: max_header_bytes?.value,
        fetch_queue: fetch_queue?.value,
        fetch_records: fetch_records?.value,
        producer_queue: producer_queue?.value,
        worker_memory: worker_memory?.value,
    })
}

/// Checks a worker of the main loop, and says whether it fits.
fn check_memory(
    section: &Section<'_>,
    buffers: [(&str, &Setting<usize>); 4],
    plugin: &Setting<usize>,
    stages: StageCount,
    worker: &Setting<usize>,
) -> bool {
    let plugins = stages.plugins();
    let buffered: usize = buffers.iter().map(|(_, size)| size.value).sum();
    let needed = buffered.saturating_add(plugin.value.saturating_mul(plugins).saturating_mul(INSTANCES));
    if needed <= worker.value {
        return true;
    }
    let written = worker.at.as_ref().or(plugin.at.as_ref());
    let at = written.or_else(|| buffers.iter().find_map(|(_, size)| size.at.as_ref())).unwrap_or(&section.at);
    let terms = buffers.map(|(name, size)| format!("{name} {}", size.shown)).join(" + ");
    let fits = show_size(needed.div_ceil(MIB).saturating_mul(MIB));
    let message = format!(
        "worker_memory is {}, and a worker needs {}: {terms} + {plugins} plugins × plugin_memory {} × {INSTANCES} (two releases are \
         open while a swap is staged); set worker_memory = \"{fits}\" or lower one of these",
        worker.shown,
        show_size(needed),
        plugin.shown,
    );
    section.file.mistake(at, section.key("worker_memory"), message);
    false
}

/// Checks the feedback loop's worker: it has the same queues, one plugin that is not swapped, and what it remembers.
fn check_feedback_memory(
    section: &Section<'_>,
    buffers: [(&str, &Setting<usize>); 3],
    plugin: &Setting<usize>,
    remembered: &Setting<usize>,
    worker: &Setting<usize>,
) {
    let buffered: usize = buffers.iter().map(|(_, size)| size.value).sum();
    let needed = buffered.saturating_add(plugin.value).saturating_add(remembered.value);
    if needed <= worker.value {
        return;
    }
    let terms = buffers.map(|(name, size)| format!("{name} {}", size.shown)).join(" + ");
    let fits = show_size(needed.div_ceil(MIB).saturating_mul(MIB));
    let message = format!(
        "worker_memory is {}, and the feedback loop's worker needs {}: {terms} + plugin_memory {} + [feedback] max_bytes {}; set \
         worker_memory = \"{fits}\" or lower one of these",
        worker.shown,
        show_size(needed),
        plugin.shown,
        remembered.shown,
    );
    let at = worker.at.as_ref().or(remembered.at.as_ref()).or(plugin.at.as_ref()).unwrap_or(&section.at);
    section.file.mistake(at, section.key("worker_memory"), message);
}
