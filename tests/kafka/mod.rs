//! Apache Kafka for tests: real brokers in KRaft mode on free ports, in a directory of the caller's.
//!
//! A broker ends with the process that started it, however that ends. Nothing here is deleted: the
//! directory is the caller's, so that the logs of a failed test can be kept.

mod broker;
pub mod jars;
pub mod keeper;
mod port;

pub use broker::{Broker, Life, Listener, tail};
pub use port::Port;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a cluster may take to answer.
const START: Duration = Duration::from_secs(120);

/// Name, partitions, configuration.
pub type Topic<'a> = (&'a str, i32, &'a [(&'a str, &'a str)]);

pub struct Kafka {
    brokers: Mutex<Vec<Broker>>,
    addresses: Vec<String>,
    data: Vec<PathBuf>,
}

impl Kafka {
    /// One broker that answers.
    pub fn start(directory: &Path, life: Life) -> Result<Kafka> {
        let kafka = Kafka::prepare(directory, 1, life)?;
        kafka.launch()?;
        Ok(kafka)
    }

    /// One broker with two listeners: its own, and one that advertises the proxy's address to its clients. Returns the
    /// second listener's own address, which the proxy is to forward to.
    pub fn start_behind(directory: &Path, life: Life, proxy: &str) -> Result<(Kafka, String)> {
        let port = Port::reserve()?;
        let hidden = port.address();
        let (name, advertised) = ("PROXIED", proxy.to_owned());
        let listener = Listener { name, protocol: "PLAINTEXT", port, advertised, properties: Vec::new() };
        Ok((Kafka::start_with(directory, life, vec![listener])?, hidden))
    }

    /// One broker with further listeners.
    pub fn start_with(directory: &Path, life: Life, listeners: Vec<Listener>) -> Result<Kafka> {
        let mut broker = Broker::reserve(1, directory.join("broker-1"), life)?;
        broker.more = listeners;
        let kafka = Kafka::format(vec![broker])?;
        kafka.launch()?;
        Ok(kafka)
    }

    /// Addresses and directories of brokers that do not run yet.
    pub fn prepare(directory: &Path, brokers: usize, life: Life) -> Result<Kafka> {
        let brokers = (1..=brokers).map(|node| Broker::reserve(node, directory.join(format!("broker-{node}")), life));
        Kafka::format(brokers.collect::<Result<_>>()?)
    }

    fn format(brokers: Vec<Broker>) -> Result<Kafka> {
        let voters: Vec<String> =
            brokers.iter().map(|broker| format!("{}@{}", broker.node, broker.controller.address())).collect();
        for broker in &brokers {
            broker.format(&voters.join(","), brokers.len())?;
        }
        Ok(Kafka {
            addresses: brokers.iter().map(|broker| broker.listener.address()).collect(),
            data: brokers.iter().map(Broker::data).collect(),
            brokers: Mutex::new(brokers),
        })
    }

    /// Starts every broker that does not run, on its old address and directory, and waits until all answer.
    pub fn launch(&self) -> Result<()> {
        self.brokers().iter_mut().try_for_each(Broker::launch)?;
        let admin = self.admin()?;
        let deadline = Instant::now() + START;
        loop {
            self.brokers().iter_mut().try_for_each(Broker::check_alive)?;
            match admin.inner().fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if metadata.brokers().len() == self.addresses.len() => return Ok(()),
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                last => {
                    let error = last.err().map_or("not all brokers are there".to_owned(), |error| error.to_string());
                    let logs: String = self.brokers().iter().map(Broker::log_tail).collect();
                    bail!("Kafka does not answer within {START:?}: {error}\n{logs}");
                }
            }
        }
    }

    /// `host:port,…` of every broker, also of those that do not run.
    pub fn bootstrap(&self) -> String {
        self.addresses.join(",")
    }

    /// The folders in which the partitions' folders stand, one a broker.
    pub fn data(&self) -> &[PathBuf] {
        &self.data
    }

    pub fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        let admin = self.admin()?;
        let replication = i32::try_from(self.addresses.len().min(3))?;
        let new: Vec<NewTopic> = topics
            .iter()
            .map(|(name, partitions, config)| NewTopic {
                name,
                num_partitions: *partitions,
                replication: TopicReplication::Fixed(replication),
                config: config.to_vec(),
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for result in runtime.block_on(admin.create_topics(&new, &options))? {
            result.map_err(|(topic, error)| anyhow!("topic {topic} cannot be created: {error}"))?;
        }
        Ok(())
    }

    /// Which broker leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> Result<usize> {
        let metadata = self.admin()?.inner().fetch_metadata(Some(topic), START)?;
        let found = metadata.topics().first().and_then(|topic| topic.partitions().get(partition));
        let node = found.map(|partition| partition.leader()).context("no such partition")?;
        let at = self.brokers().iter().position(|broker| i32::try_from(broker.node) == Ok(node));
        at.with_context(|| format!("{topic}/{partition} has no leader"))
    }

    /// Which broker coordinates a group: the leader of the partition that Java's hash of its name chooses.
    pub fn coordinator(&self, group: &str) -> Result<usize> {
        let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
        self.leader("__consumer_offsets", (hash & i32::MAX) as usize % broker::OFFSETS_PARTITIONS)
    }

    /// The fewest replicas that are in sync, over all partitions of all topics.
    pub fn in_sync(&self) -> Result<usize> {
        let metadata = self.admin()?.inner().fetch_metadata(None, START)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.map(|partition| partition.isr().len()).min().unwrap_or(0))
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for result in runtime.block_on(self.admin()?.delete_topics(&[name], &AdminOptions::new()))? {
            result.map_err(|(topic, error)| anyhow!("topic {topic} cannot be deleted: {error}"))?;
        }
        Ok(())
    }

    /// Adds partitions until there are that many.
    pub fn grow_topic(&self, name: &str, partitions: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let grown = [NewPartitions::new(name, partitions)];
        for result in runtime.block_on(self.admin()?.create_partitions(&grown, &AdminOptions::new()))? {
            result.map_err(|(topic, error)| anyhow!("topic {topic} cannot grow: {error}"))?;
        }
        Ok(())
    }

    /// Changes one setting of a topic, of those that keep their defaults.
    pub fn configure_topic(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let change = [AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value)];
        for result in runtime.block_on(self.admin()?.alter_configs(&change, &AdminOptions::new()))? {
            result.map_err(|(_, error)| anyhow!("topic {name} does not take {key} = {value}: {error}"))?;
        }
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("reconnect.backoff.max.ms", "200");
        config.create().context("no admin client")
    }

    /// Stops every broker, with a clean shutdown.
    pub fn stop(&self) -> Result<()> {
        self.brokers().iter_mut().try_for_each(Broker::stop)
    }

    /// Kills every broker, as a power cut would.
    pub fn kill(&self) -> Result<()> {
        self.brokers().iter_mut().try_for_each(Broker::kill)
    }

    /// Kills one broker, as a power cut would; `launch` starts it again.
    pub fn kill_one(&self, at: usize) -> Result<()> {
        self.brokers().get_mut(at).map_or(Ok(()), Broker::kill)
    }

    /// Stops one broker, with a clean shutdown.
    pub fn stop_one(&self, at: usize) -> Result<()> {
        self.brokers().get_mut(at).map_or(Ok(()), Broker::stop)
    }

    /// Sends a signal to one broker.
    pub fn signal_one(&self, at: usize, signal: i32) -> Result<()> {
        self.brokers().get_mut(at).map_or(Ok(()), |broker| broker.signal(signal))
    }

    fn brokers(&self) -> MutexGuard<'_, Vec<Broker>> {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // Nobody reads the data any more, so no clean shutdown is needed.
        let _ = self.kill();
    }
}
