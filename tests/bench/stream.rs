//! Records at a steady rate, and readers that note when each arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::rig::{PARTITIONS, Rig};

const PATIENCE: Duration = Duration::from_secs(30);

/// When each record was handed to its producer; a record's key is its number.
#[derive(Clone)]
pub struct Sent {
    zero: Instant,
    /// Microseconds since `zero`, plus one; zero is not sent yet.
    times: Arc<[AtomicU64]>,
}

impl Sent {
    /// How long ago a record was sent, in milliseconds, by its key.
    pub fn age(&self, key: &[u8]) -> Option<(usize, f64)> {
        let number: usize = std::str::from_utf8(key).ok()?.parse().ok()?;
        let sent = self.times.get(number)?.load(Ordering::Relaxed).checked_sub(1)?;
        Some((number, (self.zero.elapsed().as_micros() as f64 - sent as f64) / 1e3))
    }
}

/// A producer on a thread of its own.
pub struct Stream {
    pub sent: Sent,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

impl Stream {
    /// Sends that value `records` times, `rate` a second.
    pub fn start(rig: &Rig, topic: &str, rate: usize, records: usize, value: &'static str) -> Result<Stream> {
        let producer: BaseProducer = rig.client().set("linger.ms", "1").set("enable.idempotence", "true").create()?;
        let sent = Sent { zero: Instant::now(), times: (0..records).map(|_| AtomicU64::new(0)).collect() };
        let stop = Arc::<AtomicBool>::default();
        let (topic, noted, stopped) = (topic.to_owned(), sent.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("stream".into()).spawn(move || {
            let (zero, mut sent) = (noted.zero, 0);
            for (number, time) in noted.times.iter().enumerate() {
                let due = zero + Duration::from_secs_f64(number as f64 / rate as f64);
                while Instant::now() < due {
                    producer.poll(Duration::ZERO);
                    std::thread::sleep(Duration::from_micros(500));
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                time.store(zero.elapsed().as_micros() as u64 + 1, Ordering::Relaxed);
                let key = number.to_string();
                if number % 100 == 0 {
                    // Also when it is behind: deliveries that nobody takes fill the queue.
                    producer.poll(Duration::ZERO);
                }
                let record = BaseRecord::to(&topic).partition(number as i32 % PARTITIONS).key(&key).payload(value);
                producer.send(record).map_err(|(error, _)| anyhow!("the stream cannot be written: {error}"))?;
                sent += 1;
            }
            producer.flush(PATIENCE)?;
            Ok(sent)
        })?;
        Ok(Stream { sent, stop, thread })
    }

    /// Ends it; how many records it has sent.
    pub fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits until all is sent, and says how many records that were.
    pub fn finish(self) -> Result<usize> {
        self.thread.join().map_err(|_| anyhow!("the stream panicked"))?
    }
}

/// Reads a topic from its start, committed records only, until `take` says that it is enough; it is asked without a
/// record when none comes.
pub fn read(
    client: &mut ClientConfig,
    topic: &str,
    mut take: impl FnMut(Option<&BorrowedMessage>) -> bool,
) -> Result<()> {
    let consumer: BaseConsumer = client
        .set("group.id", "readers")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut last = Instant::now();
    loop {
        let message = consumer.poll(Duration::from_millis(100)).transpose()?;
        if take(message.as_ref()) {
            return Ok(());
        }
        if message.is_some() {
            last = Instant::now();
        }
        ensure!(last.elapsed() < PATIENCE, "nothing more comes from {topic}");
    }
}

/// The revision in a prediction's stamp.
pub fn revision(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let rest = text.split_once("\"revision\":")?.1;
    rest.split(|each: char| !each.is_ascii_digit()).next()?.parse().ok()
}
