//! Against librdkafka's own mock of a cluster, which has groups.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::*;
use crate::record::TopicIndex;

const WAIT: Duration = Duration::from_secs(30);
const AT: TopicPartition = TopicPartition { topic: TopicIndex::FIRST, partition: 0 };

/// A mock cluster with a topic `t` of one partition and one record, and what a member of a group there is told.
fn cluster() -> (BaseProducer, Properties) {
    let cluster: BaseProducer = rdkafka::ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
    cluster.client().mock_cluster().unwrap().create_topic("t", 1, 1).unwrap();
    let record: BaseRecord<str, str> = BaseRecord::to("t").partition(0).payload("v");
    cluster.send(record).unwrap();
    cluster.flush(WAIT).unwrap();
    let brokers = cluster.client().mock_cluster().unwrap().bootstrap_servers();
    let properties = [
        ("bootstrap.servers", brokers.as_str()),
        ("group.id", "g"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
    ];
    (cluster, Properties(properties.map(|(name, value)| (name.into(), value.into())).into()))
}

/// A member that reads the partition from its beginning.
fn reading(properties: &Properties) -> KafkaSource {
    let headers = HeaderLimits { count: 10, bytes: 1_000 };
    let limits = BatchLimits { records: 10, bytes: 1_000, headers };
    let mut source = KafkaSource::new(properties, Topics::new(["t"]), Start::Earliest, limits).unwrap();
    until(&mut source, |event| matches!(event, Event::Assigned(_)));
    source.assign(&[Position { partition: AT, offset: 0 }]).unwrap();
    source
}

fn until(source: &mut KafkaSource, is_it: impl Fn(&Event) -> bool) -> Event {
    let deadline = Instant::now() + WAIT;
    loop {
        let event = source.next(Duration::from_millis(20)).unwrap();
        if is_it(&event) {
            return event;
        }
        assert!(Instant::now() < deadline, "{event:?}");
    }
}

#[test]
fn the_end_of_a_partition_is_told_behind_its_last_record() {
    let (_cluster, properties) = cluster();
    let mut source = reading(&properties);
    let comes = |event: &Event| matches!(event, Event::Batch(_) | Event::End(_));
    assert!(matches!(until(&mut source, comes), Event::Batch(batch) if batch.len() == 1));
    let end = until(&mut source, comes);
    assert!(matches!(end, Event::End(Position { partition: AT, offset: 1 })), "{end:?}");
}

#[test]
fn a_coordinator_that_is_found_late_answers_and_one_that_is_never_found_ends_the_client() {
    let (cluster, properties) = cluster();
    let mut source = reading(&properties);
    let brokers = cluster.client().mock_cluster().unwrap();
    // librdkafka seeks the coordinator anew when its connection is down.
    brokers.broker_down(1).unwrap();
    until(&mut source, |event| matches!(event, Event::Trouble(_)));
    let asked = Instant::now() + Duration::from_secs(60);
    assert_eq!(source.group_offsets.deployments(&source.client, &source.topics.names, asked), []);
    source.group_offsets.check(asked).unwrap();
    source.group_offsets.check(asked + Duration::from_mins(54)).unwrap();
    let late = source.group_offsets.check(asked + Duration::from_mins(55)).unwrap_err();
    assert!(matches!(&late, Fault::Denied(why) if why.contains("group g")), "{late}");
    assert_eq!(
        source.group_offsets.deployments(&source.client, &source.topics.names, asked),
        [],
        "one question at a time"
    );
    brokers.broker_up(1).unwrap();
    let deadline = Instant::now() + WAIT;
    while source.group_offsets.check(asked + Duration::from_mins(55)).is_err() {
        source.next(Duration::from_millis(20)).unwrap();
        source.group_offsets.deployments(&source.client, &source.topics.names, asked);
        assert!(Instant::now() < deadline, "no answer");
    }
}

#[test]
fn a_client_is_let_go_while_its_coordinator_is_sought() {
    let (cluster, properties) = cluster();
    let mut source = reading(&properties);
    cluster.client().mock_cluster().unwrap().broker_down(1).unwrap();
    until(&mut source, |event| matches!(event, Event::Trouble(_)));
    let asked = Instant::now() + Duration::from_secs(60);
    source.group_offsets.deployments(&source.client, &source.topics.names, asked);
    source.group_offsets.check(asked + Duration::from_mins(55)).unwrap_err();
    drop(source);
}
