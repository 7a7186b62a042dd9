//! Records as a careless producer writes them, among the load: no key or value, keys and headers as large and as many as may
//! be and more, times of any age. Each has one outcome, and those around it are not held up.

use crate::load_test::{LoadTest, PARTITIONS};
use crate::matrix::times;
use crate::support::daemon::dead_letters;
use crate::support::flowers::ROW;
use crate::support::process::Usage;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Result, ensure};

crate::tests![keys_and_headers_at_their_extremes];

/// `[limits] max_key` of the row.
const MAX_KEY: usize = 65_536;
/// What a record may carry in all, a little less than brokers take by default.
const LARGE: usize = 900_000;
/// The headers that librdkafka reads of a record, at most.
const MOST_HEADERS: usize = 100_000;

/// Records, and the reason for which each is a dead letter.
fn extremes() -> Vec<(Record, Option<&'static str>)> {
    let large = vec![b'x'; LARGE];
    let headers = |count: usize, value: Option<&[u8]>| {
        (0..count).fold(record::value(ROW).key("flood"), |record, _| record.header("h", value))
    };
    vec![
        (record::value(ROW), None),
        (record::value(ROW).key(""), None),
        (record::value(ROW).key([0, 0xff, b'\n']), None),
        (record::value(ROW).key(&large[..MAX_KEY]), None),
        (record::value(ROW).key(&large[..=MAX_KEY]), Some("too-large")),
        (record::tombstone().key(&large), Some("too-large")),
        (record::tombstone().key("deleted"), Some("null-value")),
        (record::tombstone(), Some("null-value")),
        (record::value(ROW).header("", Some(b"")).header("h", None).header("h", Some(&[0xff])), None),
        (record::value(ROW).header("h", Some(&large)), None),
        (record::value(ROW).header("__sandpiper.replayed", Some(b"0@0")), None),
        (record::value("no row").header("__sandpiper.errors.offset", Some(b"7")), Some("not-a-number")),
        (headers(1_000, Some(&large[..800])), None),
        (headers(1_001, None), Some("too-many-headers")),
        (headers(MOST_HEADERS, None), Some("too-many-headers")),
        (headers(MOST_HEADERS + 1, None), Some("too-many-headers")),
        (record::value(ROW).key("old").at(0), None),
        (record::value(ROW).key("future").at(4_102_444_800_000), None),
    ]
}

fn keys_and_headers_at_their_extremes(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\nmax_key = \"64KiB\"\n")?;
    // A broker refuses times that are far ahead of its own, unless it is told to take them.
    for short in ["in", "out", "dead"] {
        scene.kafka.configure_topic(&scene.topic(short), "message.timestamp.after.max.ms", &i64::MAX.to_string())?;
    }
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    let (before, rounds, extremes) = (Usage::of(daemon.process())?.resident, times(3, 30)?, extremes());
    for round in 0..rounds {
        for (at, (record, _)) in extremes.iter().enumerate() {
            scene.write("in", [&record.clone().on((round + at) as i32 % PARTITIONS)])?;
        }
        test.until_all_progress()?;
    }
    let expected = |reason: &str| (rounds * extremes.iter().filter(|(_, why)| *why == Some(reason)).count()) as u64;
    for reason in ["too-large", "null-value", "too-many-headers"] {
        let status = daemon.until_status(&scene.name, &format!("{reason} are dead letters"), |status| {
            dead_letters(status, reason) >= expected(reason)
        })?;
        ensure!(dead_letters(&status, reason) == expected(reason), "{reason}: {status}");
    }
    let grown = Usage::of(daemon.process())?.resident - before;
    let figures = format!("{} records, resident memory {grown:+.0} MB", rounds * extremes.len());
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}
