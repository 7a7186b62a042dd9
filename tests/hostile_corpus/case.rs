//! One misbehaviour: where it comes from, and what must become of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sandpiper_sandbox::{Limits, Plugin};

use crate::scene::{Answer, Answers, ENGINE, Lane, POISON, POISON_VALUE, Place, ROWS, SPENT, batch, expected, told};

/// Where the component comes from.
pub enum Source {
    /// The plugin of `tests/hostile`, told to do it when it meets the poison.
    On(&'static str),
    /// The same, told to do it in every call.
    Always(&'static str),
    /// The same, with that configuration.
    Told(&'static str),
    /// Bytes; its configuration is empty.
    Bytes(Box<dyn FnOnce() -> Vec<u8> + Send>),
}

/// What must become of it.
#[derive(Clone, Copy)]
pub enum Fate {
    /// Not even loaded; the message says so.
    Refused(&'static str),
    /// Loaded, but not opened; the message says so.
    Unopened(&'static str),
    /// The poison row is a dead letter with that code; its neighbours, the other pipeline and the next batch are
    /// answered as ever.
    RowDies(&'static str),
    /// Every row of every batch is a dead letter, of that code or because the budget is spent.
    AllDie(&'static str),
    /// As `AllDie`, from that offset on; before it everything is answered.
    AllDieFrom(usize, &'static str),
    /// Every row is answered as by a plugin that behaves.
    Serves,
    /// Every row is answered, and not as by a plugin that behaves: only its own pipeline is lied to.
    Lies,
}

pub struct Case {
    pub name: &'static str,
    pub place: Place,
    pub source: Source,
    pub fate: Fate,
    pub limits: Limits,
    /// Batches that it processes.
    pub batches: usize,
}

/// Time of one call: many cases wait for it several times.
const DEADLINE: Duration = Duration::from_millis(300);

impl Case {
    pub fn new(place: Place, name: &'static str, source: Source, fate: Fate) -> Self {
        Self { name, place, source, fate, limits: Limits { deadline: DEADLINE, ..Limits::default() }, batches: 2 }
    }

    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.deadline = deadline;
        self
    }

    /// Of the plugin, bytes.
    pub fn memory(mut self, memory: usize) -> Self {
        self.limits.memory = memory;
        self
    }

    pub fn batches(mut self, batches: usize) -> Self {
        self.batches = batches;
        self
    }

    /// What became of it, for the table.
    pub fn run(self) -> Result<String> {
        let mut neighbour = Lane::peaceful(self.place).context("the neighbour")?;
        ensure!(neighbour.process(&batch(0, ROWS, true))? == expected(self.place, 0, ROWS, true), "before");
        let outcome = Self::meet(self.place, self.source, self.fate, self.limits, self.batches, &mut neighbour)?;
        ensure!(neighbour.process(&batch(0, ROWS, true))? == expected(self.place, 0, ROWS, true), "afterwards");
        Ok(outcome)
    }

    fn meet(
        place: Place,
        source: Source,
        fate: Fate,
        limits: Limits,
        batches: usize,
        neighbour: &mut Lane,
    ) -> Result<String> {
        let (plugin, config) = match source {
            Source::Bytes(bytes) => (Plugin::load(&ENGINE, "hostile", &bytes()).map(Arc::new), "{}".to_owned()),
            Source::Told(config) => (told(place), config.to_owned()),
            Source::Always(what) => (told(place), format!(r#"{{"do":"{what}"}}"#)),
            Source::On(what) => {
                let quote = if place == Place::Classifier { "" } else { "\"" };
                (told(place), format!(r#"{{"do":"{what}","on":{quote}{POISON_VALUE}{quote}}}"#))
            }
        };
        let plugin = match (plugin, fate) {
            (Err(error), Fate::Refused(why)) => return says("refused", &error, why),
            (Err(error), _) => return Err(error.context("it was refused")),
            (Ok(_), Fate::Refused(_)) => bail!("it was not refused"),
            (Ok(plugin), _) => plugin,
        };
        let mut lane = match (Lane::open(place, plugin, &config, limits), fate) {
            (Err(error), Fate::Unopened(why)) => return says("not opened", &error, why),
            (Err(error), _) => return Err(error.context("it was not opened")),
            (Ok(_), Fate::Unopened(_)) => bail!("it was opened"),
            (Ok(lane), _) => lane,
        };
        let mut lied = false;
        for at in 0..batches {
            let (first, poisoned) = (at * ROWS, at == 0);
            let records = batch(first, ROWS, poisoned);
            let (own, beside) = std::thread::scope(|scope| {
                let beside = scope.spawn(|| neighbour.process(&records));
                (lane.process(&records), beside.join())
            });
            let honest = expected(place, first, ROWS, poisoned);
            let beside = beside.map_err(|_| anyhow::anyhow!("the neighbour panicked"))??;
            ensure!(beside == honest, "batch {at}: the other pipeline answered {beside:?}");
            let own = own?;
            match fate {
                Fate::Lies => {
                    ensure!(own.len() == ROWS && own.iter().all(|(_, answer)| answer.is_ok()), "{own:?}");
                    lied |= own != honest;
                }
                Fate::AllDie(code) => died_from(0, code, &own, &honest, at)?,
                Fate::AllDieFrom(offset, code) => died_from(offset, code, &own, &honest, at)?,
                _ => {
                    let mut due = honest;
                    if let Fate::RowDies(code) = fate
                        && poisoned
                    {
                        due[POISON].1 = Err(code.to_owned());
                    }
                    same(&own, &due, at)?;
                }
            }
        }
        ensure!(lied || !matches!(fate, Fate::Lies), "it did not lie");
        Ok(match fate {
            Fate::RowDies(code) => format!("{code}, one row of {ROWS}"),
            Fate::AllDie(code) => format!("{code}, every row"),
            Fate::AllDieFrom(offset, code) => format!("{code}, every row from offset {offset} on"),
            Fate::Lies => "answers, wrongly".to_owned(),
            _ => "answers as if nothing were".to_owned(),
        })
    }
}

fn says(what: &str, error: &anyhow::Error, why: &str) -> Result<String> {
    let message = format!("{error:#}");
    ensure!(message.contains(why), "the message does not say {why:?}: {message}");
    ensure!(message.len() < 10_000, "the message has {} bytes", message.len());
    Ok(format!("{what}: {why}"))
}

/// From that offset on with that code, or because the budget was spent.
fn died_from(offset: usize, code: &str, own: &Answers, honest: &Answers, at: usize) -> Result<()> {
    let due = |(own, honest): (&Answer, &Answer)| match &own.1 {
        _ if own.0 < offset as i64 => honest.clone(),
        Err(reason) if reason == SPENT => (honest.0, Err(SPENT.to_owned())),
        _ => (honest.0, Err(code.to_owned())),
    };
    ensure!(own.len() == honest.len(), "batch {at}: {own:?}");
    same(own, &own.iter().zip(honest).map(due).collect(), at)
}

fn same(own: &Answers, due: &Answers, at: usize) -> Result<()> {
    ensure!(own.len() == due.len(), "batch {at}: {} answers instead of {}: {own:?}", own.len(), due.len());
    match own.iter().zip(due).find(|(own, due)| own != due) {
        Some((own, due)) => bail!("batch {at}: {own:?} instead of {due:?}"),
        None => Ok(()),
    }
}
