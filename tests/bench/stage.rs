//! Parse and classify, nothing else: the sandbox against the same code without it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandpiper_csv::Csv;
use sandpiper_json::Json;
use sandpiper_logistic::Logistic;
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::batch::{Batch, BatchBuilder, Origin, TopicIndex, Topics};
use sandpiper_sandbox::stage::{Classify, Parse, WasmClassifier, WasmParser};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::wit::latest::Predictions;
use sandpiper_sandbox::{Engine, Failure, Limits, Plugin};

use crate::flowers::{self, COLUMNS, flowers};
use crate::measure::{median, ratio, take_turns};
use crate::native::{NativeClassifier, NativeParser};
use crate::options::Options;
use crate::table::{Figure, Goal, Table};

const CSV: &str = "stage: csv + logistic against native";
const JSON: &str = "stage: json + logistic against native";

const ROWS: usize = 1_024;
const DEADLINE: Duration = Duration::from_millis(500);

pub fn measure(options: &Options, table: &mut Table) -> Result<()> {
    if options.wants(CSV) {
        let config = format!("{{\"columns\": {COLUMNS:?}}}");
        let native = NativeParser::<Csv>::open(&config)?;
        let lines: Vec<String> = flowers()?.into_iter().map(|flower| flower.row).collect();
        table.add(compare(options, CSV, 2.0, "csv", &config, native, &lines)?);
    }
    if options.wants(JSON) {
        let pointers: Vec<String> = COLUMNS.iter().map(|name| format!("{name:?}: \"/{name}\"")).collect();
        let config = format!("{{\"columns\": {{{}}}}}", pointers.join(", "));
        let native = NativeParser::<Json>::open(&config)?;
        let documents = flowers()?.into_iter().map(|flower| {
            let cells: Vec<String> =
                COLUMNS.iter().zip(flower.row.split(',')).map(|(name, cell)| format!("{name:?}:{cell}")).collect();
            format!("{{{}}}", cells.join(","))
        });
        table.add(compare(options, JSON, 2.2, "json", &config, native, &documents.collect::<Vec<_>>())?);
    }
    Ok(())
}

/// Both stages, one behind the other.
struct Pair<P, C>(P, C);

impl<P: Parse, C: Classify> Pair<P, C> {
    fn run(&mut self, batch: &Batch) -> Result<Predictions, Failure> {
        let parsed = self.0.parse(batch, DEADLINE)?;
        self.1.classify(&parsed.rows, DEADLINE)
    }

    /// CPU nanoseconds a record.
    fn cost(&mut self, batch: &Batch, calls: usize) -> Result<f64, Failure> {
        let started = thread_cpu();
        for _ in 0..calls {
            std::hint::black_box(self.run(std::hint::black_box(batch))?);
        }
        Ok((thread_cpu() - started).as_nanos() as f64 / (calls * batch.len()) as f64)
    }
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours and whole.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn compare(
    options: &Options,
    name: &'static str,
    goal: f64,
    parser: &str,
    config: &str,
    native: NativeParser<impl sandpiper_sdk::Parser + Send>,
    values: &[String],
) -> Result<Figure> {
    // Ticks as the daemon's engine does.
    let engine = Engine::new(None)?;
    let model = std::fs::read(flowers::model())?;
    let load = |name: &str| -> Result<Arc<Plugin>> {
        Ok(Arc::new(Plugin::load(&engine, name, stock::component(name).context("no such stock plugin")?)?))
    };
    let opening = |config: &str, model: &[u8]| Opening {
        config: config.to_owned(),
        model: Arc::new(model.to_vec()),
        ..Opening::default()
    };
    let (parse, _) = WasmParser::open(load(parser)?, Limits::default(), opening(config, &[]))?;
    let (classify, _) = WasmClassifier::open(load("logistic")?, Limits::default(), opening("{}", &model))?;
    let mut wasm = Pair(parse, classify);
    let mut native = Pair(native, NativeClassifier::<Logistic>::open("{}", &model)?);

    let batch = batch(values);
    let (ours, theirs) = (wasm.run(&batch)?, native.run(&batch)?);
    ensure!(ours.labels == theirs.labels && ours.scores.len() == theirs.scores.len(), "the two sides disagree");

    // About 10 ms a turn: short enough that a busy neighbour meets both sides alike.
    let (rounds, calls) = (options.sized(300, 20), 40);
    let native = std::cell::RefCell::new(native);
    let sides = take_turns(
        rounds,
        &mut [&mut |_| native.borrow_mut().cost(&batch, calls), &mut |_| wasm.cost(&batch, calls), &mut |_| {
            native.borrow_mut().cost(&batch, calls)
        }],
    )?;
    let [native, wasm, again] = sides.as_slice() else { unreachable!("three sides") };
    Ok(Figure {
        name,
        unit: "x CPU",
        measured: ratio(wasm, native),
        goal: Goal::AtMost(goal),
        control: ratio(again, native),
        detail: format!("{:.0} against {:.0} ns a record, batches of {ROWS}", median(wasm), median(native)),
    })
}

fn batch(values: &[String]) -> Batch {
    let mut builder = BatchBuilder::new(Topics::new(["flowers"]));
    for (offset, value) in values.iter().cycle().take(ROWS).enumerate() {
        let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: offset as i64 };
        builder.push(origin, Some(0), Some(b"a key"), Some(value.as_bytes()), None);
    }
    builder.finish()
}
