//! What a pipeline may take of memory: every part that is bounded, in one sum. docs/operations.md describes it.

use crate::config::plan::Plan;

use super::unit::{MIB, show_size};

/// The daemon itself: its code, the sandbox's engine, the plugins' compiled code, and the threads of its clients.
const DAEMON: usize = 128 * MIB;
/// What a worker takes besides what is counted in its memory: librdkafka's connections and buffers, one fetch, decompressed.
const CLIENTS: usize = 32 * MIB;
/// All confusion matrices of a feedback loop, which forgets some of them beyond it.
pub const MATRICES: usize = 4 * MIB;
/// The loop's figures: as they are kept, as they were published before, and as `status` and `/metrics` write them out.
const FIGURES: usize = 8 * MATRICES;

/// One part of the memory that a pipeline may take.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Part {
    pub name: &'static str,
    /// How many of it there are.
    pub count: usize,
    /// Bytes of one.
    pub bytes: usize,
}

/// The parts of a daemon that runs this pipeline alone.
pub fn parts(plan: &Plan) -> Vec<Part> {
    let part = |name, count, bytes| Part { name, count, bytes };
    let worker = plan.limits.worker_memory + CLIENTS;
    let mut parts = vec![part("daemon", 1, DAEMON), part("worker", plan.limits.workers, worker)];
    if plan.feedback.is_some() {
        // What waits for its label is in it: `[feedback] max_bytes`.
        parts.push(part("feedback worker", 1, worker + FIGURES));
    }
    parts.push(part("replay, while one runs", 1, worker));
    parts
}

/// Bytes of all parts.
pub fn sum(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.count.saturating_mul(part.bytes)).fold(0, usize::saturating_add)
}

/// `1312MiB = daemon 128MiB + 2 × worker 544MiB + …`
pub fn shown(parts: &[Part]) -> String {
    let each = parts.iter().map(|part| {
        let count = if part.count == 1 { String::new() } else { format!("{} × ", part.count) };
        format!("{count}{} {}", part.name, mebibytes(part.bytes))
    });
    format!("{} = {}", mebibytes(sum(parts)), each.collect::<Vec<_>>().join(" + "))
}

pub fn mebibytes(bytes: usize) -> String {
    show_size(bytes.div_ceil(MIB).saturating_mul(MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_in_the_sum_and_named() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.toml");
        let mut plan = crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap();
        plan.limits.workers = 2;
        plan.limits.worker_memory = 512 * MIB;
        let with = parts(&plan);
        assert_eq!(
            shown(&with),
            "2336MiB = daemon 128MiB + 2 × worker 544MiB + feedback worker 576MiB + replay, while one runs 544MiB"
        );
        plan.feedback = None;
        assert_eq!(sum(&with) - sum(&parts(&plan)), 576 * MIB);
    }
}
