//! Records that cannot become predictions: each becomes a dead letter, and the records around it are not affected.

use crate::support::daemon::{Daemon, dead_letters, sum};
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
    a_record_of_any_key_and_headers_becomes_a_letter_that_keeps_what_fits,
    many_outputs_of_a_refused_time_become_whole_letters_in_one_go,
    more_headers_than_there_may_be_are_a_dead_letter_that_says_so,
    a_null_key_for_a_compacted_topic_becomes_a_dead_letter,
    a_letter_for_a_small_compacted_topic_leaves_out_what_is_too_large_and_has_a_key,
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
    assert_eq!(dead_letter_reasons(scene)?, [(1, "not-a-number".to_owned())], "the first reason stays");
    let letters = scene.read("dead")?;
    let letter = letters.first().context("no dead letter")?;
    assert_eq!(letter.error("timestamp")?, "1000000000000");
    assert_eq!(letter.content.value.as_deref(), Some(b"no row".as_slice()));
    assert!(letter.timestamp.is_some_and(|written| written > 1_700_000_000_000), "{:?}", letter.timestamp);
    Ok(())
}

fn a_record_of_any_key_and_headers_becomes_a_letter_that_keeps_what_fits(scene: &Scene) -> Result<()> {
    let large = vec![b'x'; 20_000];
    let records = [
        record::value(ROW).key("a"),
        record::tombstone().key(&large),
        record::value("no row").key("headers").header("h", Some(&large)),
        record::value(&large).key(&large).header("h", Some(&large)),
        record::value(ROW).key("b"),
    ];
    let mut daemon = run(scene, "", &records, &[], &[("max.message.bytes", "8192")])?;
    assert_eq!(predicted(scene)?, [0, 4]);
    let letters = scene.read("dead")?;
    let reasons: Vec<String> = dead_letter_reasons(scene)?.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["null-value", "not-a-number", "not-a-number"]);
    let [key, headers, all] = letters.as_slice() else { anyhow::bail!("{letters:?}") };
    assert_eq!((key.error("key-size")?, key.error("value-size").is_err()), ("20000", true));
    assert_eq!((headers.error("headers-count")?, headers.error("key-size").is_err()), ("1", true));
    assert_eq!(headers.content.value.as_deref(), Some(b"no row".as_slice()));
    for part in ["value", "headers", "key"] {
        all.error(&format!("{part}-digest"))?;
    }
    daemon.until_ready()
}

/// Each would have cost aborts of its own: the topic's limits are known before anything is sent.
fn many_outputs_of_a_refused_time_become_whole_letters_in_one_go(scene: &Scene) -> Result<()> {
    let records: Vec<Record> =
        (0..400).map(|at| record::value(ROW).key(format!("{at}")).at(1_000_000_000_000)).collect();
    let mut daemon = run(scene, "", &records, &[("message.timestamp.before.max.ms", "86400000")], &[])?;
    let letters = scene.read("dead")?;
    assert_eq!(letters.len(), 400);
    for (letter, record) in letters.iter().zip(&records) {
        assert_eq!((letter.original(), letter.error("reason")?), (record.content.clone(), "refused-by-broker"));
        assert!(letter.error("message")?.contains("message.timestamp.before.max.ms"), "{:?}", letter.content);
    }
    let status = daemon.pipeline(&scene.name)?;
    let aborted = sum(&status, "aborted");
    assert!(aborted <= 20, "{status:#}");
    Ok(())
}

fn more_headers_than_there_may_be_are_a_dead_letter_that_says_so(scene: &Scene) -> Result<()> {
    let with_headers = |count: usize| {
        (0..count).fold(record::value(ROW).key(format!("{count}")), |record, _| record.header("h", None))
    };
    let records = [with_headers(1_000), with_headers(1_001), with_headers(100_001), with_headers(0)];
    run(scene, "", &records, &[], &[])?;
    assert_eq!(predicted(scene)?, [0, 3]);
    let wanted = [1, 2].map(|offset| (offset, "too-many-headers".to_owned()));
    assert_eq!(dead_letter_reasons(scene)?, wanted);
    let letters = scene.read("dead")?;
    let [counted, unread] = letters.as_slice() else { anyhow::bail!("{} letters", letters.len()) };
    assert_eq!((counted.error("headers-count")?, counted.error("headers-size")?), ("1001", "1001"));
    assert!(unread.error("message")?.contains("more than 100,000"), "{unread:?}");
    assert_eq!(unread.content.value.as_deref(), Some(ROW.as_bytes()));
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

fn a_letter_for_a_small_compacted_topic_leaves_out_what_is_too_large_and_has_a_key(scene: &Scene) -> Result<()> {
    let large = vec![b'x'; 20_000];
    let records = [
        record::value(ROW).key("a"),
        record::tombstone().key(&large),
        record::value(&large),
        record::value(&large).key(&large),
        record::tombstone(),
        record::value(ROW).key("b"),
    ];
    let dead = [("max.message.bytes", "8192"), ("cleanup.policy", "compact")];
    let mut daemon = run(scene, "", &records, &[], &dead)?;
    assert_eq!(predicted(scene)?, [0, 5]);
    let letters = scene.read("dead")?;
    assert_eq!(
        letters.iter().map(Record::dead_letter_origin).collect::<Result<Vec<_>>>()?,
        [1, 2, 3, 4].map(|at| (0, at))
    );
    for letter in &letters {
        let (partition, offset) = letter.dead_letter_origin()?;
        let place = format!("{}/{partition}@{offset}", scene.topic("in"));
        assert_eq!((letter.content.key.as_deref(), &letter.content.value), (Some(place.as_bytes()), &None));
        assert_eq!(
            (letter.error("key-null").is_ok(), letter.error("key-size").is_ok()),
            (offset % 2 == 0, offset % 2 == 1)
        );
    }
    daemon.until_ready()
}
