//! What a program would be without Sandpiper's Kafka layer: rdkafka's safe calls, a record at a time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sandpiper::config::plan::{Plan, Properties};
use sandpiper::kafka::properties::{self, Assignor};

use crate::drain::{Drained, TRANSACTION};
use crate::measure::process_cpu;
use crate::rig::Commit;

const CALL: Duration = Duration::from_secs(30);

/// Reads that many records and writes them on, in transactions of the same size, by clients of the same properties.
pub fn drain(plan: &Plan, records: usize) -> Result<Drained> {
    let mut consumer = config(&properties::consumer(plan, &plan.input.group, Assignor::CooperativeSticky));
    let consumer: BaseConsumer = consumer.set("auto.offset.reset", "earliest").create()?;
    let producer: BaseProducer = config(&properties::producer(plan)).set("transactional.id", &plan.name).create()?;
    producer.init_transactions(CALL)?;
    let topics: Vec<&str> = plan.input.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics)?;
    let mut commits: Vec<Commit> = Vec::new();
    let mut done = 0;
    while done < records {
        let mut next: HashMap<i32, i64> = HashMap::new();
        producer.begin_transaction()?;
        for _ in 0..TRANSACTION {
            let message = next_of(&consumer)?;
            next.insert(message.partition(), message.offset() + 1);
            let mut record = BaseRecord::<[u8], [u8]>::to(&plan.output.topic).partition(message.partition());
            (record.key, record.payload) = (message.key(), message.payload());
            while let Err((error, back)) = producer.send(record) {
                ensure!(
                    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull),
                    "a record cannot be written: {error}"
                );
                producer.poll(Duration::from_millis(5));
                record = back;
            }
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            offsets.add_partition_offset(topics[0], partition, Offset::Offset(offset))?;
        }
        let Some(group) = consumer.group_metadata() else { bail!("the consumer is in no group") };
        producer.send_offsets_to_transaction(&offsets, &group, CALL)?;
        producer.commit_transaction(CALL)?;
        done += TRANSACTION;
        commits.push(Commit { at: Instant::now(), cpu: process_cpu(), records: done, revision: 0, next: None });
    }
    Drained::of(&commits)
}

fn next_of(consumer: &BaseConsumer) -> Result<BorrowedMessage<'_>> {
    let started = Instant::now();
    loop {
        // It answers nothing when it met an event, too.
        if let Some(message) = consumer.poll(CALL) {
            return Ok(message?);
        }
        ensure!(started.elapsed() < CALL, "no record comes");
    }
}

fn config(properties: &Properties) -> ClientConfig {
    properties.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
