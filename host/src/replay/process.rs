//! Dead letters through a pipeline once more: what was selected, each once, under the record's own id and origin.
//!
//! A replay is a worker whose input is the dead-letter topic. What becomes of a letter and a note that it was replayed are
//! one transaction, so that no later replay takes it again; it is never written back into the pipeline's input.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::letter::{Found, Letter, REPLAYED};
use super::scan::Scan;
use super::{Places, Selection, scan};
use crate::config::plan::Plan;
use crate::pipeline::Pipeline;
use crate::record::dead_letter::PREFIX;
use crate::record::output::{Output, Outputs};
use crate::record::{Batch, BatchBuilder, Origin, Route, Topics};
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Process};
use crate::stream::source::{Position, TopicPartition};
use crate::stream::state::{self, Restored};
use crate::stream::stop::Stop;
use sandpiper_sandbox::batch::size_of_headers;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default)]
    pub selection: Selection,
    /// Only say what would become of them.
    #[serde(default)]
    pub dry_run: bool,
    /// Letters a second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// A letter that was tried as often is left alone.
    pub max_attempts: u32,
}

/// How far a replay is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub running: bool,
    /// Letters that were found to be meant, and are not replayed yet.
    pub selected: u64,
    /// Left alone: replayed before, tried too often, or without their value.
    pub replayed_before: u64,
    pub tried_too_often: u64,
    pub without_value: u64,
    /// Written by somebody else.
    pub foreign: u64,
    /// Offsets of the topic that were looked at, before letters are replayed; each twice.
    #[serde(default)]
    pub read: u64,
    #[serde(default)]
    pub to_read: u64,
    /// What became of those that are done.
    pub emitted: u64,
    pub dropped: u64,
    /// By reason.
    pub dead_letters: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Progress {
    pub fn done(&self) -> u64 {
        self.emitted + self.dropped + self.dead_letters.values().sum::<u64>()
    }
}

/// A replay that runs or has run, as the control plane sees it.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Progress>>);

impl Shared {
    pub fn latest(&self) -> Progress {
        self.locked().clone()
    }

    /// Claims it for a new replay; false while one runs.
    pub fn begin(&self) -> bool {
        let mut progress = self.locked();
        if progress.running {
            return false;
        }
        *progress = Progress { running: true, ..Progress::default() };
        true
    }

    pub fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.locked());
    }

    fn locked(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a replay is about, as the topic was when it was read for it.
pub struct Selected {
    pub progress: Progress,
    pub letters: Letters,
}

/// Which letters are taken.
#[derive(Clone, Debug, Default)]
pub struct Letters {
    selection: Selection,
    max_attempts: u32,
    replayed: Places,
    /// By partition, the last letter that is taken: those behind were written since.
    last: BTreeMap<i32, i64>,
}

impl Letters {
    fn takes(&self, letter: &Letter) -> bool {
        let (partition, offset) = letter.at;
        self.selection.takes(letter)
            && self.last.get(&partition).is_some_and(|last| offset <= *last)
            && !self.replayed.contains(&letter.at)
            && letter.facts.attempts < self.max_attempts
            && letter.facts.is_whole()
    }
}

/// Reads the topic for the letters that are meant, and whether this pipeline can take them; `each` is given those, one at a
/// time. The topic is read twice, since a note stands behind its letter: it may hold more than there is memory. `step` is told
/// how far that is, and ends it by answering false.
///
/// # Errors
/// When the topic cannot be read, or a letter is of a stage that the pipeline does not have.
pub fn select(
    plan: &Plan,
    request: &Request,
    mut step: impl FnMut(&Progress) -> bool,
    mut each: impl FnMut(Letter, &mut Progress),
) -> Result<Selected> {
    let mut letters =
        Letters { selection: request.selection.clone(), max_attempts: request.max_attempts, ..Letters::default() };
    let progress = std::cell::RefCell::new(Progress::default());
    let announce = |wait: &str| tracing::info!(pipeline = %plan.name, "{wait}");
    let mut tell = |pass: u64, reached: crate::kafka::reader::Progress| {
        let mut progress = progress.borrow_mut();
        (progress.read, progress.to_read) = (pass * reached.whole + reached.read, 2 * reached.whole);
        step(&progress)
    };
    scan(
        plan,
        announce,
        |reached| tell(0, reached),
        |_, found| match found {
            Found::Replayed(at) => letters.replayed.insert(at),
            Found::Foreign(_) => progress.borrow_mut().foreign += 1,
            Found::Letter(_) => {}
        },
    )?;
    let mut misfit = Ok(());
    scan(
        plan,
        announce,
        |reached| tell(1, reached),
        |_, found| {
            let Found::Letter(letter) = found else { return };
            if misfit.is_err() || !letters.selection.takes(&letter) {
                return;
            }
            let progress = &mut *progress.borrow_mut();
            if letters.replayed.contains(&letter.at) {
                progress.replayed_before += 1;
            } else if letter.facts.attempts >= request.max_attempts {
                progress.tried_too_often += 1;
            } else if !letter.facts.is_whole() {
                progress.without_value += 1;
            } else {
                misfit = fits(plan, &letter);
                progress.selected += 1;
                let (partition, offset) = letter.at;
                letters.last.insert(partition, offset);
                each(*letter, progress);
            }
        },
    )?;
    misfit?;
    Ok(Selected { progress: progress.into_inner(), letters })
}

/// Whether the pipeline can take a letter.
fn fits(plan: &Plan, letter: &Letter) -> Result<()> {
    let ((partition, offset), facts) = (letter.at, &letter.facts);
    if facts.pipeline != plan.name {
        bail!(
            "letter {partition}@{offset} is of pipeline {:?}, and this is {:?}; leave it out by --stage, --reason or --at",
            facts.pipeline,
            plan.name
        );
    }
    let mut stages = vec!["input".to_owned(), "output".into()];
    stages.extend((0..plan.transforms.len()).map(|at| format!("transform[{at}]")));
    if plan.classify.is_some() {
        stages.extend(["parse".into(), "classify".into()]);
    }
    if !stages.contains(&facts.stage) {
        bail!(
            "letter {partition}@{offset} is of stage {}, which a replay of pipeline {} does not have; it has {}; leave it \
             out by --stage, --reason or --at",
            facts.stage,
            plan.name,
            stages.join(", ")
        );
    }
    Ok(())
}

/// The process of a replay's worker.
pub struct Replay {
    pipeline: Pipeline,
    plan: Arc<Plan>,
    /// Partitions that are not read before the notes are known that were committed before this replay's producer fenced any
    /// other's: no letter is taken twice, whoever asks.
    restoring: BTreeSet<TopicPartition>,
    notes: Option<Scan>,
    letters: Letters,
    /// The original records', as they are met.
    topics: Topics,
    progress: Shared,
    /// Counts of the open transaction, and how far it goes by partition.
    staged: Progress,
    seen: BTreeMap<i32, i64>,
    done: BTreeMap<i32, i64>,
    stop: Stop,
    rate: Option<u32>,
}

impl Replay {
    pub fn new(
        pipeline: Pipeline,
        plan: Arc<Plan>,
        letters: Letters,
        progress: Shared,
        stop: Stop,
        rate: Option<u32>,
    ) -> Self {
        Self {
            pipeline,
            plan,
            restoring: BTreeSet::new(),
            notes: None,
            letters,
            topics: Topics::default(),
            progress,
            staged: Progress::default(),
            seen: BTreeMap::new(),
            done: BTreeMap::new(),
            stop,
            rate,
        }
    }

    /// Whether or not the last letter that was taken is still there.
    fn stop_when_done(&self) {
        let reached = |(partition, last): (&i32, &i64)| self.done.get(partition).is_some_and(|done| done >= last);
        if self.letters.last.iter().all(reached) {
            self.stop.set();
        }
    }
}

/// Takes letters through a pipeline as the records that they were.
fn process(
    pipeline: &mut Pipeline,
    topics: &mut Topics,
    letters: &[Letter],
    forced: &Forced,
    now: i64,
    outputs: &mut Outputs,
) {
    let origins: Vec<Origin> = letters
        .iter()
        .map(|letter| {
            let facts = &letter.facts;
            Origin { topic: topics.add(&facts.topic), partition: facts.partition, offset: facts.offset }
        })
        .collect();
    let mut builder = BatchBuilder::new(topics.clone());
    for (letter, origin) in letters.iter().zip(&origins) {
        let headers = if letter.headers.is_empty() { None } else { Some(Box::new(letter.headers.clone())) };
        builder.push(*origin, letter.facts.timestamp, letter.key.as_deref(), letter.value.as_deref(), headers);
    }
    pipeline.process(&builder.finish(), forced, now, outputs);
    if outputs.overflowed {
        return;
    }
    let attempts: HashMap<Origin, u32> =
        origins.iter().zip(letters).map(|(origin, letter)| (*origin, letter.facts.attempts + 1)).collect();
    let name = format!("{PREFIX}attempts");
    for output in outputs.records.iter_mut().filter(|output| output.route == Route::DeadLetters) {
        let Some(attempts) = attempts.get(&output.origin) else { continue };
        let headers = output.headers.iter_mut().flat_map(|headers| headers.iter_mut());
        if let Some((_, value)) = headers.rev().find(|(header, _)| *header == name) {
            *value = Some(attempts.to_string().into_bytes());
        }
    }
    // Behind all outcomes: the note that each letter has had its turn.
    for (letter, origin) in letters.iter().zip(origins) {
        let (partition, offset) = letter.at;
        let place = format!("{partition}@{offset}").into_bytes();
        // A key that no topic refuses: the letter's may be null, or large.
        let key = Some(outputs.put(&place));
        let headers = Some(Box::new(vec![(REPLAYED.to_owned(), Some(place))]));
        outputs.records.push(Output {
            origin,
            route: Route::DeadLetters,
            key,
            value: None,
            timestamp: None,
            headers,
            last_resort: false,
        });
    }
}

/// What would become of the letters that are meant. A batch of them is kept at a time.
///
/// # Errors
/// As `select`'s.
pub fn rehearse(
    pipeline: &mut Pipeline,
    plan: &Plan,
    request: &Request,
    step: impl FnMut(&Progress) -> bool,
) -> Result<Progress> {
    let mut rehearsal = Rehearsal { pipeline, letters: Vec::new(), size: 0 };
    let Selected { mut progress, .. } =
        select(plan, request, step, |letter, progress| rehearsal.add(letter, plan.limits.batch_bytes, progress))?;
    rehearsal.process(&mut progress);
    Ok(progress)
}

struct Rehearsal<'a> {
    pipeline: &'a mut Pipeline,
    letters: Vec<Letter>,
    /// Bytes of them.
    size: usize,
}

impl Rehearsal<'_> {
    fn add(&mut self, letter: Letter, most: usize, progress: &mut Progress) {
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let added = size(&letter.key) + size(&letter.value) + size_of_headers(&letter.headers);
        if self.letters.len() >= 1_024 || self.size + added > most {
            self.process(progress);
        }
        self.size += added;
        self.letters.push(letter);
    }

    fn process(&mut self, progress: &mut Progress) {
        let letters = std::mem::take(&mut self.letters);
        self.size = 0;
        if letters.is_empty() || progress.error.is_some() {
            return;
        }
        let mut outputs = Outputs::default();
        let mut waiting = vec![letters.as_slice()];
        while let Some(letters) = waiting.pop() {
            process(self.pipeline, &mut Topics::default(), letters, &Forced::new(), 0, &mut outputs);
            if outputs.overflowed {
                let (first, second) = letters.split_at(letters.len() / 2);
                waiting.extend([second, first]);
                continue;
            }
            count(progress, &outputs);
            if let Some(halt) = outputs.halt.take() {
                progress.error = Some(halt.to_string());
                return;
            }
        }
    }
}

fn count(progress: &mut Progress, outputs: &Outputs) {
    progress.emitted += outputs.counts.emitted;
    progress.dropped += outputs.counts.dropped;
    for (reason, count) in &outputs.counts.dead_letters {
        *progress.dead_letters.entry(reason.clone()).or_default() += count;
    }
}

impl Process for Replay {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.restoring.extend(partitions);
        self.notes = None;
    }

    fn restore(&mut self, wait: Duration) -> Result<Restored, Fault> {
        if self.restoring.is_empty() {
            return Ok(Restored::default());
        }
        let unread = |error: anyhow::Error| Fault::Unknown(format!("the notes of earlier replays: {error:#}"));
        if self.notes.is_none() {
            self.notes = Some(Scan::open(&self.plan).map_err(unread)?);
        }
        let Some(scan) = &mut self.notes else { return Ok(Restored::default()) };
        let (name, replayed) = (&self.plan.name, &mut self.letters.replayed);
        let mut take = |_, found| {
            if let Found::Replayed(at) = found {
                replayed.insert(at);
            }
        };
        if scan.step(wait, &mut |wait| tracing::info!(pipeline = %name, "{wait}"), &mut take).map_err(unread)? {
            self.restoring.clear();
            self.notes = None;
            return Ok(Restored::default());
        }
        let reached = scan.progress();
        let progress = state::Progress { done: reached.read, of: reached.whole };
        Ok(Restored { left: self.restoring.iter().map(|partition| (*partition, progress)).collect() })
    }

    fn unassigned(&mut self, partitions: &[TopicPartition]) {
        self.restoring.retain(|partition| !partitions.contains(partition));
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        let mut letters = Vec::new();
        for (at, row) in batch.rows.iter().enumerate() {
            let place = (row.origin.partition, row.origin.offset);
            let none = Vec::new();
            let headers = row.headers.as_deref().unwrap_or(&none);
            if let Found::Letter(letter) = Found::read(place, batch.rows.key(row), batch.value(at), headers)
                && self.letters.takes(&letter)
            {
                letters.push(*letter);
            }
        }
        process(&mut self.pipeline, &mut self.topics, &letters, forced, now, outputs);
        if outputs.overflowed {
            return;
        }
        self.seen.extend(batch.rows.iter().map(|row| (row.origin.partition, row.origin.offset)));
        count(&mut self.staged, outputs);
        if let Some(rate) = self.rate {
            // Batches hold a few letters then: docs/cli.md.
            std::thread::sleep(Duration::from_secs_f64(letters.len() as f64 / f64::from(rate.max(1))));
        }
    }

    fn topics(&self) -> Option<&Topics> {
        Some(&self.topics)
    }

    fn at_end(&mut self, end: Position) {
        let read = (end.partition.partition, end.offset - 1);
        if self.seen.is_empty() {
            self.done.extend([read]);
            self.stop_when_done();
        } else {
            // What stands before it is not committed yet.
            self.seen.extend([read]);
        }
    }

    fn committed(&mut self) {
        self.pipeline.committed();
        let staged = std::mem::take(&mut self.staged);
        self.progress.change(|progress| {
            progress.emitted += staged.emitted;
            progress.dropped += staged.dropped;
            for (reason, count) in staged.dead_letters {
                *progress.dead_letters.entry(reason).or_default() += count;
            }
        });
        self.done.append(&mut self.seen);
        self.stop_when_done();
    }

    fn aborted(&mut self) {
        self.pipeline.aborted();
        self.staged = Progress::default();
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::written;
    use super::*;
    use crate::pipeline::fakes;
    use crate::record::TopicIndex;

    /// A letter at that offset of partition 3, of the record 2@40.
    fn letter(offset: i64, value: &str) -> Letter {
        let headers = written(vec![("own".into(), None)], "parse");
        match Found::read((3, offset), Some(b"k"), Some(value.as_bytes()), &headers) {
            Found::Letter(letter) => *letter,
            other => panic!("{other:?}"),
        }
    }

    fn pipeline() -> Pipeline {
        let model = fakes::model(18, 1, &["x"], None);
        Pipeline::new(fakes::revision(18), fakes::settings().into(), Vec::new(), Some(model))
    }

    fn header<'a>(output: &'a Output, name: &str) -> Option<&'a str> {
        let (_, value) = output.headers.as_ref()?.iter().rev().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    #[test]
    fn a_letter_goes_through_as_the_record_that_it_was_and_a_note_says_so() {
        let mut outputs = Outputs::default();
        process(&mut pipeline(), &mut Topics::default(), &[letter(9, "1")], &Forced::new(), 0, &mut outputs);
        let [out, note] = outputs.records.as_slice() else { panic!("{:?}", outputs.records) };
        assert_eq!((out.route, out.timestamp), (Route::Output, Some(7)));
        assert_eq!((out.origin.partition, out.origin.offset), (2, 40));
        assert!(String::from_utf8_lossy(outputs.bytes(out.value.unwrap())).contains("in/2@40"));
        assert_eq!(header(out, "__sandpiper.errors.topic"), None, "only the record's own headers go on");
        assert_eq!((note.route, header(note, REPLAYED)), (Route::DeadLetters, Some("3@9")));
    }

    #[test]
    fn a_letter_that_fails_again_is_a_new_letter_with_one_more_attempt() {
        let mut outputs = Outputs::default();
        process(&mut pipeline(), &mut Topics::default(), &[letter(9, "poison")], &Forced::new(), 0, &mut outputs);
        let again = &outputs.records[0];
        assert_eq!((again.route, header(again, "__sandpiper.errors.attempts")), (Route::DeadLetters, Some("2")));
        assert_eq!(header(again, "__sandpiper.errors.offset"), Some("40"));
        assert_eq!(header(&outputs.records[1], REPLAYED), Some("3@9"));
    }

    fn taken(last: i64) -> Letters {
        Letters { max_attempts: 5, last: [(3, last)].into(), ..Letters::default() }
    }

    #[test]
    fn a_letter_is_taken_once_and_only_up_to_where_the_replay_began() {
        let mut letters = taken(9);
        assert!(letters.takes(&letter(9, "1")));
        assert!(!letters.takes(&letter(10, "1")), "written since");
        letters.replayed.insert((3, 9));
        assert!(!letters.takes(&letter(9, "1")));
        assert!(!Letters { max_attempts: 1, ..taken(9) }.takes(&letter(9, "1")), "tried too often");
    }

    /// Of the letters up to 9 of partition 3.
    fn replay() -> (Replay, Shared, Stop) {
        let (progress, stop) = (Shared::default(), Stop::default());
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.toml");
        let plan = crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap();
        (Replay::new(pipeline(), plan.into(), taken(9), progress.clone(), stop.clone(), None), progress, stop)
    }

    /// The letter at that offset as it is read.
    fn read(offset: i64) -> Batch {
        let mut builder = BatchBuilder::new(Topics::new(["dead"]));
        let headers = Some(Box::new(written(Vec::new(), "parse")));
        builder.push(Origin { topic: TopicIndex::FIRST, partition: 3, offset }, None, Some(b"k"), Some(b"1"), headers);
        builder.finish()
    }

    fn end(partition: i32, offset: i64) -> Position {
        Position { partition: TopicPartition { topic: TopicIndex::FIRST, partition }, offset }
    }

    #[test]
    fn a_replay_ends_at_the_end_of_its_partition_though_its_last_letter_is_gone() {
        let (mut replay, progress, stop) = replay();
        replay.process(&read(8), &Forced::new(), 0, &mut Outputs::default());
        replay.at_end(end(3, 10));
        assert!(!stop.is_set(), "what was read before is not committed yet");
        replay.committed();
        assert_eq!((progress.latest().emitted, stop.is_set()), (1, true));
    }

    #[test]
    fn a_replay_of_which_nothing_is_left_ends_without_a_transaction() {
        let (mut replay, _, stop) = self::replay();
        replay.at_end(end(2, 10));
        replay.at_end(end(3, 9));
        assert!(!stop.is_set(), "the last letter may still come");
        replay.at_end(end(3, 12));
        assert!(stop.is_set());
    }

    #[test]
    fn an_end_that_was_met_in_a_transaction_that_aborts_is_met_once_more() {
        let (mut replay, _, stop) = self::replay();
        replay.process(&read(8), &Forced::new(), 0, &mut Outputs::default());
        replay.at_end(end(3, 10));
        replay.aborted();
        replay.committed();
        assert!(!stop.is_set());
    }

    #[test]
    fn a_replay_ends_when_its_last_letter_is_committed_and_an_abort_counts_nothing() {
        let (mut replay, progress, stop) = replay();
        let (batch, mut outputs) = (read(9), Outputs::default());
        replay.process(&batch, &Forced::new(), 0, &mut outputs);
        replay.aborted();
        replay.committed();
        assert_eq!((progress.latest().done(), stop.is_set()), (0, false));
        replay.process(&batch, &Forced::new(), 0, &mut outputs);
        replay.committed();
        assert_eq!((progress.latest().emitted, stop.is_set()), (1, true));
    }
}
