//! A producer for one worker: transactional for exactly-once, idempotent for at-least-once.

mod sending;

use std::collections::HashSet;
use std::ffi::CString;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::members::{self, Holders};
use super::offset_committer::Offsets;
pub use super::producer::{Holder, PartitionCounts, Placement, SinkSettings, SinkTopic};
use super::producer::{Producer, SLICE, Sent, both};
use super::raw::{CallError, Group, List, millis_until, outcome};
use super::source::vanished;
use crate::record::Origin;
use crate::record::output::Outputs;
use crate::stream::failpoint::failpoint;
use crate::stream::fault::Fault;
use crate::stream::sink::Sink;
use crate::stream::source::{Position, TopicPartition};

/// Fenced again within this time: the members of the group tell whether somebody else holds the id. Where nobody does, the
/// broker took it from a producer that stood still for longer than a transaction may.
const FENCED_TWICE: Duration = Duration::from_secs(300);
/// The broker ends a transaction for some milliseconds after it has answered. A partition that the next one adds
/// meanwhile is refused, and librdkafka asks again only 20 ms later: so outputs rest here that long, or until this many
/// batches do.
const REST: Duration = Duration::from_millis(4);
const RESTING: usize = 4;
/// An abort waits that long, then failed deliveries are taken and it goes on.
const ABORT: Duration = Duration::from_millis(100);

/// Why an exclusive sink ends.
const SENT_TWICE: &str = "the end of a transaction was sent twice, and the first may still arrive and end the next one: ask \
    again; what was committed is not done twice";
const TAKEN_OVER: &str = "its transactional id was taken over, as by the same command on another daemon, or the outcome of a \
    transaction is unknown; ask again: what was committed is not done twice";

pub struct KafkaSink {
    /// `None` only while a recovery that failed waits to be tried again.
    producer: Option<Producer>,
    settings: SinkSettings,
    /// Where each record of the open transaction came from; a delivery report names its index.
    sent: Vec<Sent>,
    /// A broker refuses a batch for one record in it: what was refused together is sent alone the next time.
    suspects: HashSet<Origin>,
    in_transaction: bool,
    /// When the last transaction was answered.
    ended: Instant,
    /// Outputs that rest, and buffers for the next ones.
    resting: Vec<Outputs>,
    spare: Vec<Outputs>,
    fenced: Option<Instant>,
    /// A producer was made before.
    connected: bool,
}

impl KafkaSink {
    /// Connects; a transaction that an earlier holder of the id left open is resolved when this returns. Where the id is the
    /// owner's, that waits until it owns partitions.
    ///
    /// # Errors
    /// `Configuration` when librdkafka or the broker refuses the settings or a topic is missing, `Unknown` when no
    /// broker answers in time.
    pub fn new(settings: SinkSettings) -> Result<Self, Fault> {
        let mut sink = Self::unconnected(settings);
        if sink.settings.holder != Holder::Owner {
            sink.recover()?;
        }
        Ok(sink)
    }

    fn unconnected(settings: SinkSettings) -> Self {
        Self {
            producer: None,
            settings,
            sent: Vec::new(),
            suspects: HashSet::new(),
            in_transaction: false,
            ended: Instant::now(),
            resting: Vec::new(),
            spare: Vec::new(),
            fenced: None,
            connected: false,
        }
    }

    /// The same call until it is done, failed or out of time.
    fn repeat(
        &mut self,
        what: &str,
        deadline: Instant,
        mut call: impl FnMut(&Producer) -> Result<(), CallError>,
    ) -> Result<(), Fault> {
        loop {
            let producer = self.producer()?;
            match call(producer) {
                Ok(()) => return Ok(()),
                Err(CallError::Fault(fault)) => {
                    // The reason for an abort may be a refused record, which says more than the abort itself.
                    return both(Err(fault), producer.serve(&self.sent));
                }
                Err(CallError::Fenced(message)) => return Err(self.note_fencing(message)),
                Err(CallError::Retry(message)) if Instant::now() >= deadline => {
                    return Err(Fault::Unknown(format!("{what} did not come to an end in time: {message}")));
                }
                Err(CallError::Retry(_)) => std::thread::sleep(SLICE),
            }
        }
    }

    /// A new producer where a request of the transaction that ended may still arrive.
    fn keep_retransmits_out(&mut self) -> Result<(), Fault> {
        if !self.is_transactional() || !self.producer()?.link.retransmits.may_arrive() {
            return Ok(());
        }
        if self.settings.holder == Holder::Work {
            // What is committed stays so, and nothing begins any more.
            self.give_up_producer();
            return Err(Fault::Configuration(SENT_TWICE.into()));
        }
        tracing::info!(
            "a transaction's end was sent twice: a new producer keeps the first out of the next transaction"
        );
        self.recover()
    }

    /// It must not act any more.
    fn give_up_producer(&mut self) {
        if let Some(old) = self.producer.take() {
            old.purge();
        }
    }

    /// As `commit`, for outputs that come of no group's records.
    ///
    /// # Errors
    /// As `commit`'s.
    pub fn commit_outputs(&mut self, deadline: Instant) -> Result<(), Fault> {
        self.flush(deadline)?;
        self.end(deadline)
    }

    /// Everything that was sent is acknowledged.
    fn flush(&mut self, deadline: Instant) -> Result<(), Fault> {
        self.send_resting(deadline)?;
        let flushed = self.producer()?.flush(&self.sent, deadline);
        self.certain(flushed)
    }

    fn end(&mut self, deadline: Instant) -> Result<(), Fault> {
        if self.is_transactional() {
            self.repeat("the commit", deadline, |producer| {
                // SAFETY: the client is alive.
                outcome(unsafe { rd::rd_kafka_commit_transaction(producer.client().ptr(), millis_until(deadline)) })
            })?;
            failpoint!(AFTER_END);
        }
        self.in_transaction = false;
        self.ended = Instant::now();
        self.suspects.clear();
        if let Err(fault) = self.keep_retransmits_out() {
            // What is committed stays so; without a producer the next transaction cannot begin, and that is recovered.
            tracing::warn!(%fault, "the next transaction cannot begin yet");
        }
        Ok(())
    }

    fn producer(&self) -> Result<&Producer, Fault> {
        self.producer.as_ref().ok_or_else(|| Fault::Unknown("the producer is not connected".into()))
    }

    fn note_fencing(&mut self, message: String) -> Fault {
        match self.settings.holder {
            Holder::Work => return Fault::Configuration(TAKEN_OVER.into()),
            Holder::Owner => return Fault::Unknown(format!("another member owns the partitions now: {message}")),
            Holder::Worker => {}
        }
        let id = self.settings.transactional_id.clone().unwrap_or_default();
        let before = self.fenced.replace(Instant::now());
        let taken = Fault::Unknown(format!("the transactional id {id} was taken over: {message}"));
        if before.is_none_or(|before| before.elapsed() >= FENCED_TWICE) {
            return taken;
        }
        const FIX: &str = "give each its own with --instance or its own state directory with --state";
        match members::holders(&self.settings.properties, &self.settings.group) {
            Ok(Holders::Daemon(who)) => Fault::Configuration(format!(
                "the transactional id {id} was taken over twice within five minutes: another daemon runs with the same \
                 instance id: {who}; {FIX}"
            )),
            Ok(Holders::Unclear(who)) => Fault::Denied(format!(
                "the transactional id {id} was taken over twice within five minutes: another daemon may run with the same \
                 instance id: {who}; if one does, {FIX}"
            )),
            Ok(Holders::Nobody) => taken,
            Err(fault) => {
                tracing::warn!(%fault, "who else may have taken the transactional id over cannot be read");
                taken
            }
        }
    }
}

impl Sink for KafkaSink {
    type Group = Group;

    fn is_transactional(&self) -> bool {
        self.settings.transactional_id.is_some()
    }

    fn check(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        let is_owners = self.settings.holder == Holder::Owner;
        if is_owners && partitions.is_empty() {
            return Ok(());
        }
        if self.producer.is_none() || is_owners {
            // It could not be made anew behind a commit, and nothing else would ask for it; or it is another owner's by now.
            self.recover()?;
        }
        let Some(producer) = &mut self.producer else {
            return Err(Fault::Unknown("the producer is not connected".into()));
        };
        let found = producer.count_partitions(&self.settings)?;
        for topic in producer.topics.iter() {
            if topic.target.placement != Placement::Input {
                continue;
            }
            for partition in partitions {
                let input = self.settings.inputs.name(partition.topic);
                let Some(inputs) = found.get(input).copied().flatten() else {
                    return Err(Fault::Unknown(vanished(input)));
                };
                if topic.partitions != inputs {
                    // As where it is found before the start: it passes once somebody has made them equal.
                    return Err(Fault::Denied(format!(
                        "topic {} has {} partitions and {input} has {inputs}: an output keeps its input's partition number; \
                         make them equal, or set [output] partition = \"key\"",
                        topic.target.name, topic.partitions
                    )));
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.sent.clear();
        self.producer()?.link.retransmits.reset();
        if self.is_transactional() {
            self.repeat("begin", Instant::now(), |producer| {
                // SAFETY: the client is alive; this is local, no request.
                outcome(unsafe { rd::rd_kafka_begin_transaction(producer.client().ptr()) })
            })?;
        }
        self.in_transaction = true;
        failpoint!(AFTER_BEGIN);
        Ok(())
    }

    fn rested(&self) -> Option<Instant> {
        self.is_transactional().then_some(self.ended + REST)
    }

    fn send(&mut self, outputs: &mut Outputs, deadline: Instant) -> Result<(), Fault> {
        if let Some(unfit) = self.unfit(outputs, &outputs.records)? {
            return Err(Fault::Refused(unfit));
        }
        self.resting.push(mem::replace(outputs, self.spare.pop().unwrap_or_default()));
        if self.resting.len() < RESTING && self.ended.elapsed() < REST {
            return Ok(());
        }
        self.send_resting(deadline)
    }

    fn commit(&mut self, positions: &[Position], metadata: &str, group: Group, deadline: Instant) -> Result<(), Fault> {
        self.flush(deadline)?;
        if self.is_transactional() {
            let mut list = List::default();
            for position in positions {
                let name = CString::new(self.settings.inputs.name(position.partition.topic)).unwrap_or_default();
                list.add(&name, position.partition.partition, position.offset, metadata);
            }
            let offsets = Arc::new(Offsets { list, group });
            self.repeat("sending the offsets", deadline, |producer| producer.send_offsets(&offsets, deadline))?;
            failpoint!(AFTER_OFFSETS);
        }
        self.end(deadline)
    }

    fn abort(&mut self, deadline: Instant) -> Result<(), Fault> {
        self.spare.append(&mut self.resting);
        if !mem::take(&mut self.in_transaction) {
            return Ok(());
        }
        if self.is_transactional() {
            self.repeat("the abort", deadline, |producer| {
                // It does not end before the failed deliveries are taken from the queue.
                while producer.queue.poll(Duration::ZERO).is_some() {}
                // SAFETY: the client is alive.
                outcome(unsafe {
                    rd::rd_kafka_abort_transaction(
                        producer.client().ptr(),
                        millis_until(deadline.min(Instant::now() + ABORT)),
                    )
                })
            })?;
        }
        // The purged and refused records of this transaction are reported now, and are nobody's fault any more.
        let producer = self.producer()?;
        let _ = producer.flush(&self.sent, deadline);
        while producer.queue.poll(Duration::ZERO).is_some() {}
        self.sent.clear();
        self.ended = Instant::now();
        self.keep_retransmits_out()
    }

    fn recover(&mut self) -> Result<(), Fault> {
        if self.settings.holder == Holder::Work && self.connected {
            // A new producer would fence whoever may have gone on meanwhile.
            let why = if self.producer.is_some() { TAKEN_OVER } else { SENT_TWICE };
            return Err(Fault::Configuration(why.into()));
        }
        self.in_transaction = false;
        self.spare.append(&mut self.resting);
        self.sent.clear();
        // The new producer resolves the old one's transaction.
        self.give_up_producer();
        self.producer = Some(Producer::new(&self.settings)?);
        self.connected = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::{BaseProducer, Producer as _};
    use rdkafka::types::RDKafkaApiKey;

    use super::super::raw::{Client, Kind};
    use super::*;
    use crate::record::output::Output;
    use crate::record::{Routes, Topics};

    /// Nobody else would ask for it: what is assigned cannot be started, and so nothing begins.
    #[test]
    fn a_check_without_a_producer_makes_one_anew() {
        let topic = SinkTopic { name: "out".into(), placement: Placement::Input };
        let settings = SinkSettings {
            properties: crate::config::plan::Properties([("no.such.property".into(), "1".into())].into()),
            transactional_id: None,
            holder: Holder::Worker,
            topics: Routes { output: topic.clone(), dead_letters: topic, named: Vec::new() },
            inputs: Topics::default(),
            group: "g".into(),
            counts: PartitionCounts::default(),
        };
        // The attempt is seen by what it is told.
        let fault = KafkaSink::unconnected(settings).check(&[]).unwrap_err();
        assert!(matches!(&fault, Fault::Configuration(message) if message.contains("no.such.property")), "{fault}");
    }

    /// librdkafka's own mock of a cluster with the topics `in` of two partitions, `out` and `dead` of one.
    fn cluster() -> (BaseProducer, SinkSettings) {
        let cluster: BaseProducer = rdkafka::ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
        for (topic, partitions) in [("in", 2), ("out", 1), ("dead", 1)] {
            cluster.client().mock_cluster().unwrap().create_topic(topic, partitions, 1).unwrap();
        }
        let brokers = cluster.client().mock_cluster().unwrap().bootstrap_servers();
        let topic = |name: &str, placement| SinkTopic { name: name.into(), placement };
        let properties = [("bootstrap.servers".into(), brokers)];
        let (output, dead_letters) = (topic("out", Placement::Input), topic("dead", Placement::Folded));
        let settings = SinkSettings {
            properties: crate::config::plan::Properties(properties.into()),
            transactional_id: Some("id".into()),
            holder: Holder::Work,
            topics: Routes { output, dead_letters, named: Vec::new() },
            inputs: Topics::new(["in"]),
            group: "g".into(),
            counts: PartitionCounts::default(),
        };
        (cluster, settings)
    }

    /// A transaction with one output.
    fn transaction(sink: &mut KafkaSink, member: &Client) -> Result<(), Fault> {
        let deadline = Instant::now() + Duration::from_secs(10);
        sink.begin()?;
        let mut outputs = Outputs::default();
        let value = Some(outputs.put(b"v"));
        let origin = Origin { topic: crate::record::TopicIndex::FIRST, partition: 0, offset: 0 };
        let (route, key, timestamp, headers) = (crate::record::Route::Output, None, None, None);
        outputs.records.push(Output { origin, route, key, value, timestamp, headers, last_resort: false });
        sink.send(&mut outputs, deadline)?;
        sink.commit(&[], "", Group::of(member).unwrap(), deadline)
    }

    #[test]
    fn an_exclusive_sink_begins_nothing_where_the_last_end_may_still_arrive() {
        let (cluster, settings) = cluster();
        let mut member = settings.properties.clone();
        member.0.insert("group.id".into(), "g".into());
        let member = Client::new(Kind::Consumer, &member, 0).unwrap();
        for holder in [Holder::Work, Holder::Worker] {
            let exclusive = holder == Holder::Work;
            let mut sink = KafkaSink::new(SinkSettings { holder, ..settings.clone() }).unwrap();
            assert_eq!(transaction(&mut sink, &member), Ok(()));
            assert_eq!(transaction(&mut sink, &member), Ok(()), "each end was sent once");
            let cut = [rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TRANSPORT];
            cluster.client().mock_cluster().unwrap().request_errors(RDKafkaApiKey::EndTxn, &cut);
            assert_eq!(transaction(&mut sink, &member), Ok(()), "it is committed, by the second request");
            let next = transaction(&mut sink, &member);
            assert_eq!(next.is_err(), exclusive, "{next:?}");
            if exclusive {
                let ends = sink.recover();
                assert!(matches!(&ends, Err(Fault::Configuration(why)) if why.contains("sent twice")), "{ends:?}");
            }
        }
    }

    #[test]
    fn an_output_of_fewer_partitions_than_its_input_is_waited_for() {
        let (_cluster, settings) = cluster();
        let mut sink = KafkaSink::new(settings).unwrap();
        let partition = TopicPartition { topic: crate::record::TopicIndex::FIRST, partition: 1 };
        let fault = sink.check(&[partition]).unwrap_err();
        assert!(matches!(&fault, Fault::Denied(why) if why.contains("out has 1 partitions and in has 2")), "{fault}");
    }
}
