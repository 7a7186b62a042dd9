//! The memory that a daemon takes under the worst input that it lets in, against what `check` says that it may take.

use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::topic;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

crate::tests![two_workers_under_the_worst_input_stay_within_what_check_says];

/// `SANDPIPER_MEMORY_SECONDS=120` is the long form.
fn time() -> Duration {
    let seconds = std::env::var("SANDPIPER_MEMORY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// Records that are as large as they may be, each in another way.
fn worst() -> Vec<Record> {
    let large = vec![b'x'; 900_000];
    let many = |count: usize, value: Option<&[u8]>| {
        (0..count).fold(record::value(ROW).key("k"), |record, _| record.header("h", value))
    };
    vec![
        record::value(&large).key("value"),
        record::tombstone().key(&large),
        record::value(ROW).key("one").header("h", Some(&large)),
        many(1_000, Some(&large[..900])),
        many(1_000, None),
        many(100_000, None),
        many(100_001, None),
        record::value(ROW).key("row"),
    ]
}

fn two_workers_under_the_worst_input_stay_within_what_check_says(scene: &Scene) -> Result<()> {
    scene.create_usual(2)?;
    let limits = "[limits]\nworkers = 2\nfetch_records = 64\nplugin_memory = \"16MiB\"\nworker_memory = \"160MiB\"\n";
    let file = scene.flower_pipeline("", &scene.model_of("setosa")?, limits)?;
    let text = std::fs::read_to_string(&file)?;
    scene.pipeline(&text.replace("[errors]\n", "[errors]\npause_above = 1.0\n"))?;
    let mut daemon = scene.daemon("a", &file)?;
    let said = daemon.cli(&["check", &file.to_string_lossy(), "-o", "json"])?.json()?;
    let most = said["memory"][0]["bytes"].as_u64().context("no sum")?;

    let worst = worst();
    let producer = topic::Producer::new(&scene.bootstrap())?;
    let (name, started, mut written) = (scene.topic("in"), Instant::now(), 0);
    while started.elapsed() < time() {
        for record in &worst {
            for at in 0..4 {
                producer.send(&name, &record.clone().on(at % 2))?;
                written += 1;
            }
        }
        producer.flush()?;
        daemon.check_alive()?;
    }
    scene.until_done(&mut [&mut daemon])?;
    let peak = peak_memory(daemon.process())?;
    println!("{written} records, {} of {} MiB", peak >> 20, most >> 20);
    assert!(peak <= most, "{} MiB of {} MiB: {said:#}", peak >> 20, most >> 20);
    Ok(())
}

/// The most that a process has had resident, bytes.
fn peak_memory(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? << 10)
}
