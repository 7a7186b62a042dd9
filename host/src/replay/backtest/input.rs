//! Topics read as batches by a thread of its own, so that reading and comparing go on beside each other. What waits between the
//! two is bounded.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::super::wait::Wait;
use crate::config::plan::Plan;
use crate::kafka::raw::{HeaderLimits, MessageRef};
use crate::kafka::reader::{Next, Progress, Reader};
use crate::record::{Batch, BatchBuilder, Origin, TopicIndex, Topics};
use sandpiper_sandbox::batch::size_of_headers;

/// Batches that wait to be compared.
const WAITING: usize = 4;
/// How often a wait for records is interrupted.
const STEP: Duration = Duration::from_millis(100);

/// What comes of the topics.
pub(super) enum Piece {
    /// Records, and how far their topics have been read.
    Batch(Batch, Progress),
    /// What is waited for.
    Waiting(String),
}

/// How large a batch may be.
#[derive(Clone, Copy)]
struct Limits {
    records: usize,
    bytes: usize,
    headers: HeaderLimits,
}

impl From<&Plan> for Limits {
    fn from(plan: &Plan) -> Self {
        let limits = &plan.limits;
        let headers = HeaderLimits { count: limits.max_headers, bytes: limits.max_header_bytes };
        Self { records: limits.batch_records, bytes: limits.batch_bytes, headers }
    }
}

/// Reads those topics, which are the batches' topics in the same order, one after the other to their ends. The thread ends when
/// nobody receives any more.
///
/// # Errors
/// When there is no thread.
pub(super) fn read(plan: &Plan, readers: Vec<(String, Reader)>) -> Result<Receiver<Result<Piece>>> {
    let (sender, receiver) = sync_channel(WAITING);
    let topics = Topics::new(readers.iter().map(|(topic, _)| topic));
    let whole = readers.iter().map(|(_, reader)| reader.progress().whole).sum();
    let mut batches = Batches {
        topics: topics.clone(),
        limits: plan.into(),
        builder: BatchBuilder::new(topics),
        before: Progress { read: 0, whole },
        sender,
    };
    let readers: Vec<(Reader, Wait)> =
        readers.into_iter().map(|(topic, reader)| (reader, Wait::new(plan, &topic))).collect();
    std::thread::Builder::new()
        .name("backtest-input".into())
        .spawn(move || {
            let read = readers.into_iter().zip(0..).try_for_each(|((mut reader, mut wait), topic)| {
                batches.read(TopicIndex::nth(topic), &mut reader, &mut wait)
            });
            match read {
                Err(Stopped::Failed(error)) => drop(batches.sender.send(Err(error))),
                Err(Stopped::Unwanted) | Ok(()) => {}
            }
        })
        .context("a thread that reads the input")?;
    Ok(receiver)
}

enum Stopped {
    Failed(anyhow::Error),
    /// Nobody receives any more.
    Unwanted,
}

struct Batches {
    topics: Topics,
    limits: Limits,
    builder: BatchBuilder,
    /// Of the topics that were read before, and the whole of all.
    before: Progress,
    sender: SyncSender<Result<Piece>>,
}

impl Batches {
    fn read(&mut self, topic: TopicIndex, reader: &mut Reader, wait: &mut Wait) -> Result<(), Stopped> {
        loop {
            let next = reader.next_as(STEP, |message| self.push(topic, message));
            match next.map_err(|fault| Stopped::Failed(fault.into()))? {
                Next::Record(full) => {
                    wait.note_record();
                    if let Some(batch) = full {
                        self.send(batch, reader.progress())?;
                    }
                }
                Next::Trouble(text) => wait.note_trouble(text),
                Next::Idle => {
                    self.flush(reader.progress())?;
                    let sender = &self.sender;
                    let mut announce = |text: &str| drop(sender.send(Ok(Piece::Waiting(text.to_owned()))));
                    wait.note_silence(reader, &mut announce).map_err(Stopped::Failed)?;
                }
                Next::End => {
                    self.flush(reader.progress())?;
                    self.before.read += reader.progress().whole;
                    return Ok(());
                }
            }
        }
    }

    /// Lays a record out; the batch that was full before it, if it was.
    fn push(&mut self, topic: TopicIndex, message: MessageRef<'_>) -> Option<Batch> {
        let headers = message.headers(self.limits.headers);
        let copied = headers.as_ref().ok().and_then(Option::as_deref).map_or(0, size_of_headers);
        let size = message.size() + message.key().map_or(0, <[u8]>::len) + copied;
        let fits = self.builder.len() < self.limits.records && self.builder.size() + size <= self.limits.bytes;
        let full = if fits || self.builder.is_empty() { None } else { Some(self.take()) };
        let origin = Origin { topic, partition: message.partition(), offset: message.offset() };
        let (headers, excess) = headers.map_or_else(|excess| (None, Some(excess)), |headers| (headers, None));
        self.builder.push(origin, message.timestamp(), message.key(), message.value(), headers);
        if let Some(excess) = excess {
            self.builder.exceeds(excess);
        }
        full
    }

    fn take(&mut self) -> Batch {
        let (records, bytes) = (self.builder.len(), self.builder.size());
        let next = BatchBuilder::with_capacity(self.topics.clone(), records, bytes);
        std::mem::replace(&mut self.builder, next).finish()
    }

    fn flush(&mut self, progress: Progress) -> Result<(), Stopped> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let batch = self.take();
        self.send(batch, progress)
    }

    fn send(&mut self, batch: Batch, progress: Progress) -> Result<(), Stopped> {
        let progress = Progress { read: self.before.read + progress.read, whole: self.before.whole };
        self.sender.send(Ok(Piece::Batch(batch, progress))).map_err(|_| Stopped::Unwanted)
    }
}
