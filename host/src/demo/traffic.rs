//! The demonstration's load: measurements of flowers, a few of them malformed, and later a label for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::broker::Deliveries;
use super::flowers::{CLASSES, Flower, Random};
use super::malformed::Malformed;

/// How long after its flower a label is sent: at least, and less than.
const LABEL_DELAY_MS: (usize, usize) = (300, 900);
/// How often it is checked what is due.
const TICK: Duration = Duration::from_millis(10);
/// Time for the last acknowledgements.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
const SEED: u64 = 3;

pub struct Traffic<'a> {
    pub producer: &'a BaseProducer<Deliveries>,
    pub measurements: &'a str,
    pub labels: &'a str,
    pub flowers: &'a [Flower],
    pub records: u64,
    /// Records a second.
    pub rate: u64,
    /// Set by the scene: nothing more is sent.
    pub stop: &'a AtomicBool,
    /// Set by the scene once the better model runs. The last quarter of the flowers waits for it.
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
            let allowed =
                if self.swapped.load(Ordering::Relaxed) { self.records } else { self.records - self.records / 4 };
            while sent < due.min(allowed) {
                if let Some(class) = self.send_flower(sent, &mut random)? {
                    let (least, most) = LABEL_DELAY_MS;
                    let delay = Duration::from_millis((least + random.below(most - least)) as u64);
                    labels.push(Reverse((now + delay, sent, class)));
                }
                sent += 1;
            }
            while let Some(Reverse((_, flower, class))) = labels.peek().copied().filter(|Reverse((at, ..))| *at <= now)
            {
                labels.pop();
                self.send_label(flower, class)?;
            }
            self.producer.poll(TICK);
            self.check()?;
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.producer
            .flush(FLUSH_TIMEOUT)
            .map_err(|error| anyhow!("the broker does not acknowledge the flowers: {error}"))?;
        self.check()
    }

    /// Sends one flower. Returns its class, or `None` when what was sent is malformed.
    fn send_flower(&self, number: u64, random: &mut Random) -> Result<Option<usize>> {
        let flower = self.flowers.get(random.below(self.flowers.len())).context("there are no flowers")?;
        let key = key(number);
        let malformed = Malformed::of(number, self.records, flower);
        let bytes = match &malformed {
            None => Some(flower.line.as_bytes()),
            Some(Malformed::Line(bytes)) => Some(bytes.as_slice()),
            Some(Malformed::Null) => None,
        };
        self.send(|| {
            let record = BaseRecord::to(self.measurements).key(&key);
            match bytes {
                Some(bytes) => record.payload(bytes),
                None => record,
            }
        })?;
        Ok(malformed.is_none().then_some(flower.class))
    }

    fn send_label(&self, number: u64, class: usize) -> Result<()> {
        let key = key(number);
        let class = CLASSES.get(class).copied().unwrap_or_default();
        self.send(|| {
            let headers = OwnedHeaders::new().insert(Header { key: "source", value: Some("botanist") });
            BaseRecord::to(self.labels).key(&key).payload(class.as_bytes()).headers(headers)
        })
    }

    /// Queues a record, waiting while the producer's queue is full.
    fn send<'r>(&self, record: impl Fn() -> BaseRecord<'r, String, [u8]>) -> Result<()> {
        loop {
            match self.producer.send(record()) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if !self.stop.load(Ordering::Relaxed) =>
                {
                    self.producer.poll(TICK);
                    self.check()?;
                }
                Err((error, _)) => bail!("the broker does not take the flowers: {error}"),
            }
        }
    }

    fn check(&self) -> Result<()> {
        match self.producer.context().failed() {
            None => Ok(()),
            Some(error) => bail!("the broker does not take the flowers: {error}"),
        }
    }
}

/// A flower's id: the key of its measurements and of its label.
fn key(number: u64) -> String {
    format!("flower-{number:06}")
}
