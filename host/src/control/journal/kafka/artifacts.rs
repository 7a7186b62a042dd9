//! Plugins and models in the artifacts' topic: given in chunks, one transaction each, and taken whole or not at all.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use sandpiper_sandbox::Digest;

use crate::config::plan::Properties;
use crate::control::fold::Artifact;
use crate::kafka::reader::{Next, Partitions, ReadFrom, Reader};

/// Bytes of a chunk.
const CHUNK: usize = 512 << 10;
/// Time for one artifact on its way, and for a broker to answer.
const TIME: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

/// A chunk's key.
pub fn key(upload: &str, chunk: u32) -> String {
    format!("{upload}/{chunk}")
}

struct Offsets(Sender<Result<i64, String>>);

impl ClientContext for Offsets {}

impl ProducerContext for Offsets {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let offset = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.to_string()),
        };
        // Nobody waits any more where the upload was given up.
        let _ = self.0.send(offset);
    }
}

/// Puts an artifact into the topic. `properties` are a transactional producer's.
///
/// # Errors
/// When it cannot be written: then nobody sees any of it.
pub fn give(properties: &Properties, topic: &str, pipeline: &str, digest: Digest, bytes: &[u8]) -> Result<Artifact> {
    let upload = format!("{pipeline}/{digest}/{}", uuid::Uuid::new_v4());
    let (tell, offsets) = channel();
    let config: rdkafka::ClientConfig = properties.0.clone().into_iter().collect();
    let producer: ThreadedProducer<Offsets> = config.create_with_context(Offsets(tell))?;
    producer.init_transactions(TIME)?;
    producer.begin_transaction()?;
    // An empty one is a chunk, too: something has to stand at its offset.
    let chunks: Vec<&[u8]> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(CHUNK).collect() };
    let (mut first, mut next) = (None, 0);
    for chunk in &chunks {
        let key = key(&upload, next);
        producer
            .send(BaseRecord::to(topic).key(&key).payload(*chunk).partition(0))
            .map_err(|(error, _)| error)
            .with_context(|| format!("artifact {digest} cannot be written to {topic}"))?;
        // One after the other: an artifact of any size takes one chunk of memory.
        let offset =
            offsets.recv_timeout(TIME).with_context(|| format!("the brokers do not take artifact {digest}"))?;
        let offset =
            offset.map_err(anyhow::Error::msg).with_context(|| format!("writing artifact {digest} to {topic}"))?;
        first.get_or_insert(offset);
        next += 1;
    }
    producer.commit_transaction(TIME).with_context(|| format!("committing artifact {digest} to {topic}"))?;
    let offset = first.context("no chunk was written")?;
    Ok(Artifact { upload, offset, chunks: next, bytes: bytes.len() as u64, at: 0 })
}

/// Takes an artifact out of the topic. `properties` are a reader's.
///
/// # Errors
/// When it is not there whole, or is not what its digest says.
pub fn take(properties: &Properties, topic: &str, digest: Digest, artifact: &Artifact) -> Result<Vec<u8>> {
    let from = ReadFrom::Offsets([(0, artifact.offset)].into());
    let mut reader = Reader::open(properties, topic, &Partitions::Of([0].into()), &from, PATIENCE)?;
    let mut bytes = Vec::with_capacity(usize::try_from(artifact.bytes).unwrap_or_default().min(CHUNK));
    let mut next = 0;
    let missing = |next: u32| {
        format!(
            "artifact {digest} is not whole in {topic}: chunk {next} of {} is missing; deploy the file again",
            artifact.chunks
        )
    };
    while next < artifact.chunks {
        ensure!(reader.silence() < TIME, "artifact {digest} does not come from {topic} within {TIME:?}");
        match reader.next(Duration::from_millis(100))? {
            Next::Record(record) => {
                if record.key.as_deref() == Some(key(&artifact.upload, next).as_bytes()) {
                    bytes.extend(record.value.context("a chunk has been removed").with_context(|| missing(next))?);
                    next += 1;
                }
            }
            Next::Idle | Next::Trouble(_) => {}
            Next::End => bail!(missing(next)),
        }
    }
    ensure!(
        Digest::of(&bytes) == digest,
        "artifact {digest} is damaged in {topic}: its {} bytes there are something else; deploy the file again",
        bytes.len()
    );
    Ok(bytes)
}
