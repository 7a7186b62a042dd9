//! What a case runs in: one engine for all cases, a pipeline with the hostile plugin, and beside it one whose plugins behave.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandpiper::config::plan::{Policy, Stamp, Timestamp, Tombstones};
use sandpiper::pipeline::isolate::isolate;
use sandpiper::pipeline::{ModelStage, Pipeline, Settings, TransformStage};
use sandpiper::record::dead_letter::{DeadLetterWriter, PREFIX};
use sandpiper::record::output::{Halt, Outputs};
use sandpiper::record::prediction::{Arm, Writer};
use sandpiper::record::{Batch, BatchBuilder, Origin, RecordId, Revision, Role, Route, TopicIndex, Topics};
use sandpiper::stream::process::{Forced, Process as _};
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::compiler::{Bounds, Process};
use sandpiper_sandbox::stage::{Score as _, WasmClassifier, WasmParser, WasmScorer, WasmTransform};
use sandpiper_sandbox::wit::latest::Outcome;
use sandpiper_sandbox::{Compiler, Digest, Engine, Limits, Plugin};

use crate::hostile;

/// Rows of a batch.
pub const ROWS: usize = 64;
/// The row that makes a hostile plugin misbehave.
pub const POISON: usize = 13;
/// The value of that row.
pub const POISON_VALUE: &str = "-113";

/// The stage in which a plugin misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Parser,
    Classifier,
    Transform,
    Scorer,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Self::Parser => "parser",
            Self::Classifier => "classifier",
            Self::Transform => "transform",
            Self::Scorer => "scorer",
        }
    }
}

/// A row's offset, and its answer or its dead letter's code.
pub type Answer = (i64, Result<String, String>);
pub type Answers = Vec<Answer>;

/// Hostile and well-behaved plugins share one engine, as they do in the daemon.
/// It compiles as the product does, by the product itself.
pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| engine(COMPILATION));

/// As by default, but for the time: the product of a test build compiles slowly, and the machine has more to do.
const COMPILATION: Bounds = Bounds { memory: 2 << 30, time: Duration::from_secs(600) };

pub fn engine(bounds: Bounds) -> Engine {
    let arguments = ["compile-component".into(), bounds.memory.to_string(), bounds.time.as_millis().to_string()];
    let program = env!("CARGO_BIN_EXE_sandpiper").into();
    let process = Process::new(program, arguments.map(Into::into).to_vec(), bounds);
    Engine::new(None, Compiler::Process(process)).expect("an engine")
}

/// The plugin of `tests/hostile` for that stage, compiled once. It behaves until its configuration says otherwise.
pub fn hostile_plugin(place: Place) -> Result<Arc<Plugin>> {
    static LOADED: Mutex<BTreeMap<&str, Arc<Plugin>>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plugin) = loaded.get(place.name()) {
        return Ok(plugin.clone());
    }
    let bytes = std::fs::read(hostile::hostile(place.name())?)?;
    let plugin = Arc::new(Plugin::load(&ENGINE, place.name(), &bytes)?);
    loaded.insert(place.name(), plugin.clone());
    Ok(plugin)
}

/// A pipeline, or the scorer of one.
pub enum TestPipeline {
    Pipeline(Box<Pipeline>),
    Scorer(Box<WasmScorer>, Limits),
}

/// The code of a row that was not tried on its own, since the budget was spent.
pub const BUDGET_SPENT: &str = "release-failed";
/// Bytes that a batch may come to.
const MAX_OUTPUT: usize = 32 << 20;
/// Time to find the failing rows of a batch.
const BUDGET: Duration = Duration::from_secs(20);
/// The deadline of plugins that behave: longer than any stall of the machine.
const LONG_DEADLINE: Duration = Duration::from_secs(60);

fn champion() -> Arm {
    Arm { role: Role::Champion, revision: Revision::FIRST, release: Digest::of(b"champion"), stamped: true }
}

impl TestPipeline {
    /// A pipeline whose plugins behave.
    pub fn well_behaved(place: Place) -> Result<Self> {
        Self::open(
            place,
            hostile_plugin(place)?,
            r#"{"do":"nothing"}"#,
            Limits { deadline: LONG_DEADLINE, ..Limits::default() },
        )
    }

    /// A pipeline with that plugin in its stage, and plugins that behave in the others.
    pub fn open(place: Place, plugin: Arc<Plugin>, config: &str, limits: Limits) -> Result<Self> {
        let hostile = (plugin, config);
        let well_behaved = |place| anyhow::Ok((hostile_plugin(place)?, r#"{"do":"nothing"}"#));
        let opening = |config: &str| Opening { config: config.to_owned(), ..Opening::default() };
        let open_model = |parser: (Arc<Plugin>, &str), classifier: (Arc<Plugin>, &str)| {
            let (parser, columns) = WasmParser::open(parser.0, limits, opening(parser.1))?;
            let (classifier, signature) = WasmClassifier::open(classifier.0, limits, opening(classifier.1))?;
            let model = ModelStage {
                parser: Box::new(parser),
                parser_release: "parser".into(),
                classifier: Box::new(classifier),
                classifier_release: "classifier".into(),
                gather: sandpiper::control::staging::gather("parser", &columns, "classifier", &signature)?,
                columns: sandpiper::control::staging::width(&signature)?,
                classes: signature.classes.len(),
                writer: Writer::new(&signature, 0.0, &champion()),
                challenger: None,
                behind_challenger: None,
            };
            anyhow::Ok(Pipeline::new(Revision::FIRST, settings(limits), Vec::new(), Some(model)))
        };
        let pipeline = match place {
            Place::Parser => open_model(hostile, well_behaved(Place::Classifier)?)?,
            Place::Classifier => open_model(well_behaved(Place::Parser)?, hostile)?,
            Place::Transform => {
                let (stage, outputs) = WasmTransform::open(hostile.0, limits, opening(hostile.1))?;
                let stage = TransformStage {
                    stage: Box::new(stage),
                    name: "transform[0]".into(),
                    release: "transform".into(),
                    routes: outputs.iter().map(|_| None).collect(),
                    challenger: None,
                };
                Pipeline::new(Revision::FIRST, settings(limits), vec![stage], None)
            }
            Place::Scorer => {
                return Ok(Self::Scorer(Box::new(WasmScorer::open(hostile.0, limits, opening(hostile.1))?), limits));
            }
        };
        Ok(Self::Pipeline(Box::new(pipeline)))
    }

    pub fn process(&mut self, batch: &Batch) -> Result<Answers> {
        match self {
            Self::Pipeline(pipeline) => {
                let mut outputs = Outputs::default();
                pipeline.process(batch, &Forced::new(), 0, &mut outputs);
                if outputs.overflowed {
                    // As a worker does: in halves.
                    let middle = batch.len() / 2;
                    let mut answers = self.process(&batch.select(0..middle))?;
                    answers.extend(self.process(&batch.select(middle..batch.len()))?);
                    return Ok(answers);
                }
                let mut answers = answers(&outputs)?;
                if let Some(Halt::Release(_)) = outputs.halt {
                    // Rows that were not tried on their own: the transaction would be aborted, and nothing of it written.
                    let open = |offset: &i64| answers.iter().all(|(answered, _)| answered != offset);
                    let offsets = batch.rows.iter().map(|row| row.origin.offset);
                    let open: Answers =
                        offsets.filter(open).map(|offset| (offset, Err(BUDGET_SPENT.to_owned()))).collect();
                    answers.extend(open);
                    answers.sort_by_key(|(offset, _)| *offset);
                }
                Ok(answers)
            }
            Self::Scorer(scorer, limits) => Ok(score(scorer, *limits, batch)),
        }
    }
}

fn settings(limits: Limits) -> Arc<Settings> {
    Arc::new(Settings {
        id: RecordId::Position,
        tombstones: Tombstones::DeadLetter,
        stamp: Stamp::Value,
        timestamp: Timestamp::Input,
        deadline: limits.deadline,
        budget: BUDGET,
        max_value: 1 << 20,
        max_output: MAX_OUTPUT,
        max_key: 1 << 20,
        max_headers: 1_000,
        max_header_bytes: 1 << 20,
        rejected: Policy::DeadLetter,
        failed: Policy::DeadLetter,
        dead_letters: DeadLetterWriter { pipeline: "corpus".into(), instance: "here".into() },
    })
}

fn answers(outputs: &Outputs) -> Result<Answers> {
    let answer = |output: &sandpiper::record::output::Output| {
        let value = String::from_utf8(output.value.map(|span| outputs.bytes(span).to_vec()).unwrap_or_default())?;
        if output.route != Route::Output {
            let reason = format!("{PREFIX}reason");
            let headers = output.headers.iter().flat_map(|headers| headers.iter());
            let code = headers.rev().find(|(name, _)| *name == reason).and_then(|(_, value)| value.clone());
            return Ok((output.origin.offset, Err(String::from_utf8(code.context("a letter without a reason")?)?)));
        }
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&value) else {
            return Ok((output.origin.offset, Ok(value)));
        };
        let Some(class) = json["class"].as_str() else { return Ok((output.origin.offset, Ok(value))) };
        anyhow::ensure!(json["id"] == format!("in-0-{}", output.origin.offset), "{value}");
        Ok((output.origin.offset, Ok(format!("{class} {}", json["features"]["x"]))))
    };
    outputs.records.iter().map(answer).collect()
}

/// Scores a batch as the feedback loop does.
fn score(scorer: &mut WasmScorer, limits: Limits, batch: &Batch) -> Answers {
    let classes = ["a".to_owned(), "b".to_owned()];
    let outcomes: Vec<Outcome> = (0..batch.len())
        .map(|row| Outcome {
            id: String::from_utf8_lossy(batch.bytes(row).unwrap_or_default()).into_owned(),
            predicted: (row % 2) as u32,
            scores: vec![0.5, 0.5],
            truth: (row % 3 % 2) as u32,
            source: String::new(),
            delay_ms: 0,
            revision: 1,
        })
        .collect();
    let isolated = isolate(outcomes.len(), limits.deadline, BUDGET, |range, deadline| {
        scorer.score(&classes, outcomes.get(range).unwrap_or_default(), deadline)
    });
    let offset = |row: usize| batch.rows.get(row).map_or(-1, |facts| facts.origin.offset);
    let mut answers = Answers::new();
    for (range, judgements) in isolated.answers {
        let losses = judgements.into_iter().map(|judgement| (range.start + judgement.row as usize, judgement.loss));
        answers.extend(losses.map(|(row, loss)| (offset(row), Ok(loss.to_string()))));
    }
    let failures = isolated.poison.into_iter().chain(isolated.undecided);
    answers.extend(failures.map(|(row, failure)| (offset(row), Err(failure.kind.code().to_owned()))));
    answers.sort_by_key(|(offset, _)| *offset);
    answers
}

/// Signs alternate, so that both classes occur; the value at `POISON` is another where the batch is clean.
fn value(row: usize, poisoned: bool) -> String {
    let number = if row == POISON && !poisoned { 999 } else { 100 + row };
    if row.is_multiple_of(2) { number.to_string() } else { format!("-{number}") }
}

/// The batch whose first offset is `first`.
pub fn batch(first: usize, rows: usize, poisoned: bool) -> Batch {
    let mut builder = BatchBuilder::new(Topics::new(["in"]));
    for row in 0..rows {
        let origin = Origin { topic: TopicIndex::FIRST, partition: 0, offset: (first + row) as i64 };
        // A plugin can have the key copied as often as it likes, without ever holding it.
        let key: &[u8] = if row == POISON { &[b'k'; 10_000] } else { b"k" };
        builder.push(origin, Some(1), Some(key), Some(value(row, poisoned).as_bytes()), None);
    }
    builder.finish()
}

/// What a plugin that behaves answers to that batch, computed without any plugin.
pub fn expected_answers(place: Place, first: usize, rows: usize, poisoned: bool) -> Answers {
    let answer = |row: usize| {
        let value = value(row, poisoned);
        match place {
            Place::Parser | Place::Classifier => format!("{} {value}.0", if row.is_multiple_of(2) { "b" } else { "a" }),
            Place::Transform => value,
            Place::Scorer => u8::from(row % 2 != row % 3 % 2).to_string(),
        }
    };
    (0..rows).map(|row| ((first + row) as i64, Ok(answer(row)))).collect()
}
