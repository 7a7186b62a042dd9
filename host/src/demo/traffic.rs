//! The world outside: flowers that are measured, one in a while badly, and a botanist who names them later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::broker::Deliveries;
use super::flowers::{CLASSES, Flower, Random};

/// One record of so many is malformed.
const ONE_IN: u64 = 500;
/// A label comes so long after its flower.
const LABEL_AFTER_MS: (usize, usize) = (300, 900);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Time for the last acknowledgements.
const FLUSH: Duration = Duration::from_secs(10);
const SEED: u64 = 3;

pub struct Traffic<'a> {
    pub producer: &'a BaseProducer<Deliveries>,
    pub measurements: &'a str,
    pub labels: &'a str,
    pub flowers: &'a [Flower],
    pub records: u64,
    /// Records a second.
    pub rate: u64,
    /// Set from outside: nothing more is sent.
    pub stop: &'a AtomicBool,
    /// Set from outside: the better model is there. The last quarter of the flowers waits for it.
    pub swapped: &'a AtomicBool,
}

impl Traffic<'_> {
    /// Sends every flower at its time, and later its label.
    ///
    /// # Errors
    /// When the broker does not take them.
    pub fn run(&self) -> Result<()> {
        let mut random = Random::new(SEED);
        let mut labels = BinaryHeap::new();
        let started = Instant::now();
        let mut sent = 0;
        while !self.stop.load(Ordering::Relaxed) && (sent < self.records || !labels.is_empty()) {
            let now = Instant::now();
            let due = ((now - started).as_secs_f64() * self.rate as f64) as u64;
            let held = if self.swapped.load(Ordering::Relaxed) { self.records } else { self.records - self.records / 4 };
            while sent < due.min(held) {
                if let Some(class) = self.measure(sent, &mut random)? {
                    let (least, most) = LABEL_AFTER_MS;
                    let delay = Duration::from_millis((least + random.below(most - least)) as u64);
                    labels.push(Reverse((now + delay, sent, class)));
                }
                sent += 1;
            }
            while let Some(Reverse((_, flower, class))) = labels.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
                labels.pop();
                self.label(flower, class)?;
            }
            self.producer.poll(TICK);
            self.check()?;
        }
        self.producer.flush(FLUSH).context("the broker does not acknowledge the flowers")?;
        self.check()
    }

    /// Sends one flower. Answers its class, unless what was sent is malformed.
    fn measure(&self, number: u64, random: &mut Random) -> Result<Option<usize>> {
        let flower = self.flowers.get(random.below(self.flowers.len())).context("there are no flowers")?;
        let key = key(number);
        let every = self.every();
        let malformed = if number % every == every / 2 { malformed(flower, number / every) } else { Malformed::No };
        let bytes = match &malformed {
            Malformed::No => Some(flower.line.as_bytes()),
            Malformed::Line(bytes) => Some(bytes.as_slice()),
            Malformed::Null => None,
        };
        self.send(|| {
            let record = BaseRecord::to(self.measurements).key(&key);
            match bytes {
                Some(bytes) => record.payload(bytes),
                None => record,
            }
        })?;
        Ok(matches!(malformed, Malformed::No).then_some(flower.class))
    }

    fn label(&self, number: u64, class: usize) -> Result<()> {
        let key = key(number);
        let class = CLASSES.get(class).copied().unwrap_or_default();
        self.send(|| {
            let headers = OwnedHeaders::new().insert(Header { key: "source", value: Some("botanist") });
            BaseRecord::to(self.labels).key(&key).payload(class.as_bytes()).headers(headers)
        })
    }

    /// Waits while the producer's queue is full.
    fn send<'r>(&self, record: impl Fn() -> BaseRecord<'r, String, [u8]>) -> Result<()> {
        loop {
            match self.producer.send(record()) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if !self.stop.load(Ordering::Relaxed) => {
                    self.producer.poll(TICK);
                    self.check()?;
                }
                Err((error, _)) => return Err(error).context("the broker does not take the flowers"),
            }
        }
    }

    fn check(&self) -> Result<()> {
        match self.producer.context().failed() {
            None => Ok(()),
            Some(error) => bail!("the broker does not take the flowers: {error}"),
        }
    }

    /// Every so many is malformed: few, but each kind at least once.
    fn every(&self) -> u64 {
        ONE_IN.min(self.records / KINDS).max(1)
    }

    /// How many of all records are malformed.
    pub fn malformed(&self) -> u64 {
        (self.records + self.every() - 1 - self.every() / 2) / self.every()
    }
}

/// A flower's id: the key of its measurements and of its label.
fn key(number: u64) -> String {
    format!("flower-{number:06}")
}

/// Kinds of malformed records.
const KINDS: u64 = 4;

enum Malformed {
    No,
    Line(Vec<u8>),
    Null,
}

fn malformed(flower: &Flower, kind: u64) -> Malformed {
    let cells: Vec<&[u8]> = flower.line.split(',').map(str::as_bytes).collect();
    let (front, _) = cells.split_at(cells.len().saturating_sub(1));
    let with = |last: &'static [u8]| Malformed::Line([front.join(&b','), last.to_vec()].join(&b','));
    match kind % KINDS {
        0 => Malformed::Line(front.join(&b',')),
        1 => with(b"narrow"),
        2 => with(b"0.\xff"),
        _ => Malformed::Null,
    }
}
