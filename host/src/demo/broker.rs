//! The demonstration's broker: librdkafka's mock within this process, or a user's own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings as rd;
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};

/// Partitions of every topic.
pub const PARTITIONS: i32 = 3;
/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// On a user's own broker, what the demonstration leaves there expires after a day.
const RETENTION_MS: &str = "86400000";

/// A broker and the producer that feeds it. A mock lives as long as its producer.
pub struct Broker {
    /// `HOST:PORT`.
    pub address: String,
    pub is_mock: bool,
    pub producer: BaseProducer<Deliveries>,
}

/// Delivery reports of the producer. Only the first failure is kept.
#[derive(Default)]
pub struct Deliveries {
    failed: Mutex<Option<String>>,
}

impl Deliveries {
    /// The first failure.
    pub fn failed(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }
    }
}

impl Broker {
    /// librdkafka's mock cluster: one broker on a free port of this host.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn mock() -> Result<Self> {
        let producer = producer("test.mock.num.brokers", "1")?;
        let address = producer.client().mock_cluster().context("librdkafka has no mock cluster")?.bootstrap_servers();
        // A group of one member need not wait 3 s for others.
        // SAFETY: the cluster is alive as long as its client.
        unsafe {
            let cluster = rd::rd_kafka_handle_mock_cluster(producer.client().native_ptr());
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100);
        }
        Ok(Self { address, is_mock: true, producer })
    }

    /// # Errors
    /// When no Kafka answers at that address.
    pub fn at(address: &str) -> Result<Self> {
        let producer = producer("bootstrap.servers", address)?;
        if producer.client().fetch_metadata(None, REQUEST_TIMEOUT).is_err() {
            bail!("no Kafka answers at {address} within {} s", REQUEST_TIMEOUT.as_secs());
        }
        Ok(Self { address: address.to_owned(), is_mock: false, producer })
    }

    /// # Errors
    /// When the broker refuses, or a topic is there already.
    pub fn create_topics<'t>(&self, topics: &[&'t str]) -> Result<()> {
        if let Some(cluster) = self.producer.client().mock_cluster() {
            for topic in topics {
                cluster.create_topic(topic, PARTITIONS, 1).with_context(|| format!("creating topic {topic}"))?;
            }
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.address).create()?;
        // -1 is the broker's own default replication factor: one on a single broker, on a cluster what its owner chose.
        let new = |topic: &&'t str| {
            NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1)).set("retention.ms", RETENTION_MS)
        };
        let new: Vec<NewTopic<'t>> = topics.iter().map(new).collect();
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for answer in runtime.block_on(admin.create_topics(&new, &options)).context("creating the topics")? {
            if let Err((topic, code)) = answer {
                bail!("topic {topic} cannot be created: {code}");
            }
        }
        Ok(())
    }
}

fn producer(property: &str, value: &str) -> Result<BaseProducer<Deliveries>> {
    let mut config = ClientConfig::new();
    // Idempotent, so that nothing is sent twice; murmur2, so that a label has its flower's partition number.
    config.set(property, value).set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    Ok(config.create_with_context(Deliveries::default())?)
}
