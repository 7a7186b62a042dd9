//! One of the two sides: what it makes of a batch, and what became of each of its records.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::pipeline::Pipeline;
use crate::record::dead_letter::PREFIX;
use crate::record::output::{Output, Outputs};
use crate::record::prediction::{Answered, Given};
use crate::record::{Batch, Origin, Route};
use crate::stream::process::{Forced, Process as _};

/// A side, opened.
pub struct Arm {
    /// `champion` or `candidate`, for messages.
    name: &'static str,
    pipeline: Pipeline,
    /// The names of its classes; `None` where it predicts nothing.
    pub(super) classes: Option<Vec<String>>,
    pub(super) outputs: Outputs,
    /// Records, and the time that they took.
    pub(super) records: u64,
    pub(super) busy: Duration,
}

impl Arm {
    /// `with_predictions` keeps the predictions as they would be written, not only what was answered.
    pub fn new(name: &'static str, mut pipeline: Pipeline, with_predictions: bool) -> Self {
        let classes = pipeline.answer_first(with_predictions);
        Self { name, pipeline, classes, outputs: Outputs::default(), records: 0, busy: Duration::ZERO }
    }

    /// What it makes of a batch; false where that is more than it may be, and the batch is to come again in halves.
    ///
    /// # Errors
    /// When the release fails, and not its records.
    pub(super) fn run(&mut self, batch: &Batch) -> Result<bool> {
        let began = Instant::now();
        self.pipeline.process(batch, &Forced::new(), 0, &mut self.outputs);
        if self.outputs.overflowed {
            return Ok(false);
        }
        self.busy += began.elapsed();
        self.records += batch.len() as u64;
        if let Some(halt) = &self.outputs.halt {
            bail!("the {} fails: {halt}", self.name);
        }
        Ok(true)
    }
}

/// The outputs of a batch by record; records are asked for in the order of their origins, as outputs stand.
pub(super) struct ByRecord<'a> {
    outputs: &'a Outputs,
    rest: &'a [Output],
}

impl<'a> ByRecord<'a> {
    pub(super) fn new(outputs: &'a Outputs) -> Self {
        Self { outputs, rest: &outputs.records }
    }

    /// What became of that record.
    pub(super) fn next(&mut self, origin: Origin) -> Fate<'a> {
        let count = self.rest.iter().take_while(|output| output.origin == origin).count();
        let (records, rest) = self.rest.split_at(count);
        self.rest = rest;
        match records {
            [] => Fate::Dropped,
            [letter, ..] if letter.route == Route::DeadLetters => Fate::Rejected(Rejected { letter }),
            records => Fate::Emitted(Emitted { outputs: self.outputs, records }),
        }
    }
}

/// What became of a record.
#[derive(Clone, Copy)]
pub(super) enum Fate<'a> {
    Emitted(Emitted<'a>),
    Dropped,
    Rejected(Rejected<'a>),
}

/// A record that a stage did not take.
#[derive(Clone, Copy)]
pub(super) struct Rejected<'a> {
    letter: &'a Output,
}

impl Rejected<'_> {
    /// What its dead letter says; the last header of a name is ours.
    fn said(&self, name: &str) -> String {
        let headers = self.letter.headers.iter().flat_map(|headers| headers.iter()).rev();
        let mut ours = headers.filter(|(header, _)| header.strip_prefix(PREFIX) == Some(name));
        let value = ours.next().and_then(|(_, value)| value.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }

    /// `parse not-a-number`.
    pub(super) fn reason(&self) -> String {
        format!("{} {}", self.said("stage"), self.said("reason"))
    }

    pub(super) fn message(&self) -> String {
        self.said("message")
    }
}

/// What a record came to.
#[derive(Clone, Copy)]
pub(super) struct Emitted<'a> {
    outputs: &'a Outputs,
    pub(super) records: &'a [Output],
}

impl<'a> Emitted<'a> {
    /// The predictions among them.
    pub(super) fn predictions(self) -> impl Iterator<Item = Given<'a>> {
        let outputs = self.outputs;
        self.records.iter().filter_map(move |output| given(outputs, output))
    }

    /// Key, value, headers and route, byte for byte.
    pub(super) fn equals(self, other: Emitted<'_>) -> bool {
        self.records.len() == other.records.len()
            && self.records.iter().zip(other.records).all(|(one, two)| {
                let bytes = |side: &Outputs, span: Option<_>| span.map(|span| side.bytes(span).to_owned());
                one.route == two.route
                    && one.headers == two.headers
                    && bytes(self.outputs, one.key) == bytes(other.outputs, two.key)
                    && bytes(self.outputs, one.value) == bytes(other.outputs, two.value)
            })
    }

    /// As `equals`, but for predictions: those are compared by what was answered.
    pub(super) fn equals_beside_predictions(self, other: Emitted<'_>) -> bool {
        let mut ours = self.records.iter().filter(|output| given(self.outputs, output).is_none());
        let mut theirs = other.records.iter().filter(|output| given(other.outputs, output).is_none());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(one), Some(two)) => {
                    let one = Emitted { outputs: self.outputs, records: std::slice::from_ref(one) };
                    let two = Emitted { outputs: other.outputs, records: std::slice::from_ref(two) };
                    if !one.equals(two) {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }

    pub(super) fn value(self, output: &Output) -> Option<&'a [u8]> {
        output.value.map(|value| self.outputs.bytes(value))
    }
}

/// A prediction, if it is one: a tombstone that was passed and what a transform routes elsewhere are none.
fn given<'a>(outputs: &'a Outputs, output: &Output) -> Option<Given<'a>> {
    if output.route != Route::Output {
        return None;
    }
    Answered::read(outputs.bytes(output.value?))
}
