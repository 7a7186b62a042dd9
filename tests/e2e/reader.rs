//! A topic read to its end while transactions are open, aborted and committed.

use crate::support::daemon::{Printed, sandpiper};
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sandpiper::config::plan::Properties;
use sandpiper::kafka::reader::{Next, Partitions, Progress, ReadFrom, Reader};
use std::time::{Duration, Instant};

crate::tests![
    a_reader_waits_out_an_open_transaction_and_passes_an_aborted_one,
    a_tap_from_now_on_shows_what_an_open_transaction_wrote_before_it,
    dlq_waits_for_a_transaction_that_is_open_and_says_so,
];

const PATIENCE: Duration = Duration::from_secs(30);

/// A producer whose transactions these tests end by hand.
struct Transactions {
    producer: BaseProducer,
    topic: String,
}

impl Transactions {
    fn new(scene: &Scene, id: &str) -> Result<Self> {
        Self::on(scene, "in", id)
    }

    fn on(scene: &Scene, topic: &str, id: &str) -> Result<Self> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", scene.bootstrap())
            .set("transactional.id", format!("{}.{id}", scene.name))
            .create()?;
        producer.init_transactions(PATIENCE)?;
        Ok(Self { producer, topic: scene.topic(topic) })
    }

    /// Begins a transaction and writes those records; they are in the broker's log when this returns.
    fn begin(&self, partition: i32, values: &[&str]) -> Result<()> {
        self.producer.begin_transaction()?;
        for value in values {
            let record: BaseRecord<str, str> = BaseRecord::to(&self.topic).partition(partition).payload(value);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(self.producer.flush(PATIENCE)?)
    }

    fn commit(&self) -> Result<()> {
        Ok(self.producer.commit_transaction(PATIENCE)?)
    }

    fn abort(&self) -> Result<()> {
        Ok(self.producer.abort_transaction(PATIENCE)?)
    }
}

fn open(scene: &Scene, from: &ReadFrom) -> Result<Reader> {
    let properties = [("bootstrap.servers", scene.bootstrap()), ("group.id", scene.group())];
    let properties = Properties(properties.map(|(name, value)| (name.into(), value)).into());
    Ok(Reader::open(&properties, &scene.topic("in"), &Partitions::All, from, PATIENCE)?)
}

/// The values that come within the time or before the end; true when the end was reached.
fn read(reader: &mut Reader, within: Duration) -> Result<(Vec<String>, bool)> {
    let (began, mut values) = (Instant::now(), Vec::new());
    while began.elapsed() < within {
        match reader.next(Duration::from_millis(50))? {
            Next::Record(record) => values.push(String::from_utf8(record.value.context("no value")?)?),
            Next::End => return Ok((values, true)),
            Next::Idle => {}
            Next::Trouble(text) => bail!("{text}"),
        }
    }
    Ok((values, false))
}

/// Partition 0 ends with an aborted transaction's records and its marker; on partition 1 a transaction is open, and behind it
/// stands one that has committed.
fn a_reader_waits_out_an_open_transaction_and_passes_an_aborted_one(scene: &Scene) -> Result<()> {
    for open_one_commits in [true, false] {
        let scene = &scene.part(if open_one_commits { "commits" } else { "aborts" });
        scene.create(&[("in", 2, &[])])?;
        let (ended, still_open) = (Transactions::new(scene, "ended")?, Transactions::new(scene, "open")?);
        ended.begin(0, &["committed"])?;
        ended.commit()?;
        ended.begin(0, &["aborted 1", "aborted 2"])?;
        ended.abort()?;
        still_open.begin(1, &["open"])?;
        ended.begin(1, &["behind"])?;
        ended.commit()?;

        let mut reader = open(scene, &ReadFrom::Beginning)?;
        let (values, ended) = read(&mut reader, Duration::from_secs(3))?;
        ensure!(!ended, "the end was told while a transaction below it is open; read: {values:?}");
        assert_eq!(values, ["committed"]);
        assert_eq!(reader.open_transaction(), Some((1, 0)));
        // A record and its marker, two and theirs; then the open one, the one behind it and its marker.
        let passed = Progress { read: 2 + 3, whole: 2 + 3 + 1 + 2 };
        assert_eq!(reader.progress(), passed, "the aborted transaction is behind it");

        let expected: &[&str] = match open_one_commits {
            true => {
                still_open.commit()?;
                &["open", "behind"]
            }
            false => {
                still_open.abort()?;
                &["behind"]
            }
        };
        let (values, ended) = read(&mut reader, PATIENCE)?;
        ensure!(ended, "no end came after the transaction's: {values:?}, {:?}", reader.progress());
        assert_eq!(values, expected);
        assert_eq!(reader.progress(), Progress { read: 8, whole: 8 });
    }
    Ok(())
}

fn a_tap_from_now_on_shows_what_an_open_transaction_wrote_before_it(scene: &Scene) -> Result<()> {
    scene.create(&[("in", 1, &[])])?;
    let (ended, still_open) = (Transactions::new(scene, "ended")?, Transactions::new(scene, "open")?);
    ended.begin(0, &["before"])?;
    ended.commit()?;
    still_open.begin(0, &["open"])?;
    let mut reader = open(scene, &ReadFrom::Now)?;
    still_open.commit()?;
    ended.begin(0, &["after"])?;
    ended.commit()?;
    let mut values = Vec::new();
    until_true("both come", || {
        values.extend(read(&mut reader, Duration::from_millis(100))?.0);
        Ok(values.len() >= 2)
    })?;
    assert_eq!(values, ["open", "after"]);
    Ok(())
}

/// Its end would be the last stable offset otherwise, and what a daemon is about to commit would be missed.
fn dlq_waits_for_a_transaction_that_is_open_and_says_so(scene: &Scene) -> Result<()> {
    scene.create_usual(1)?;
    let file = scene.flower_pipeline("", &scene.model_of("setosa")?, "")?;
    let transaction = Transactions::on(scene, "dead", "open")?;
    transaction.begin(0, &["from somewhere else"])?;
    let printed = std::thread::scope(|scope| {
        let ls = scope.spawn(|| Printed::of(sandpiper().args(["dlq", "ls"]).arg(&file)));
        std::thread::sleep(Duration::from_secs(4));
        let waits = !ls.is_finished();
        transaction.commit()?;
        let printed = ls.join().ok().context("dlq ls panicked")??;
        ensure!(waits, "it did not wait: {printed:?}");
        Ok(printed)
    })?;
    let waiting = format!("waiting for the end of a transaction on {} that is open since 0@0", scene.topic("dead"));
    assert!(printed.code == Some(0) && printed.err.contains(&waiting), "{printed:?}");
    assert!(printed.err.contains("1 records of"), "what it committed is counted: {printed:?}");
    Ok(())
}
