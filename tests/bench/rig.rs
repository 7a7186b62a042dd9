//! The broker, its topics, and a worker that is watched from inside.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sandpiper::config;
use sandpiper::config::plan::{Plan, Stamp, Timestamp};
use sandpiper::control::StateDirectory;
use sandpiper::control::deployment::Deployment;
use sandpiper::control::staging::{Stager, sink_topics};
use sandpiper::kafka::properties::{self, Assignor};
use sandpiper::kafka::sink::{Holder, SinkSettings};
use sandpiper::kafka::source::{BatchLimits, HeaderLimits};
use sandpiper::kafka::{KafkaSink, KafkaSource};
use sandpiper::pipeline::{Pipeline, Settings};
use sandpiper::record::output::Outputs;
use sandpiper::record::{Batch, Revision, Topics};
use sandpiper::stream::clock::SystemClock;
use sandpiper::stream::hold::Hold;
use sandpiper::stream::process::{Forced, Process};
use sandpiper::stream::report::Publisher;
use sandpiper::stream::slot::Slot;
use sandpiper::stream::stop::Stop;
use sandpiper::stream::transaction::Bounds;
use sandpiper::stream::worker::{Handles, Worker};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::{Compiler, Engine};

use crate::kafka::{Kafka, Life};
use crate::measure::process_cpu;
use crate::options::Options;
use crate::support::flowers::{self, COLUMNS, flowers};

pub const PARTITIONS: i32 = 6;
/// The topic that every drain reads from its start.
pub const INPUT: &str = "flowers";

pub struct Rig {
    pub kafka: Kafka,
    pub stager: Stager,
    /// Records in `INPUT`.
    pub records: usize,
    directory: tempfile::TempDir,
}

impl Rig {
    /// A broker of our own, with its input filled.
    pub fn start(options: &Options) -> Result<Rig> {
        println!("starting Apache Kafka …");
        let directory = tempfile::Builder::new().prefix("sandpiper-bench-").tempdir()?;
        let kafka = Kafka::start(&directory.path().join("kafka"), Life::Long)?;
        let state = Arc::new(StateDirectory::open(&directory.path().join("state"), Some("bench"))?);
        let stager = Stager::new(Engine::new(None, Compiler::InProcess)?, state);
        let rig = Rig { kafka, stager, records: options.sized(2_000_000, 200_000), directory };
        rig.create(INPUT)?;
        rig.create("dead")?;
        rig.fill()?;
        Ok(rig)
    }

    pub fn stop(self) -> Result<()> {
        self.kafka.stop()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn create(&self, topic: &str) -> Result<()> {
        // What is deleted goes at once: a run writes gigabytes.
        self.kafka.create_topics(&[(topic, PARTITIONS, &[("file.delete.delay.ms", "100")])])
    }

    pub fn delete(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new()))?;
        Ok(())
    }

    /// Settings of a client that is none of Sandpiper's.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.kafka.bootstrap());
        config
    }

    /// Flowers as lines of CSV under keys of 16 bytes.
    fn fill(&self) -> Result<()> {
        let producer: BaseProducer = self
            .client()
            .set("queue.buffering.max.kbytes", "65536")
            .set("queue.buffering.max.messages", "0")
            .create()?;
        let rows: Vec<String> = flowers()?.into_iter().map(|flower| flower.row).collect();
        for (at, row) in rows.iter().cycle().take(self.records).enumerate() {
            let key = format!("flower-{at:09}");
            let mut record = BaseRecord::to(INPUT).partition(at as i32 % PARTITIONS).key(&key).payload(row);
            while let Err((error, back)) = producer.send(record) {
                ensure!(
                    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull),
                    "the input cannot be written: {error}"
                );
                producer.poll(Duration::from_millis(5));
                record = back;
            }
            if at % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(60))?;
        println!("{} records of {} bytes in {INPUT}, {PARTITIONS} partitions", self.records, rows[0].len() + 16);
        Ok(())
    }

    /// The text of a pipeline file: flowers in, predictions out.
    pub fn pipeline(&self, name: &str, input: &str, output: &str, more: &str) -> String {
        format!(
            "name = {name:?}\n[kafka]\nbootstrap.servers = {:?}\n[input]\ntopics = [{input:?}]\nid = \"key\"\nstart = \"earliest\"\n\
             [parse]\nplugin = \"csv\"\nconfig = {{ columns = {COLUMNS:?} }}\n[classify]\nplugin = \"logistic\"\nmodel = {:?}\n\
             [output]\ntopic = {output:?}\n[errors]\ndead_letters = \"dead\"\n{more}",
            self.kafka.bootstrap(),
            flowers::model(),
        )
    }

    pub fn plan(&self, name: &str, input: &str, output: &str, more: &str) -> Result<Plan> {
        let text = self.pipeline(name, input, output, more);
        let file = PathBuf::from("bench.toml");
        config::parse(&file, &text, &stock::names(), &|_| None)
            .map_err(|mistakes| anyhow!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
    }

    /// The pipeline as the plan has it, in the sandbox.
    pub fn wasm(&self, plan: &Plan, revision: Revision) -> Result<Pipeline> {
        Ok(self.stager.open(plan, &Deployment::of(revision, self.stager.releases(plan)?))?)
    }
}

/// A pipeline without stages that says nothing of itself: reading and writing are all that is left.
pub fn passthrough(plan: &Plan) -> Pipeline {
    let settings = Settings { stamp: Stamp::None, timestamp: Timestamp::Now, ..Settings::new(plan, "bench") };
    Pipeline::new(Revision::FIRST, Arc::new(settings), Vec::new(), None)
}

/// What was seen at the end of one transaction.
#[derive(Clone, Copy)]
pub struct Commit {
    pub at: Instant,
    pub cpu: Duration,
    /// Committed since the start.
    pub records: usize,
    pub revision: u64,
    /// What came next; nothing after the last.
    pub next: Option<Next>,
}

/// The first batch after a commit.
#[derive(Clone, Copy)]
pub struct Next {
    /// From the commit to the end of its processing.
    pub after: Duration,
    pub revision: u64,
}

/// What one worker did, filled from inside its loop.
#[derive(Default)]
pub struct Trace {
    pub commits: Vec<Commit>,
    open: usize,
    committed: usize,
}

/// A pipeline that takes notes, and ends the worker after a number of records.
pub struct Watched {
    pipeline: Pipeline,
    trace: Arc<Mutex<Trace>>,
    last: usize,
    stop: Stop,
}

impl Process for Watched {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        self.pipeline.process(batch, forced, now, outputs);
        let mut trace = self.trace.lock().unwrap();
        trace.open += batch.len();
        if let Some(commit) = trace.commits.last_mut()
            && commit.next.is_none()
        {
            commit.next = Some(Next { after: commit.at.elapsed(), revision: self.pipeline.revision.get() });
        }
    }

    fn committed(&mut self) {
        let mut trace = self.trace.lock().unwrap();
        trace.committed += std::mem::take(&mut trace.open);
        let records = trace.committed;
        trace.commits.push(Commit {
            at: Instant::now(),
            cpu: process_cpu(),
            records,
            revision: self.pipeline.revision.get(),
            next: None,
        });
        if records >= self.last {
            self.stop.set();
        }
    }

    fn aborted(&mut self) {
        self.trace.lock().unwrap().open = 0;
    }

    fn revision(&self) -> Option<Revision> {
        self.pipeline.revision()
    }
}

/// A worker on a thread of its own.
pub struct Running {
    pub handles: Handles<Watched>,
    trace: Arc<Mutex<Trace>>,
    last: usize,
    thread: JoinHandle<Result<()>>,
}

impl Running {
    /// Starts a worker as the daemon does. It ends by itself after `last` records.
    pub fn start(plan: &Plan, bounds: Bounds, pipeline: Pipeline, last: usize) -> Result<Running> {
        let hold = Arc::new(Hold::new(false, |_| {}));
        let slot = Arc::new(Slot::new()?);
        let handles = Handles { worker: 0, slot, stop: Stop::default(), hold, report: Publisher::default() };
        let trace = Arc::<Mutex<Trace>>::default();
        let watched = Watched { pipeline, trace: trace.clone(), last, stop: handles.stop.clone() };
        let (plan, shared) = (plan.clone(), handles.clone());
        // Whoever waits for its outputs meanwhile would only see that none come.
        let run = move || work(&plan, bounds, watched, shared).inspect_err(|error| eprintln!("the worker: {error:?}"));
        let thread = std::thread::Builder::new().name("worker".into()).spawn(run)?;
        Ok(Running { handles, trace, last, thread })
    }

    /// Leaves a pipeline for the worker to go on with.
    pub fn swap(&self, pipeline: Pipeline) {
        self.handles.slot.put(Watched {
            pipeline,
            trace: self.trace.clone(),
            last: self.last,
            stop: self.handles.stop.clone(),
        });
    }

    /// Waits until it has ended.
    pub fn finish(self) -> Result<Vec<Commit>> {
        self.thread.join().map_err(|_| anyhow!("the worker panicked"))??;
        Ok(std::mem::take(&mut self.trace.lock().unwrap().commits))
    }

    pub fn stop(self) -> Result<Vec<Commit>> {
        self.handles.stop.set();
        self.finish()
    }
}

fn work(plan: &Plan, bounds: Bounds, watched: Watched, handles: Handles<Watched>) -> Result<()> {
    let topics = Topics::new(&plan.input.topics);
    let sink = KafkaSink::new(SinkSettings {
        holder: Holder::Worker,
        counts: Default::default(),
        properties: properties::producer(plan),
        transactional_id: Some(plan.name.clone()),
        topics: sink_topics(plan),
        inputs: topics.clone(),
        group: plan.input.group.clone(),
    })?;
    let headers = HeaderLimits { count: plan.limits.max_headers, bytes: plan.limits.max_header_bytes };
    let batch = BatchLimits { records: plan.limits.batch_records, bytes: plan.limits.batch_bytes, headers };
    let consumer = properties::consumer(plan, &plan.input.group, Assignor::CooperativeSticky);
    let source = KafkaSource::new(&consumer, topics.clone(), plan.input.start, batch)?;
    Worker::new(source, sink, SystemClock, watched, handles, bounds, topics).run().context("the worker gave up")
}
