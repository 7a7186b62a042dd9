//! What an output keeps of its input record: key, headers, timestamp, partition, and a null value.

use crate::support::flowers::ROW;
use crate::support::java;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

crate::tests![
    keys_headers_timestamps_and_partitions_pass_through,
    a_timestamp_of_now_is_the_time_of_writing,
    tombstones_are_passed_dropped_or_dead_lettered_as_configured,
    a_java_clients_keys_stay_on_their_partitions,
    keys_are_partitioned_as_java_does_where_the_counts_differ,
];

/// Runs the records through a pipeline of that many partitions and returns the outputs.
fn run(scene: &Scene, input: &str, records: &[Record]) -> Result<Vec<Record>> {
    scene.create_usual(3)?;
    scene.write("in", records)?;
    let pipeline = scene.flower_pipeline(input, &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.until_done(&mut [&mut daemon])?;
    scene.read("out")
}

fn keys_headers_timestamps_and_partitions_pass_through(scene: &Scene) -> Result<()> {
    let records = [
        record::value(ROW).on(0).at(1_600_000_000_000),
        record::value(ROW).key("").on(0).at(1_600_000_000_001),
        record::value(ROW)
            .key([0xff, 0x00])
            .on(1)
            .at(1)
            .header("a", Some(b"1"))
            .header("a", Some(b""))
            .header("a", None),
        record::value(ROW).key("käy").on(2).at(1_600_000_000_002).header("ü", Some(&[0x80, 0xff])),
    ];
    let out = run(scene, "", &records)?;
    assert_eq!(out.len(), records.len());
    for (out, record) in out.iter().zip(&records) {
        assert_eq!(out.content.key, record.content.key);
        assert_eq!(out.content.headers, record.content.headers);
        assert_eq!((out.partition, out.timestamp), (record.partition, record.timestamp));
    }
    Ok(())
}

fn a_timestamp_of_now_is_the_time_of_writing(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    scene.write("in", &[record::value(ROW).at(1_600_000_000_000)])?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let text = std::fs::read_to_string(&pipeline)?.replace("[output]\n", "[output]\ntimestamp = \"now\"\n");
    let mut daemon = scene.daemon("a", &scene.pipeline(&text)?)?;
    scene.until_done(&mut [&mut daemon])?;
    let out = scene.read("out")?;
    let written = out.first().and_then(|record| record.timestamp).context("no timestamp")?;
    assert!(written > 1_700_000_000_000, "{written}");
    Ok(())
}

fn tombstones_are_passed_dropped_or_dead_lettered_as_configured(scene: &Scene) -> Result<()> {
    let null = record::tombstone().key("gone").on(0).at(1_600_000_000_000).header("why", Some(b"deleted"));
    let empty = record::value("").key("empty").on(0).at(1_600_000_000_000);
    for (word, passed, dead_lettered) in [("pass", true, 1), ("drop", false, 1), ("dead-letter", false, 2)] {
        let scene = scene.part(word);
        let out = run(&scene, &format!("tombstones = {word:?}"), &[null.clone(), empty.clone()])?;
        let expected: &[Record] = if passed { std::slice::from_ref(&null) } else { &[] };
        assert_eq!(out, expected, "{word}: emitted as it came");
        let letters = scene.read("dead")?;
        assert_eq!(letters.len(), dead_lettered, "{word}: an empty value is not null, and no row either");
    }
    Ok(())
}

/// Key → partition, as a Java client with its default partitioner puts it.
fn java_writes(scene: &Scene, topic: &str, count: usize) -> Result<BTreeMap<String, i32>> {
    let printed = java::run("KeyedProducer.java", &[&scene.bootstrap(), &scene.topic(topic), &count.to_string(), ROW])?;
    let pair = |line: &str| {
        let (key, partition) = line.rsplit_once(' ')?;
        Some((key.to_owned(), partition.parse().ok()?))
    };
    printed.lines().map(|line| pair(line).with_context(|| format!("not a key and a partition: {line}"))).collect()
}

fn partitions_by_key(records: &[Record]) -> Result<BTreeMap<String, i32>> {
    let pair = |record: &Record| {
        let key = String::from_utf8(record.content.key.clone()?).ok()?;
        Some((key, record.partition?))
    };
    records.iter().map(|record| pair(record).context("a record without a key")).collect()
}

fn a_java_clients_keys_stay_on_their_partitions(scene: &Scene) -> Result<()> {
    scene.create_usual(5)?;
    let written = java_writes(scene, "in", 500)?;
    assert_eq!(written.len(), 500);
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(partitions_by_key(&scene.read("out")?)?, written);
    Ok(())
}

fn keys_are_partitioned_as_java_does_where_the_counts_differ(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 3, &[]), ("out", 7, &[]), ("dead", 3, &[]), ("reference", 7, &[])])?;
    java_writes(scene, "in", 500)?;
    let reference = java_writes(scene, "reference", 500)?;
    let pipeline = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let text = std::fs::read_to_string(&pipeline)?.replace("[output]\n", "[output]\npartition = \"key\"\n");
    let mut daemon = scene.daemon("a", &scene.pipeline(&text)?)?;
    scene.until_done(&mut [&mut daemon])?;
    assert_eq!(partitions_by_key(&scene.read("out")?)?, reference);
    Ok(())
}
