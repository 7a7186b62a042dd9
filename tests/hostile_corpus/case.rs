//! One case of the corpus: a component that misbehaves, and the outcome that it must have.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sandpiper_sandbox::{Limits, Plugin};

use crate::harness::{
    Answer, Answers, BUDGET_SPENT, ENGINE, POISON, POISON_VALUE, Place, ROWS, TestPipeline, batch, expected_answers,
    hostile_plugin,
};
use crate::seeds::allocation;

/// The component, and what makes it misbehave.
pub enum Source {
    /// The plugin of `tests/hostile`, configured to do this when it meets the poison row.
    OnPoison(&'static str),
    /// The same plugin, configured to do this in every call.
    EveryCall(&'static str),
    /// The same plugin, with this configuration.
    Config(&'static str),
    /// The bytes of a component; its configuration is empty.
    Bytes(Box<dyn Fn() -> Vec<u8> + Send>),
}

/// The outcome that a case must have.
#[derive(Clone, Copy)]
pub enum Expected {
    /// Loading is refused; the message contains this.
    NotLoaded(&'static str),
    /// It loads, and opening is refused; the message contains this.
    NotOpened(&'static str),
    /// The poison row is a dead letter with that code; the other rows, the other pipeline and the next batch are answered
    /// as by a plugin that behaves.
    RowDeadLettered(&'static str),
    /// Every row of every batch is a dead letter, with that code or because the budget was spent.
    AllDeadLettered(&'static str),
    /// As `AllDeadLettered`, from that offset on; every row before it is answered.
    AllDeadLetteredFrom(usize, &'static str),
    /// Every row is answered as by a plugin that behaves.
    Unaffected,
    /// Every row is answered, and wrongly. Only the plugin's own pipeline is affected.
    WrongAnswers,
}

pub struct Case {
    pub name: &'static str,
    pub place: Place,
    pub source: Source,
    pub expected: Expected,
    pub limits: Limits,
    /// How many batches it processes.
    pub batches: usize,
}

/// Time of one call. It is short, since many cases wait for it several times.
const DEADLINE: Duration = Duration::from_millis(300);

/// Bytes of the host's own memory that a case may take at a time. An answer may hold 64 MiB (`Limits::answer`), and is laid out once more.
const HOST_MEMORY: usize = 160 << 20;

impl Case {
    pub fn new(place: Place, name: &'static str, source: Source, expected: Expected) -> Self {
        let limits = Limits { deadline: DEADLINE, ..Limits::default() };
        Self { name, place, source, expected, limits, batches: 2 }
    }

    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// The memory limit of the plugin, bytes.
    pub fn memory(mut self, memory: usize) -> Self {
        self.limits.memory = memory;
        self
    }

    pub fn batches(mut self, batches: usize) -> Self {
        self.batches = batches;
        self
    }

    /// Runs the case beside a pipeline that behaves; returns its outcome for the table.
    pub fn run(self) -> Result<String> {
        let mut neighbour = TestPipeline::well_behaved(self.place).context("the neighbour")?;
        ensure!(neighbour.process(&batch(0, ROWS, true))? == expected_answers(self.place, 0, ROWS, true), "before");
        // What making the component takes is the test's own.
        let component = if let Source::Bytes(make) = &self.source { make() } else { Vec::new() };
        let before = allocation::current();
        allocation::reset_peak();
        let outcome = Self::run_beside(
            self.place,
            self.source,
            &component,
            self.expected,
            self.limits,
            self.batches,
            &mut neighbour,
        )?;
        let taken = allocation::peak().saturating_sub(before);
        ensure!(
            taken <= HOST_MEMORY,
            "it took {} MiB of the host's memory, more than its {}",
            taken >> 20,
            HOST_MEMORY >> 20
        );
        ensure!(neighbour.process(&batch(0, ROWS, true))? == expected_answers(self.place, 0, ROWS, true), "afterwards");
        Ok(format!("{outcome}; {} MiB of the host", taken.div_ceil(1 << 20)))
    }

    fn run_beside(
        place: Place,
        source: Source,
        component: &[u8],
        expected: Expected,
        limits: Limits,
        batches: usize,
        neighbour: &mut TestPipeline,
    ) -> Result<String> {
        let (plugin, config) = match source {
            Source::Bytes(_) => (Plugin::load(&ENGINE, "hostile", component).map(Arc::new), "{}".to_owned()),
            Source::Config(config) => (hostile_plugin(place), config.to_owned()),
            Source::EveryCall(what) => (hostile_plugin(place), format!(r#"{{"do":"{what}"}}"#)),
            Source::OnPoison(what) => {
                let quote = if place == Place::Classifier { "" } else { "\"" };
                (hostile_plugin(place), format!(r#"{{"do":"{what}","on":{quote}{POISON_VALUE}{quote}}}"#))
            }
        };
        let plugin = match (plugin, expected) {
            (Err(error), Expected::NotLoaded(why)) => return check_message("refused", &error, why),
            (Err(error), _) => return Err(error.context("it was refused")),
            (Ok(_), Expected::NotLoaded(_)) => bail!("it was not refused"),
            (Ok(plugin), _) => plugin,
        };
        let mut pipeline = match (TestPipeline::open(place, plugin, &config, limits), expected) {
            (Err(error), Expected::NotOpened(why)) => return check_message("not opened", &error, why),
            (Err(error), _) => return Err(error.context("it was not opened")),
            (Ok(_), Expected::NotOpened(_)) => bail!("it was opened"),
            (Ok(pipeline), _) => pipeline,
        };
        let mut any_wrong = false;
        for at in 0..batches {
            let (first, poisoned) = (at * ROWS, at == 0);
            let records = batch(first, ROWS, poisoned);
            let (own, beside) = std::thread::scope(|scope| {
                let beside = scope.spawn(|| neighbour.process(&records));
                (pipeline.process(&records), beside.join())
            });
            let honest = expected_answers(place, first, ROWS, poisoned);
            let beside = beside.map_err(|_| anyhow::anyhow!("the neighbour panicked"))??;
            ensure!(beside == honest, "batch {at}: the other pipeline answered {beside:?}");
            let own = own?;
            match expected {
                Expected::WrongAnswers => {
                    ensure!(own.len() == ROWS && own.iter().all(|(_, answer)| answer.is_ok()), "{own:?}");
                    any_wrong |= own != honest;
                }
                Expected::AllDeadLettered(code) => check_dead_lettered_from(0, code, &own, &honest, at)?,
                Expected::AllDeadLetteredFrom(offset, code) => {
                    check_dead_lettered_from(offset, code, &own, &honest, at)?
                }
                _ => {
                    let mut expected_answers = honest;
                    if let Expected::RowDeadLettered(code) = expected
                        && poisoned
                    {
                        expected_answers[POISON].1 = Err(code.to_owned());
                    }
                    check_equal(&own, &expected_answers, at)?;
                }
            }
        }
        ensure!(any_wrong || !matches!(expected, Expected::WrongAnswers), "it did not lie");
        Ok(match expected {
            Expected::RowDeadLettered(code) => format!("{code}, one row of {ROWS}"),
            Expected::AllDeadLettered(code) => format!("{code}, every row"),
            Expected::AllDeadLetteredFrom(offset, code) => format!("{code}, every row from offset {offset} on"),
            Expected::WrongAnswers => "answers, wrongly".to_owned(),
            _ => "answers as if nothing were".to_owned(),
        })
    }
}

/// The outcome of a refusal, whose message must contain `why` and be short.
fn check_message(what: &str, error: &anyhow::Error, why: &str) -> Result<String> {
    let message = format!("{error:#}");
    ensure!(message.contains(why), "the message does not say {why:?}: {message}");
    ensure!(message.len() < 10_000, "the message has {} bytes", message.len());
    Ok(format!("{what}: {why}"))
}

/// Checks that every row from that offset on is a dead letter, with that code or because the budget was spent.
fn check_dead_lettered_from(offset: usize, code: &str, own: &Answers, honest: &Answers, at: usize) -> Result<()> {
    let expected = |(own, honest): (&Answer, &Answer)| match &own.1 {
        _ if own.0 < offset as i64 => honest.clone(),
        Err(reason) if reason == BUDGET_SPENT => (honest.0, Err(BUDGET_SPENT.to_owned())),
        _ => (honest.0, Err(code.to_owned())),
    };
    ensure!(own.len() == honest.len(), "batch {at}: {own:?}");
    check_equal(own, &own.iter().zip(honest).map(expected).collect(), at)
}

fn check_equal(own: &Answers, expected: &Answers, at: usize) -> Result<()> {
    ensure!(own.len() == expected.len(), "batch {at}: {} answers instead of {}: {own:?}", own.len(), expected.len());
    match own.iter().zip(expected).find(|(own, expected)| own != expected) {
        Some((own, expected)) => bail!("batch {at}: {own:?} instead of {expected:?}"),
        None => Ok(()),
    }
}
