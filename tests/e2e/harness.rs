//! The tests' own Kafka clients, which every other test relies on.

use crate::support::record::{self, Record};
use crate::support::scene::Scene;
use crate::support::topic::{self, Isolation};
use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;

crate::tests![records_come_back_byte_for_byte, aborted_and_open_transactions_are_told_apart];

fn records_come_back_byte_for_byte(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 2, &[])])?;
    let written: Vec<Record> = vec![
        record::value("plain").key("k").on(0).at(1_700_000_000_000),
        record::value("").key("").on(0).at(1),
        record::tombstone().key("gone").on(0).at(2),
        record::value([0xff, 0x00, 0xfe])
            .on(1)
            .at(3)
            .header("a", Some(b""))
            .header("a", None)
            .header("b", Some(&[0x80])),
    ];
    scene.write("in", &written)?;
    let read = scene.read("in")?;
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(&written) {
        assert_eq!(
            (&read.content, read.partition, read.timestamp),
            (&written.content, written.partition, written.timestamp)
        );
    }
    Ok(())
}

fn aborted_and_open_transactions_are_told_apart(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 1, &[])])?;
    let topic = scene.topic("in");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", scene.bootstrap())
        .set("transactional.id", &scene.name)
        .create()?;
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience)?;
    for (value, commit) in [("first", true), ("aborted", false), ("second", true)] {
        producer.begin_transaction()?;
        let record: BaseRecord<str, str> = BaseRecord::to(&topic).payload(value);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(patience)?;
        match commit {
            true => producer.commit_transaction(patience)?,
            false => producer.abort_transaction(patience)?,
        }
    }
    let text = |isolation| -> Result<Vec<String>> {
        let records = topic::read(&scene.bootstrap(), &topic, isolation)?;
        records.iter().map(|record| Ok(record.text()?.to_owned())).collect()
    };
    assert_eq!(text(Isolation::Committed)?, ["first", "second"]);
    assert_eq!(text(Isolation::Uncommitted)?, ["first", "aborted", "second"]);
    let ends = topic::ends(&scene.bootstrap(), &topic)?;
    assert_eq!(ends.first().context("no partition")?, &6, "three records and three markers");
    Ok(())
}
