//! Against librdkafka's own mock of a cluster, which has no transactions: tests/e2e/reader.rs has those.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::*;

const WAIT: Duration = Duration::from_secs(10);

/// A mock cluster with a topic `t` of two partitions.
struct Cluster {
    producer: BaseProducer,
    properties: Properties,
}

impl Cluster {
    fn start() -> Self {
        let producer: BaseProducer = rdkafka::ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
        producer.client().mock_cluster().unwrap().create_topic("t", 2, 1).unwrap();
        let brokers = producer.client().mock_cluster().unwrap().bootstrap_servers();
        let properties = [("bootstrap.servers", brokers.as_str()), ("group.id", "g")];
        let properties = Properties(properties.map(|(name, value)| (name.into(), value.into())).into());
        Self { producer, properties }
    }

    fn write(&self, partition: i32, value: &str) {
        self.write_all([(partition, value)]);
    }

    fn write_all<'a>(&self, records: impl IntoIterator<Item = (i32, &'a str)>) {
        for (partition, value) in records {
            let record: BaseRecord<str, str> = BaseRecord::to("t").partition(partition).payload(value);
            self.producer.send(record).unwrap();
        }
        self.producer.flush(WAIT).unwrap();
    }

    fn open(&self, topic: &str, partitions: Partitions, from: ReadFrom) -> Result<Reader, Fault> {
        Reader::open(&self.properties, topic, &partitions, &from, WAIT)
    }
}

/// The places of the records up to the end.
fn to_end(reader: &mut Reader) -> Vec<(i32, i64)> {
    let mut places = Vec::new();
    loop {
        match reader.next(WAIT).unwrap() {
            Next::Record(record) => places.push((record.partition, record.offset)),
            Next::End => break,
            other => panic!("{other:?} behind {places:?}"),
        }
    }
    places.sort_unstable();
    places
}

#[test]
fn a_topic_is_read_to_its_end_and_then_followed() {
    let cluster = Cluster::start();
    cluster.write(0, "a");
    cluster.write(0, "b");
    let mut reader = cluster.open("t", Partitions::All, ReadFrom::Beginning).unwrap();
    assert_eq!(reader.progress(), Progress { read: 0, whole: 2 });
    assert_eq!(to_end(&mut reader), [(0, 0), (0, 1)]);
    assert_eq!(reader.progress(), Progress { read: 2, whole: 2 });
    assert_eq!(reader.next(Duration::from_millis(50)).unwrap(), Next::Idle, "the end is told once");
    cluster.write(1, "c");
    let Next::Record(record) = reader.next(WAIT).unwrap() else { panic!("no record") };
    assert_eq!((record.partition, record.offset, record.value.as_deref()), (1, 0, Some(&b"c"[..])));
}

#[test]
fn an_empty_topic_ends_at_once() {
    let mut reader = Cluster::start().open("t", Partitions::All, ReadFrom::Beginning).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap(), Next::End);
}

#[test]
fn reading_starts_at_an_offset_or_at_what_is_written_from_now_on() {
    let cluster = Cluster::start();
    for (partition, value) in [(0, "a"), (0, "b"), (0, "c"), (1, "d")] {
        cluster.write(partition, value);
    }
    let mut reader = cluster.open("t", Partitions::All, ReadFrom::Offsets([(0, 2)].into())).unwrap();
    assert_eq!(to_end(&mut reader), [(0, 2), (1, 0)]);
    let mut reader = cluster.open("t", Partitions::All, ReadFrom::Last(2)).unwrap();
    assert_eq!((reader.partitions(), to_end(&mut reader)), (2, vec![(0, 1), (0, 2), (1, 0)]));
    let mut reader = cluster.open("t", Partitions::Of([1].into()), ReadFrom::Beginning).unwrap();
    assert_eq!(to_end(&mut reader), [(1, 0)]);
    let mut reader = cluster.open("t", Partitions::All, ReadFrom::Now).unwrap();
    assert_eq!(reader.next(Duration::ZERO).unwrap(), Next::End);
    cluster.write(0, "e");
    assert!(matches!(reader.next(WAIT).unwrap(), Next::Record(record) if record.offset == 3));
}

#[test]
fn what_waiting_does_not_mend_is_named_at_once() {
    let cluster = Cluster::start();
    cluster.write(0, "a");
    let refusal = |topic, partitions, from| match cluster.open(topic, partitions, from) {
        Err(Fault::Configuration(message)) => message,
        Err(fault) => panic!("{fault:?}"),
        Ok(_) => panic!("opened"),
    };
    let began = Instant::now();
    let absent = refusal("absent", Partitions::All, ReadFrom::Beginning);
    assert!(absent.contains("topic absent does not exist; `sandpiper check FILE --connect`"), "{absent}");
    let partition = refusal("t", Partitions::Of([2].into()), ReadFrom::Beginning);
    assert!(partition.contains("topic t has no partition 2: it has 2 partitions"), "{partition}");
    let behind = refusal("t", Partitions::All, ReadFrom::Offsets([(0, 7)].into()));
    assert!(behind.contains("offset 7 of topic t [0] lies behind its end, which is 1"), "{behind}");
    assert!(began.elapsed() < WAIT, "{:?}", began.elapsed());
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_then_named() {
    let properties = [("bootstrap.servers", "127.0.0.1:1"), ("group.id", "g")];
    let properties = Properties(properties.map(|(name, value)| (name.into(), value.into())).into());
    let patience = Duration::from_millis(200);
    let opened = Reader::open(&properties, "t", &Partitions::All, &ReadFrom::Beginning, patience);
    let Err(Fault::Unknown(message)) = opened else { panic!("no fault of the right kind") };
    assert!(message.starts_with("asking 127.0.0.1:1 for topic t: the brokers do not answer"), "{message}");
}

/// What a range of `t` comes to, or why it is refused.
fn range(cluster: &Cluster, from: &Bound, to: &Bound) -> Result<Vec<(i32, i64)>, String> {
    match Reader::open_range(&cluster.properties, "t", from, to, WAIT) {
        Ok(mut reader) => Ok(to_end(&mut reader)),
        Err(Fault::Configuration(message)) => Err(message),
        Err(fault) => panic!("{fault:?}"),
    }
}

#[test]
fn a_range_of_offsets_is_read_and_nothing_before_or_behind_it() {
    let cluster = Cluster::start();
    cluster.write_all((0..100).map(|at| (at % 2, "a")));
    let offsets = |offsets: &[(i32, i64)]| Bound::Offsets(offsets.iter().copied().collect());
    let read = |from: &[(i32, i64)], to: &Bound| range(&cluster, &offsets(from), to).unwrap();
    assert_eq!(read(&[(0, 47)], &offsets(&[(0, 49)])), [(0, 47), (0, 48)]);
    assert_eq!(read(&[(0, 48), (1, 49)], &Bound::Outermost), [(0, 48), (0, 49), (1, 49)]);
    // The records behind the end are there already, and more of them come meanwhile.
    let mut reader =
        Reader::open_range(&cluster.properties, "t", &offsets(&[(0, 0), (1, 40)]), &offsets(&[(0, 3)]), WAIT).unwrap();
    cluster.write(0, "late");
    let places = to_end(&mut reader);
    assert_eq!((places.len(), places[..3].to_vec()), (13, vec![(0, 0), (0, 1), (0, 2)]));
    assert_eq!(reader.next(Duration::from_millis(200)).unwrap(), Next::Idle, "nothing behind the end comes out");
}

#[test]
fn a_range_that_is_not_there_is_refused_with_what_is() {
    let cluster = Cluster::start();
    cluster.write_all((0..5).map(|_| (0, "a")));
    let offsets = |partition, offset| Bound::Offsets([(partition, offset)].into());
    let refused = |from: &Bound, to: &Bound| range(&cluster, from, to).unwrap_err();
    let behind = refused(&offsets(0, 7), &Bound::Outermost);
    assert!(behind.contains("offset 7 of topic t [0] lies behind its end, which is 5"), "{behind}");
    let late = refused(&offsets(0, 1), &offsets(0, 9));
    assert!(late.contains("ends at offset 9 of partition 0, and partition 0 holds offsets 0 to 5"), "{late}");
    let backwards = refused(&offsets(0, 3), &offsets(0, 2));
    assert!(backwards.contains("ends at offset 2 of partition 0, before it begins at 3"), "{backwards}");
    let elsewhere = refused(&offsets(0, 3), &offsets(1, 2));
    assert!(elsewhere.contains("ends in partition 1, and does not begin there"), "{elsewhere}");
    let empty = refused(&offsets(0, 5), &Bound::Outermost);
    assert!(empty.contains("topic t holds no record of the range: partition 0 holds offsets 0 to 5"), "{empty}");
    assert!(refused(&offsets(4, 0), &Bound::Outermost).contains("no partition 4"));
}
