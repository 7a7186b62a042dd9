//! Stages whose answers a record's own text decides, so that a test needs no component.

use std::sync::Arc;
use std::time::Duration;

use super::{ModelStage, Pipeline, Settings, TransformStage};
use crate::config::plan::{Policy, Stamp, Timestamp, Tombstones};
use crate::record::dead_letter::DeadLetterWriter;
use crate::record::prediction::{Arm, Writer};
use crate::record::{Batch, RecordId, Revision, Role, Route};
use sandpiper_sandbox::stage::{Classify, Parse, Transform};
use sandpiper_sandbox::wit::latest::{
    Column, Emitted, EmittedKey, Kind, Matrix, Parsed, Predictions, Rejection, Signature, Transformed,
};
use sandpiper_sandbox::{Digest, Failure, FailureKind};

/// Bytes of the largest value that the fake pipelines take.
pub(crate) const MAX_VALUE: usize = 1_000;
/// Bytes that a batch may come to in the fake pipelines.
pub(crate) const MAX_OUTPUT: usize = 1 << 20;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

pub(crate) fn settings() -> Settings {
    Settings {
        id: RecordId::Position,
        tombstones: Tombstones::DeadLetter,
        stamp: Stamp::Header,
        timestamp: Timestamp::Input,
        deadline: LONG,
        budget: LONG,
        max_value: MAX_VALUE,
        max_output: MAX_OUTPUT,
        max_key: 1 << 20,
        max_headers: 1_000,
        max_header_bytes: 1 << 20,
        rejected: Policy::DeadLetter,
        failed: Policy::DeadLetter,
        dead_letters: DeadLetterWriter { pipeline: "fake".into(), instance: "here".into() },
    }
}

/// A revision by its number, which is not 0.
pub(crate) fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

/// A pipeline without any stage: what comes in goes out, stamped with the revision.
pub(crate) fn passing(number: u64) -> Pipeline {
    Pipeline::new(revision(number), Arc::new(settings()), Vec::new(), None)
}

pub(crate) fn trap(message: &str) -> Failure {
    Failure { kind: FailureKind::Trap, message: message.into(), log: "the last words".into() }
}

pub(crate) fn rejection(row: usize, code: &str) -> Rejection {
    Rejection { row: row as u32, code: code.into(), message: format!("row {row} is rejected") }
}

/// A value as text; null and empty are both empty.
fn text(batch: &Batch, row: usize) -> String {
    String::from_utf8_lossy(batch.bytes(row).unwrap_or_default()).into_owned()
}

/// Parses `1,2,3`. `reject` and `drop` are what becomes of a row; `poison` fails the whole call.
pub(crate) struct Numbers {
    pub columns: usize,
}

impl Parse for Numbers {
    fn parse(&mut self, batch: &Batch, _deadline: Duration) -> Result<Parsed, Failure> {
        let rows = Matrix { columns: self.columns as u32, values: Vec::new() };
        let mut parsed = Parsed { rows, rejected: Vec::new(), dropped: Vec::new() };
        for row in 0..batch.len() {
            let text = text(batch, row);
            match text.as_str() {
                "poison" => return Err(trap("the parser met poison")),
                "reject" => parsed.rejected.push(rejection(row, "bad-number")),
                "drop" => parsed.dropped.push(row as u32),
                _ => {
                    parsed.rows.values.extend(text.split(',').map(|cell| cell.parse::<f32>().unwrap()));
                    continue;
                }
            }
            parsed.rows.values.extend(vec![f32::NAN; self.columns]);
        }
        Ok(parsed)
    }
}

/// The first cell above which a row is rejected by the classifier,
pub(crate) const REJECTED: f32 = 100.0;
/// and above which it fails the whole call.
pub(crate) const POISON: f32 = 200.0;

/// Takes the first cell for the class.
pub(crate) struct FirstCell {
    pub classes: usize,
}

impl Classify for FirstCell {
    fn classify(&mut self, rows: &Matrix, _deadline: Duration) -> Result<Predictions, Failure> {
        let mut answer = Predictions { labels: Vec::new(), scores: Vec::new(), rejected: Vec::new() };
        for (row, cells) in rows.values.chunks_exact(rows.columns as usize).enumerate() {
            if cells[0] >= POISON {
                return Err(trap("the classifier met poison"));
            }
            if cells[0] >= REJECTED {
                answer.rejected.push(rejection(row, "out-of-domain"));
            }
            let label = cells[0] as usize;
            answer.labels.push(label as u32);
            answer.scores.extend((0..self.classes).map(|class| if class == label { 1.0 } else { 0.0 }));
        }
        Ok(answer)
    }
}

/// The champion of that revision, with all that a value can be stamped with.
pub(crate) fn champion(number: u64) -> Arm {
    Arm { role: Role::Champion, revision: revision(number), release: Digest::of(b"champion"), stamped: true }
}

/// Parses `columns` and classifies into `cat`, `dog` and `cow` by the column `class`, the first that the classifier
/// wants. `gather` as `ModelStage` has it.
pub(crate) fn model(number: u64, columns: usize, wanted: &[&str], gather: Option<Vec<usize>>) -> ModelStage {
    let column = |name: &&str| Column { name: (*name).into(), kind: Kind::Number };
    let classes = vec!["cat".to_owned(), "dog".into(), "cow".into()];
    let signature = Signature { columns: wanted.iter().map(column).collect(), classes };
    ModelStage {
        parser: Box::new(Numbers { columns }),
        parser_release: "parser-1".into(),
        classifier: Box::new(FirstCell { classes: 3 }),
        classifier_release: "classifier-1".into(),
        gather,
        columns: wanted.len() as u32,
        classes: 3,
        writer: Writer::new(&signature, 0.0, &champion(number)),
        challenger: None,
        behind_challenger: None,
    }
}

/// What a fake transform makes of one row.
pub(crate) enum Fate {
    Emit(Vec<Part>),
    Reject,
    Drop,
    /// Fails the whole call.
    Poison,
}

/// One record that a transform emits.
pub(crate) struct Part {
    pub output: u32,
    pub key: EmittedKey,
    /// `None` is a tombstone.
    pub value: Option<String>,
    pub header: Option<(&'static str, &'static str)>,
}

/// To that output, with the input's key.
pub(crate) fn to(output: u32, value: impl Into<String>) -> Part {
    Part { output, key: EmittedKey::Input, value: Some(value.into()), header: None }
}

/// A transform as a closure from a row's text to its fate.
struct ByText<F>(F);

impl<F: FnMut(&str) -> Fate + Send> Transform for ByText<F> {
    fn transform(&mut self, batch: &Batch, _deadline: Duration) -> Result<Transformed, Failure> {
        use sandpiper_sandbox::wit::latest::transform::exports::sandpiper::plugin::transform::Header;
        let mut answer = Transformed {
            payload: Vec::new(),
            offsets: vec![0],
            emitted: Vec::new(),
            rejected: Vec::new(),
            dropped: Vec::new(),
        };
        for row in 0..batch.len() {
            match (self.0)(&text(batch, row)) {
                Fate::Poison => return Err(trap("the transform met poison")),
                Fate::Reject => answer.rejected.push(rejection(row, "unwanted")),
                Fate::Drop => answer.dropped.push(row as u32),
                Fate::Emit(parts) => {
                    for part in parts {
                        let header =
                            |(name, value): (&str, &str)| Header { name: name.into(), value: Some(value.into()) };
                        answer.payload.extend_from_slice(part.value.as_deref().unwrap_or_default().as_bytes());
                        answer.offsets.push(answer.payload.len() as u32);
                        answer.emitted.push(Emitted {
                            source_row: row as u32,
                            output: part.output,
                            key: part.key,
                            headers: part.header.map(header).into_iter().collect(),
                            tombstone: part.value.is_none(),
                        });
                    }
                }
            }
        }
        Ok(answer)
    }
}

/// `routes` as `TransformStage` has them.
pub(crate) fn transform(
    name: &str,
    routes: &[Option<Route>],
    fate: impl FnMut(&str) -> Fate + Send + 'static,
) -> TransformStage {
    TransformStage {
        stage: Box::new(ByText(fate)),
        name: name.into(),
        release: format!("{name}-1"),
        routes: routes.to_vec(),
        challenger: None,
    }
}
