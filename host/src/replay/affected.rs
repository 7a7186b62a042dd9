//! Which part of a pipeline's input a revision processed, by what its outputs and dead letters say of themselves.
//!
//! The topics are read once, one after the other, and nothing is kept of them but runs of offsets.

mod runs;
mod stamp;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::letter::Found;
use super::wait::{PATIENCE, Wait};
use crate::config::plan::{self, Plan};
use crate::kafka::properties;
use crate::kafka::raw::{HeaderLimits, MessageRef};
use crate::kafka::reader::{Next, Partitions, Progress, ReadFrom, Reader};
use crate::record::Revision;
use runs::Runs;
use stamp::Stamp;

/// How often it is told how far the reading is.
const STEP: Duration = Duration::from_millis(100);
/// Runs that are kept, some 64 bytes each.
const MAX_RUNS: usize = 100_000;

/// What a revision processed.
#[derive(Debug, PartialEq, Serialize)]
pub struct Affected {
    pub pipeline: String,
    pub revision: Revision,
    /// By topic, partition and offset.
    pub ranges: Vec<Range>,
    /// What that was read from.
    pub read: Vec<Span>,
    /// Outputs that say nothing of their origin.
    pub unstamped: u64,
}

/// Records of one input partition, first and last offset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range {
    pub topic: String,
    pub partition: i32,
    pub first: i64,
    pub last: i64,
}

/// What a partition that was read held then: offsets from `from` to before `to`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// Reads what the pipeline wrote, to the ends that its topics have then. `announce` is told what is waited for, and `progress` now
/// and then how far a topic has been read; it ends the reading by answering false.
///
/// # Errors
/// When outputs carry no revision, a topic cannot be read, or there are too many runs to keep.
pub fn find(
    plan: &Plan,
    revision: Revision,
    mut announce: impl FnMut(&str),
    mut progress: impl FnMut(Progress) -> bool,
) -> Result<Affected> {
    let outputs = outputs(plan)?;
    let mut ledger = Ledger::new(plan, revision);
    let dead_letters = plan.errors.dead_letters.as_str();
    // First the letters: when the outputs of a replay come, the letters are known that it took.
    let mut read = read(plan, dead_letters, &mut announce, &mut progress, |message| ledger.add_letter(message))?;
    for topic in outputs {
        let stamp = plan.output.stamp;
        let take = |message: MessageRef<'_>| ledger.add_output(message, stamp);
        read.extend(self::read(plan, topic, &mut announce, &mut progress, take)?);
    }
    Ok(Affected { pipeline: plan.name.clone(), revision, ranges: ledger.ranges(), read, unstamped: ledger.unstamped })
}

/// The topics whose records carry the pipeline's stamp.
fn outputs(plan: &Plan) -> Result<Vec<&str>> {
    let mut topics = vec![plan.output.topic.as_str()];
    match plan.output.stamp {
        plan::Stamp::None => bail!(
            "{}: outputs of pipeline {} carry no revision, since [output] stamp is \"none\": set it to \"header\"{}; what is \
             written from then on can be asked for",
            plan.file.display(),
            plan.name,
            if plan.classify.is_some() { " or \"value\"" } else { "" },
        ),
        // Only predictions are stamped in their value, and they stand there alone.
        plan::Stamp::Value => {}
        plan::Stamp::Header => {
            topics.extend(plan.transforms.iter().flat_map(|transform| transform.outputs.values()).map(String::as_str));
        }
    }
    topics.sort_unstable();
    topics.dedup();
    Ok(topics)
}

/// Shows every committed record of a topic to `take`, and answers what the topic held.
fn read(
    plan: &Plan,
    topic: &str,
    announce: &mut impl FnMut(&str),
    progress: &mut impl FnMut(Progress) -> bool,
    mut take: impl FnMut(MessageRef<'_>) -> Result<()>,
) -> Result<Vec<Span>> {
    let properties = properties::reader(plan, "history");
    let mut reader = Reader::open(&properties, topic, &Partitions::All, &ReadFrom::Beginning, PATIENCE)?;
    let span = |(partition, from, to)| Span { topic: topic.to_owned(), partition, from, to };
    let spans = reader.positions().map(span).collect();
    let mut wait = Wait::new(plan, topic);
    let mut told = Instant::now();
    loop {
        match reader.next_as(STEP, &mut take)? {
            Next::End => return Ok(spans),
            Next::Record(taken) => {
                taken?;
                wait.note_record();
            }
            Next::Trouble(text) => wait.note_trouble(text),
            Next::Idle => wait.note_silence(&reader, announce)?,
        }
        if told.elapsed() >= STEP {
            told = Instant::now();
            if !progress(reader.progress()) {
                bail!("it was stopped");
            }
        }
    }
}

/// The runs of all input partitions.
struct Ledger<'a> {
    plan: &'a Plan,
    wanted: Revision,
    /// By the topic's place in `[input] topics`, and the partition.
    runs: BTreeMap<(usize, i32), Runs>,
    /// Of all of them.
    kept: usize,
    unstamped: u64,
}

impl<'a> Ledger<'a> {
    fn new(plan: &'a Plan, wanted: Revision) -> Self {
        Self { plan, wanted, runs: BTreeMap::new(), kept: 0, unstamped: 0 }
    }

    fn add_letter(&mut self, message: MessageRef<'_>) -> Result<()> {
        let headers = message.headers(HeaderLimits::NONE).ok().flatten().unwrap_or_default();
        // Neither key nor value is looked at: what a letter says of its record stands in its headers.
        let found = Found::read((message.partition(), message.offset()), None, None, &headers);
        let Found::Letter(letter) = found else { return Ok(()) };
        let facts = letter.facts;
        match facts.revision {
            // Pipelines may share the topic of their letters.
            Some(revision) if facts.pipeline == self.plan.name => {
                self.add(&facts.topic, facts.partition, facts.offset, revision)
            }
            // A feedback loop has no revision, and reads no input.
            _ => Ok(()),
        }
    }

    fn add_output(&mut self, message: MessageRef<'_>, stamp: plan::Stamp) -> Result<()> {
        let headers;
        let stamp = match stamp {
            plan::Stamp::Header => {
                headers = message.headers(HeaderLimits::NONE).ok().flatten().unwrap_or_default();
                Stamp::in_headers(&headers)
            }
            plan::Stamp::Value | plan::Stamp::None => message.value().and_then(Stamp::in_value),
        };
        match stamp {
            Some(stamp) => self.add(&stamp.topic, stamp.partition, stamp.offset, stamp.revision),
            None => {
                self.unstamped += 1;
                Ok(())
            }
        }
    }

    /// What another pipeline made of its own input is passed over.
    fn add(&mut self, topic: &str, partition: i32, offset: i64, revision: Revision) -> Result<()> {
        let Some(topic) = self.plan.input.topics.iter().position(|input| input == topic) else { return Ok(()) };
        let runs = self.runs.entry((topic, partition)).or_insert_with(|| Runs::new(self.wanted));
        let before = runs.len();
        runs.add(offset, revision);
        self.kept = self.kept + runs.len() - before;
        if self.kept > MAX_RUNS {
            bail!(
                "what the revisions of pipeline {} processed falls apart into more than {MAX_RUNS} ranges, which are not kept: \
                 dead letters that were replayed are a range each, and another pipeline that writes to {} under the same \
                 revisions makes many; `sandpiper tap {} --from-start -o json` shows every record with its revision",
                self.plan.name,
                self.plan.output.topic,
                self.plan.file.display(),
            );
        }
        Ok(())
    }

    fn ranges(&self) -> Vec<Range> {
        let mut ranges = Vec::new();
        for ((topic, partition), runs) in &self.runs {
            let Some(topic) = self.plan.input.topics.get(*topic) else { continue };
            let range = |(first, last)| Range { topic: topic.clone(), partition: *partition, first, last };
            ranges.extend(runs.ranges().into_iter().map(range));
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> Plan {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name);
        crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap()
    }

    fn revision(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    #[test]
    fn each_partition_of_each_input_has_ranges_of_its_own() {
        let mut plan = example("iris.toml");
        plan.input.topics = vec!["b".into(), "a".into()];
        let mut ledger = Ledger::new(&plan, revision(2));
        for (topic, partition, offset, of) in
            [("a", 0, 5, 2), ("b", 1, 7, 1), ("b", 1, 8, 2), ("b", 0, 3, 2), ("b", 1, 9, 2), ("others", 0, 1, 2)]
        {
            ledger.add(topic, partition, offset, revision(of)).unwrap();
        }
        let range = |topic: &str, partition, first, last| Range { topic: topic.into(), partition, first, last };
        assert_eq!(ledger.ranges(), [range("b", 0, 3, 3), range("b", 1, 8, 9), range("a", 0, 5, 5)]);
    }

    #[test]
    fn more_runs_than_are_kept_end_the_reading_with_the_way_out() {
        let plan = example("iris.toml");
        let mut ledger = Ledger::new(&plan, revision(1));
        let topic = plan.input.topics[0].as_str();
        let mut add = |offset: i64| ledger.add(topic, 0, offset, revision(1 + (offset % 2).unsigned_abs()));
        let kept = i64::try_from(MAX_RUNS).unwrap();
        assert!((0..kept).all(|offset| add(offset).is_ok()));
        let error = add(kept).unwrap_err().to_string();
        assert!(error.contains("more than 100000 ranges") && error.contains("sandpiper tap"), "{error}");
    }

    #[test]
    fn outputs_are_read_where_they_carry_a_stamp_and_without_one_the_fix_is_named() {
        let (iris, mut route) = (example("iris.toml"), example("route.toml"));
        assert_eq!(outputs(&iris).unwrap(), ["iris.predictions"]);
        let named: Vec<&String> = route.transforms.iter().flat_map(|transform| transform.outputs.values()).collect();
        assert!(!named.is_empty());
        let all = outputs(&route).unwrap();
        assert!(named.iter().all(|topic| all.contains(&topic.as_str())) && all.contains(&route.output.topic.as_str()));
        route.output.stamp = plan::Stamp::None;
        let error = outputs(&route).unwrap_err().to_string();
        assert!(error.contains("carry no revision") && error.contains("set it to \"header\";"), "{error}");
        let none = Plan { output: plan::Output { stamp: plan::Stamp::None, ..iris.output.clone() }, ..iris };
        assert!(outputs(&none).unwrap_err().to_string().contains("\"header\" or \"value\""));
    }
}
