//! Records that cannot become predictions: each becomes a dead letter, and the records around it are not affected.

use crate::support::daemon::{Daemon, dead_letters};
use crate::support::flowers::ROW;
use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use anyhow::{Context, Result};

crate::tests![
    malformed_rows_become_dead_letters_byte_for_byte,
    a_dead_letter_says_where_when_and_why,
    a_record_without_its_id_is_a_dead_letter,
    an_output_that_is_too_large_becomes_a_dead_letter,
    a_dead_letter_that_is_too_large_goes_without_its_value,
    a_dead_letter_of_a_time_that_its_topic_refuses_goes_without_it,
    a_null_key_for_a_compacted_topic_becomes_a_dead_letter,
];

/// Runs the records through a pipeline of one partition that has these topic configurations.
fn run(scene: &Scene, input: &str, records: &[Record], out: &[(&str, &str)], dead: &[(&str, &str)]) -> Result<Daemon> {
    scene.create(&[("in", 1, &[]), ("out", 1, out), ("dead", 1, dead)])?;
    scene.write("in", records)?;
    let pipeline = scene.flower_pipeline(input, &scene.model_of("setosa")?, "")?;
    let mut daemon = scene.daemon("a", &pipeline)?;
    scene.until_done(&mut [&mut daemon])?;
    Ok(daemon)
}

/// The input offsets that became predictions.
fn predicted(scene: &Scene) -> Result<Vec<i64>> {
    let offset =
        |prediction: &Record| Ok(record::origin(prediction.json()?["origin"].as_str().context("no origin")?)?.1);
    scene.read("out")?.iter().map(offset).collect()
}

/// Input offset and reason of each dead letter.
fn dead_letter_reasons(scene: &Scene) -> Result<Vec<(i64, String)>> {
    scene
        .read("dead")?
        .iter()
        .map(|letter| Ok((letter.dead_letter_origin()?.1, letter.error("reason")?.to_owned())))
        .collect()
}

fn malformed_rows_become_dead_letters_byte_for_byte(scene: &Scene) -> Result<()> {
    let good = record::value(ROW).key("good");
    let bad = [
        (record::value("5.1,3.5").key("short").header("trace", Some(b"1")), "column-count"),
        (record::value("five,3.5,1.4,0.2").key(""), "not-a-number"),
        (record::value([0xff, 0xfe, b',', 0x00]), "invalid-utf8"),
        (record::value("").key("empty").header("none", None).header("empty", Some(b"")), "empty"),
        (
            record::tombstone().key("null").header("trace", Some(&[0xff, 0x00])).header("trace", Some(b"2")),
            "null-value",
        ),
    ];
    let records: Vec<Record> = bad.iter().flat_map(|(bad, _)| [good.clone(), bad.clone()]).collect();
    let mut daemon = run(scene, "", &records, &[], &[])?;

    let letters = scene.read("dead")?;
    assert_eq!(letters.len(), bad.len(), "{:?}", dead_letter_reasons(scene)?);
    for (letter, (record, reason)) in letters.iter().zip(&bad) {
        assert_eq!(letter.original(), record.content);
        assert_eq!(letter.error("reason")?, *reason, "{}", letter.error("message")?);
    }
    assert_eq!(predicted(scene)?, [0, 2, 4, 6, 8]);
    let status = daemon.pipeline(&scene.name)?;
    assert_eq!(dead_letters(&status, "column-count"), 1, "{status:#}");
    assert_eq!(dead_letters(&status, "null-value"), 1, "{status:#}");
    Ok(())
}

fn a_dead_letter_says_where_when_and_why(scene: &Scene) -> Result<()> {
    let records = [record::value(ROW).key("a"), record::value("1,2").key("b").at(1_700_000_000_123)];
    let mut daemon = run(scene, "id = \"key\"", &records, &[], &[])?;
    let letters = scene.read("dead")?;
    let letter = letters.first().context("no dead letter")?;
    let revision = daemon.pipeline(&scene.name)?["revision"].to_string();
    let input = scene.topic("in");
    for (name, expected) in [
        ("topic", input.as_str()),
        ("partition", "0"),
        ("offset", "1"),
        ("timestamp", "1700000000123"),
        ("id", "b"),
        ("pipeline", &scene.name),
        ("stage", "parse"),
        ("revision", &revision),
        ("reason", "column-count"),
        ("instance", "a"),
    ] {
        assert_eq!(letter.error(name)?, expected, "{name}");
    }
    assert!(letter.error("attempts")?.parse::<u32>()? >= 1);
    assert!(!letter.error("message")?.is_empty() && !letter.error("release")?.is_empty());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let age = now.checked_sub(letter.error("time")?.parse()?).context("it is from the future")?;
    assert!(age < 600_000, "{age} ms old");
    Ok(())
}

fn a_record_without_its_id_is_a_dead_letter(scene: &Scene) -> Result<()> {
    let records =
        [record::value(ROW).key("a"), record::value(ROW), record::value(ROW).key([0xff]), record::value(ROW).key("b")];
    run(scene, "id = \"key\"", &records, &[], &[])?;
    assert_eq!(predicted(scene)?, [0, 3]);
    assert_eq!(dead_letter_reasons(scene)?, [(1, "no-id".to_owned()), (2, "no-id".to_owned())]);
    Ok(())
}

/// A topic's limit holds for a whole batch of records, and the client refuses the whole batch: the other records of it must
/// still become predictions.
fn an_output_that_is_too_large_becomes_a_dead_letter(scene: &Scene) -> Result<()> {
    let mut records: Vec<Record> = (0..20).map(|at| record::value(ROW).key(format!("{at}"))).collect();
    records.insert(10, record::value(ROW).key("x".repeat(20_000)));
    let mut daemon = run(scene, "", &records, &[("max.message.bytes", "16384")], &[])?;
    assert_eq!(dead_letter_reasons(scene)?.len(), 1, "{:?}", dead_letter_reasons(scene)?);
    let letters = scene.read("dead")?;
    let letter = letters.first().context("no dead letter")?;
    assert_eq!((letter.dead_letter_origin()?, letter.error("stage")?), ((0, 10), "output"));
    assert_eq!(letter.original(), records.get(10).context("no record")?.content);
    assert_eq!(predicted(scene)?, (0..21).filter(|offset| *offset != 10).collect::<Vec<_>>());
    daemon.until_ready()
}

fn a_dead_letter_that_is_too_large_goes_without_its_value(scene: &Scene) -> Result<()> {
    let large = "not a row ".repeat(2_000);
    let records = [record::value(ROW).key("a"), record::value(&large).key("large"), record::value(ROW).key("b")];
    run(scene, "", &records, &[], &[("max.message.bytes", "8192")])?;
    assert_eq!(predicted(scene)?, [0, 2]);
    let letters = scene.read("dead")?;
    assert_eq!(letters.len(), 1);
    let letter = letters.first().context("no dead letter")?;
    assert_eq!(letter.content.key.as_deref(), Some(b"large".as_slice()));
    assert_eq!(letter.content.value, None);
    assert_eq!(letter.dead_letter_origin()?, (0, 1));
    assert_eq!(letter.error("value-size")?, large.len().to_string());
    assert!(!letter.error("value-digest")?.is_empty());
    Ok(())
}

fn a_dead_letter_of_a_time_that_its_topic_refuses_goes_without_it(scene: &Scene) -> Result<()> {
    let old = record::value("no row").key("old").at(1_000_000_000_000);
    let records = [record::value(ROW).key("a"), old, record::value(ROW).key("b")];
    run(scene, "", &records, &[], &[("message.timestamp.before.max.ms", "86400000")])?;
    assert_eq!(predicted(scene)?, [0, 2]);
    assert_eq!(dead_letter_reasons(scene)?, [(1, "refused-by-broker".to_owned())]);
    let letters = scene.read("dead")?;
    let letter = letters.first().context("no dead letter")?;
    assert_eq!(letter.error("timestamp")?, "1000000000000");
    assert_eq!(letter.error("value-size")?, "6");
    assert!(letter.timestamp.is_some_and(|written| written > 1_700_000_000_000), "{:?}", letter.timestamp);
    Ok(())
}

fn a_null_key_for_a_compacted_topic_becomes_a_dead_letter(scene: &Scene) -> Result<()> {
    let records =
        [record::value(ROW).key("a"), record::value(ROW), record::value(ROW).key(""), record::value(ROW).key("b")];
    let mut daemon = run(scene, "", &records, &[("cleanup.policy", "compact")], &[])?;
    assert_eq!(predicted(scene)?, [0, 2, 3], "an empty key is a key");
    let letters = scene.read("dead")?;
    assert_eq!(letters.len(), 1, "{:?}", dead_letter_reasons(scene)?);
    let letter = letters.first().context("no dead letter")?;
    assert_eq!((letter.dead_letter_origin()?, letter.error("stage")?), ((0, 1), "output"));
    assert_eq!(letter.original(), record::value(ROW).content);
    daemon.until_ready()
}
