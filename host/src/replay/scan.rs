//! A dead-letter topic read once, from its start to its end as it is now.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::letter::Found;
use crate::config::plan::Plan;
use crate::kafka::properties;
use crate::record::Headers;

/// Time for one question to the brokers, and how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows every committed record to `take` with its partition and offset, in the order of each partition.
///
/// # Errors
/// When no broker answers or the topic does not exist.
pub fn scan(plan: &Plan, mut take: impl FnMut((i32, i64), Found)) -> Result<()> {
    let topic = plan.errors.dead_letters.as_str();
    let mut config: ClientConfig = properties::client(plan).0.into_iter().collect();
    config
        .set("group.id", format!("sandpiper.dlq.{}", uuid::Uuid::new_v4()))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().context("librdkafka refuses the configuration")?;
    let brokers = plan.kafka.0.get("bootstrap.servers").map_or("", String::as_str);
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .with_context(|| format!("asking {brokers} for topic {topic}"))?;
    let found = metadata.topics().first().context("the brokers say nothing of it")?;
    if found.error().is_some() || found.partitions().is_empty() {
        bail!("topic {topic} does not exist; `sandpiper check FILE --connect` prints the command that creates it");
    }
    let mut open: BTreeSet<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let headers: Headers = message
                    .headers()
                    .map(|headers| {
                        headers.iter().map(|each| (each.key.to_owned(), each.value.map(<[u8]>::to_vec))).collect()
                    })
                    .unwrap_or_default();
                let at = (message.partition(), message.offset());
                take(at, Found::read(at, message.key(), message.payload(), &headers));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(_)) | None if heard.elapsed() < PATIENCE => continue,
            Some(Err(error)) => return Err(anyhow!("{error}").context(format!("reading {topic}"))),
            None => bail!("nothing more comes from {topic} at {brokers}"),
        }
        heard = Instant::now();
    }
    Ok(())
}
