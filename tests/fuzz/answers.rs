//! An answer of a transform against a limit of allocation: few bytes may ask for many copies of large keys and headers.

use std::sync::Arc;
use std::time::Duration;

use sandpiper::config::plan::{Policy, Stamp, Timestamp, Tombstones};
use sandpiper::pipeline::{Pipeline, Settings, TransformStage};
use sandpiper::record::dead_letter::DeadLetterWriter;
use sandpiper::record::output::Outputs;
use sandpiper::record::{Batch, BatchBuilder, Origin, RecordId, Revision, Route, TopicIndex, Topics};
use sandpiper::stream::process::{Forced, Process as _};
use sandpiper_sandbox::stage::Transform;
use sandpiper_sandbox::wit::latest::transform::exports::sandpiper::plugin::transform::Header;
use sandpiper_sandbox::wit::latest::{Emitted, EmittedKey, Rejection, Transformed};
use sandpiper_sandbox::{Failure, FailureKind, answers};

/// Bytes that a batch may come to.
const OUTPUT: usize = 256 << 10;
/// Outputs that the transform names.
const OUTPUTS: usize = 2;

/// Answers what the bytes say about each row: how often it is emitted, with which key and headers, or what breaks the rules.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first)
    }
}

struct ByBytes(Vec<u8>);

impl Transform for ByBytes {
    fn transform(&mut self, batch: &Batch, _: Duration) -> Result<Transformed, Failure> {
        let answer = answer(&self.0, batch);
        // As the stage of a component does.
        match answers::check_transformed(&answer, batch.len(), OUTPUTS) {
            Ok(()) => Ok(answer),
            Err(message) => {
                assert!(message.len() < 1_024, "{message}");
                Err(Failure { kind: FailureKind::Answer, message, log: String::new() })
            }
        }
    }
}

fn answer(data: &[u8], batch: &Batch) -> Transformed {
    let mut answer = Transformed {
        payload: Vec::new(),
        offsets: vec![0],
        emitted: Vec::new(),
        rejected: Vec::new(),
        dropped: Vec::new(),
    };
    for row in 0..batch.len() as u32 {
        // A row says the same whichever rows stand beside it.
        let offset = batch.rows.get(row as usize).map_or(0, |row| row.origin.offset as usize);
        let mut bytes = Bytes(data.get(1 + offset * 6..).unwrap_or_default());
        let (what, count) = (bytes.next(), bytes.next() * bytes.next());
        let (value, headers, name) = (bytes.next(), bytes.next(), bytes.next());
        if what % 16 == 15 {
            answer.rejected.push(Rejection {
                row: row + u32::from(what == 31),
                code: "no".into(),
                message: String::new(),
            });
            continue;
        }
        let header = Header { name: "n".repeat(name * 2), value: None };
        let emitted = Emitted {
            source_row: row,
            output: (what / 16 % 3) as u32,
            key: if what % 2 == 0 { EmittedKey::Input } else { EmittedKey::Bytes(vec![b'k'; what]) },
            headers: vec![header; headers % 8],
            tombstone: what % 5 == 4,
        };
        for _ in 0..count.min(4_096) {
            answer.payload.resize(answer.payload.len() + if emitted.tombstone { 0 } else { value % 32 }, b'v');
            answer.offsets.push(answer.payload.len() as u32);
            answer.emitted.push(emitted.clone());
        }
    }
    answer
}

fn size(answer: &Transformed) -> usize {
    let headers = answer.emitted.iter().flat_map(|emitted| &emitted.headers);
    let names: usize = headers.map(|header| header.name.len() + size_of::<Header>()).sum();
    answer.payload.len() + answer.offsets.len() * 4 + answer.emitted.len() * (size_of::<Emitted>() + 32) + names
}

pub fn enter(data: &[u8]) {
    let mut builder = BatchBuilder::new(Topics::new(["in"]));
    let rows = i64::from(data.first().copied().unwrap_or_default() % 8);
    for offset in 0..rows {
        // The keys are what a small answer makes large.
        let key = vec![b'k'; 1_000 * offset as usize];
        let headers = (offset % 3 == 2).then(|| Box::new(vec![("h".repeat(500), Some(vec![0; 500])); 10]));
        builder.push(
            Origin { topic: TopicIndex::FIRST, partition: 0, offset },
            None,
            Some(&key),
            Some(b"value"),
            headers,
        );
    }
    let batch = builder.finish();
    let settings = Settings {
        id: RecordId::Position,
        tombstones: Tombstones::Pass,
        stamp: Stamp::Header,
        timestamp: Timestamp::Input,
        deadline: Duration::from_secs(60),
        budget: Duration::from_secs(60),
        max_value: 1 << 20,
        max_output: OUTPUT,
        max_key: 1 << 20,
        max_headers: 1_000,
        max_header_bytes: 1 << 20,
        rejected: Policy::DeadLetter,
        failed: Policy::DeadLetter,
        dead_letters: DeadLetterWriter { pipeline: "fuzz".into(), instance: "here".into() },
    };
    let stage = TransformStage {
        stage: Box::new(ByBytes(data.to_vec())),
        name: "transform[0]".into(),
        release: "fuzz".into(),
        routes: vec![None, Some(Route::Named(0))],
        challenger: None,
    };
    let asked = size(&answer(data, &batch));
    let mut pipeline = Pipeline::new(Revision::FIRST, Arc::new(settings), vec![stage], None);
    // What the answer itself holds may be there twice while it grows, what comes of it three times on its way.
    let limit = 4 * asked + 6 * OUTPUT + (1 << 20);
    process(&mut pipeline, &batch, limit);
}

fn process(pipeline: &mut Pipeline, batch: &Batch, limit: usize) {
    let mut outputs = Outputs::default();
    let before = super::allocation::current();
    super::allocation::reset_peak();
    pipeline.process(batch, &Forced::new(), 0, &mut outputs);
    let taken = super::allocation::peak().saturating_sub(before);
    assert!(taken <= limit, "{taken} bytes were allocated, more than {limit}");
    if outputs.overflowed {
        assert!(batch.len() > 1 && outputs.records.is_empty(), "a record alone cannot be taken in halves");
        let middle = batch.len() / 2;
        process(pipeline, &batch.select(0..middle), limit);
        process(pipeline, &batch.select(middle..batch.len()), limit);
        return;
    }
    let counts = &outputs.counts;
    let dead: u64 = counts.dead_letters.values().sum();
    assert_eq!(counts.emitted + counts.dropped + dead, batch.len() as u64, "each record has one outcome");
}
