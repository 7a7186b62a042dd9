//! What the loop does that decides for all daemons: each command through the fold, and what came of it into the deployments' topic.
//!
//! Kafka has one member of the group own the commands' one partition: that daemon decides. What a command comes to is committed with
//! the command's offset, so each is decided once, and whoever owned the partition before can commit nothing any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::link::Standing;
use super::records::{Changes, Decided, View, split};
use super::{artifacts, commands};
use crate::config::plan::Properties;
use crate::control::command::{Action, By, Command, CommandId, Outcome, Refused};
use crate::control::fold::{Artifact, Control, apply, note_refusal};
use crate::control::runner::Answer;
use crate::kafka::reader::{self, Next, Partitions, ReadFrom, Reader};
use crate::record::output::{Output, Outputs};
use crate::record::{Batch, Origin, Route};
use crate::stream::failpoint::planted_mistake;
use crate::stream::fault::Fault;
use crate::stream::process::{Forced, Process};
use crate::stream::source::TopicPartition;
use crate::stream::state::{Progress, Restored};

/// Time for a broker to answer where the deployments' topic ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pipelines that are decided for, at most: a name that nobody runs costs a record for ever.
const PIPELINES: usize = 10_000;

/// Where tombstones of artifacts' chunks go.
pub const ARTIFACTS: Route = Route::Named(0);

/// What was decided before, read from its beginning.
pub trait Past: Send {
    fn next(&mut self, wait: Duration) -> Result<Next, Fault>;
    fn progress(&self) -> reader::Progress;
}

impl Past for Reader {
    fn next(&mut self, wait: Duration) -> Result<Next, Fault> {
        Reader::next(self, wait)
    }

    fn progress(&self) -> reader::Progress {
        Reader::progress(self)
    }
}

type Opens = dyn Fn() -> Result<Box<dyn Past>, Fault> + Send;

pub struct Decider {
    opens: Box<Opens>,
    standing: Arc<Standing>,
    /// As committed.
    views: BTreeMap<String, View>,
    /// As the open transaction would have them.
    staged: BTreeMap<String, View>,
    restoring: Restoring,
}

/// How far it is with what was decided before.
enum Restoring {
    /// The commands' partition is somebody else's.
    Nothing,
    Opening(TopicPartition),
    Reading(TopicPartition, Box<dyn Past>),
    Done,
}

/// A record of the commands' topic.
struct Row<'a> {
    row: usize,
    offset: i64,
    /// Milliseconds since the Unix epoch, by the broker's clock.
    at: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// A pipeline in one batch of commands.
struct Working {
    control: Control,
    decided: Decided,
    answers: Vec<(CommandId, Answer)>,
    /// The commands of this batch.
    commands: Vec<CommandId>,
    /// All of it is written, whatever there is already.
    whole: bool,
    /// Where the last command stood.
    row: usize,
}

impl Decider {
    /// Reads what was decided before from that topic, by a reader of those properties.
    pub fn new(properties: Properties, deployments: String, standing: Arc<Standing>) -> Self {
        let open = move || {
            Reader::open(&properties, &deployments, &Partitions::All, &ReadFrom::Beginning, PATIENCE)
                .map(|reader| Box::new(reader) as Box<dyn Past>)
        };
        Self::reading(Box::new(open), standing)
    }

    pub(in crate::control) fn reading(opens: Box<Opens>, standing: Arc<Standing>) -> Self {
        Self { opens, standing, views: BTreeMap::new(), staged: BTreeMap::new(), restoring: Restoring::Nothing }
    }

    fn view(&self, pipeline: &str) -> View {
        self.staged.get(pipeline).or_else(|| self.views.get(pipeline)).cloned().unwrap_or_default()
    }

    /// Reads on for a while; whether everything is there.
    fn read(views: &mut BTreeMap<String, View>, reader: &mut dyn Past, wait: Duration) -> Result<bool, Fault> {
        loop {
            match reader.next(wait).map_err(passing)? {
                Next::Record(record) => {
                    if let Some((pipeline, part)) = record.key.as_deref().and_then(split) {
                        let view = views.entry(pipeline.to_owned()).or_default();
                        view.take(part, record.value.as_deref()).map_err(|error| {
                            Fault::Denied(format!("record {} of the deployments' topic: {error:#}", record.offset))
                        })?;
                    }
                }
                Next::Idle | Next::Trouble(_) => return Ok(false),
                Next::End => return Ok(true),
            }
        }
    }

    /// One command of a batch.
    fn decide(&self, working: &mut BTreeMap<String, Working>, command: &Row<'_>, forced: Option<&str>, now: i64) {
        let Some((pipeline, "")) = command.key.and_then(split) else {
            tracing::warn!(
                offset = command.offset,
                "a record of the commands' topic names no pipeline, and is passed over"
            );
            return;
        };
        let read = commands::read(command.value);
        let is_known =
            self.views.contains_key(pipeline) || self.staged.contains_key(pipeline) || working.contains_key(pipeline);
        if !is_known && (read.is_err() || pipeline.is_empty() || self.views.len() >= PIPELINES) {
            tracing::warn!(
                pipeline,
                offset = command.offset,
                "a command for a pipeline that nobody runs is passed over"
            );
            return;
        }
        let working = working.entry(pipeline.to_owned()).or_insert_with(|| {
            let view = self.view(pipeline);
            let control = view.control(pipeline);
            Working {
                control,
                decided: view.decided(),
                answers: Vec::new(),
                commands: Vec::new(),
                whole: false,
                row: command.row,
            }
        });
        let decided = &mut working.decided;
        if command.offset < decided.position {
            let mut is_decided = command.at <= decided.at;
            planted_mistake!(DECIDES_TWICE, is_decided = false);
            if is_decided {
                // The group's offset was lost, and not what was decided.
                return;
            }
            // The topic was made anew: its offsets begin again, and ids go on.
            decided.base += decided.position.unsigned_abs();
        }
        *decided = Decided { position: command.offset + 1, at: command.at.max(decided.at), ..*decided };
        working.row = command.row;
        let id = CommandId(decided.base + command.offset.unsigned_abs());
        working.commands.push(id);
        match read {
            Ok(read) => working.apply(pipeline, &Command { id, ..read }, forced, now),
            Err(refused) => working.refuse_foreign(pipeline, id, &refused, now),
        }
    }

    fn write(&mut self, pipeline: &str, working: Working, batch: &Batch, outputs: &mut Outputs) -> anyhow::Result<()> {
        let mut view = self.view(pipeline);
        let Working { control, decided, answers, whole, row, .. } = working;
        let gone = gone(&view, &control);
        let changes = view.changes(pipeline, &control, decided, &answers, whole)?;
        for (key, value) in &changes {
            let part = split(key.as_bytes()).map_or("", |(_, part)| part);
            view.take(part, value.as_deref())?;
        }
        let Some(row) = batch.rows.get(row) else { return Ok(()) };
        emit(outputs, row.origin, Route::Output, &changes);
        emit(outputs, row.origin, ARTIFACTS, &gone);
        self.staged.insert(pipeline.to_owned(), view);
        Ok(())
    }
}

impl Working {
    fn apply(&mut self, pipeline: &str, command: &Command, forced: Option<&str>, now: i64) {
        let refused = forced.map(|why| Refused::Unfit { why: format!("its result cannot be written: {why}") });
        match refused.map_or_else(|| apply(&self.control, command, now), Err) {
            Ok(applied) => {
                self.control = applied.next;
                // That nothing came of it is known by its position.
                let said = applied.answers.into_iter().filter(|(_, answer)| *answer != Ok(Outcome::Noted));
                self.answers.extend(said);
                self.whole |= matches!(command.action, Action::Restore { .. } | Action::Incomplete);
            }
            Err(refused) => {
                tracing::info!(pipeline, %refused, "a command is refused");
                if let Some(next) = note_refusal(&self.control, command, &refused, now).filter(|_| forced.is_none()) {
                    self.control = next;
                }
                self.answers.push((command.id, Err(refused)));
            }
        }
    }

    /// The same commands, of which nothing came.
    fn refused(&self, before: Control) -> impl FnOnce(String) -> Self + use<> {
        let (decided, commands, whole, row) = (self.decided, self.commands.clone(), self.whole, self.row);
        move |why| {
            let refused = Refused::Unfit { why };
            let answers = commands.iter().map(|id| (*id, Err(refused.clone()))).collect();
            Self { control: before, decided, answers, commands, whole, row }
        }
    }

    /// Refuses what no daemon has written.
    fn refuse_foreign(&mut self, pipeline: &str, id: CommandId, refused: &Refused, now: i64) {
        tracing::warn!(pipeline, %refused, "a command is refused");
        let by = Some(By { who: "nobody known".into(), from: "the control topic".into() });
        let command = Command { id, from: String::new(), by, against: None, action: Action::Resume };
        if let Some(next) = note_refusal(&self.control, &command, refused, now) {
            self.control = next;
        }
        self.answers.push((id, Err(refused.clone())));
    }
}

/// A topic that is missing is made again, and a right may be given: nothing ends this loop for good.
fn passing(fault: Fault) -> Fault {
    match fault {
        Fault::Configuration(why) => Fault::Unknown(why),
        fault => fault,
    }
}

/// Tombstones for the chunks of artifacts that are in no control any more.
fn gone(view: &View, control: &Control) -> Changes {
    let is_gone =
        |digest, artifact: &Artifact| control.artifacts.get(&digest).is_none_or(|now| now.upload != artifact.upload);
    let gone = view.artifacts().filter(|(digest, artifact)| is_gone(*digest, artifact));
    gone.flat_map(|(_, artifact)| (0..artifact.chunks).map(|chunk| (artifacts::key(&artifact.upload, chunk), None)))
        .collect()
}

fn emit(outputs: &mut Outputs, origin: Origin, route: Route, changes: &Changes) {
    for (key, value) in changes {
        let key = Some(outputs.put(key.as_bytes()));
        let value = value.as_deref().map(|value| outputs.put(value));
        outputs.records.push(Output { origin, route, key, value, timestamp: None, headers: None, last_resort: false });
    }
}

impl Process for Decider {
    type Next = Self;

    fn exchange(&mut self, next: Self) -> Self {
        std::mem::replace(self, next)
    }

    fn assigned(&mut self, partitions: &[TopicPartition]) {
        if let (Some(partition), Restoring::Nothing) = (partitions.first(), &self.restoring) {
            self.restoring = Restoring::Opening(*partition);
        }
    }

    fn restore(&mut self, wait: Duration) -> Result<Restored, Fault> {
        match &mut self.restoring {
            Restoring::Nothing | Restoring::Done => Ok(Restored::default()),
            Restoring::Opening(partition) => {
                let partition = *partition;
                self.views.clear();
                self.restoring = Restoring::Reading(partition, (self.opens)().map_err(passing)?);
                Ok(Restored { left: vec![(partition, Progress::default())] })
            }
            Restoring::Reading(partition, reader) => {
                let partition = *partition;
                match Self::read(&mut self.views, &mut **reader, wait) {
                    Ok(true) => {
                        self.restoring = Restoring::Done;
                        self.standing.decides(true);
                        tracing::info!(pipelines = self.views.len(), "this daemon decides for all from now on");
                        Ok(Restored::default())
                    }
                    Ok(false) => {
                        let progress = reader.progress();
                        Ok(Restored { left: vec![(partition, Progress { done: progress.read, of: progress.whole })] })
                    }
                    Err(fault) => {
                        // What was read stands in views that the next attempt begins anew.
                        self.restoring = Restoring::Opening(partition);
                        Err(fault)
                    }
                }
            }
        }
    }

    fn process(&mut self, batch: &Batch, forced: &Forced, now: i64, outputs: &mut Outputs) {
        outputs.clear();
        let mut working = BTreeMap::new();
        // The records of a pipeline are all tied to its last command, so it is not known which of them is refused.
        let refusal = batch.rows.iter().find_map(|record| forced.get(&record.origin)?.output.as_deref());
        for (row, record) in batch.rows.iter().enumerate() {
            let command = Row {
                row,
                offset: record.origin.offset,
                at: record.timestamp.unwrap_or(now),
                key: batch.rows.key(record),
                value: batch.value(row),
            };
            self.decide(&mut working, &command, refusal, now);
        }
        for (pipeline, working) in working {
            let nothing = working.refused(self.view(&pipeline).control(&pipeline));
            if let Err(error) = self.write(&pipeline, working, batch, outputs) {
                let why = format!("what was decided cannot be written: {error:#}");
                tracing::error!(pipeline, why, "commands are refused");
                // What was written before can be written again.
                if let Err(error) = self.write(&pipeline, nothing(why), batch, outputs) {
                    // Whoever waits is told in a minute that nobody has decided.
                    tracing::error!(pipeline, why = format!("{error:#}"), "commands are passed over");
                }
            }
        }
        outputs.counts.records = batch.len() as u64;
        outputs.counts.emitted = batch.len() as u64;
    }

    fn committed(&mut self) {
        self.views.append(&mut self.staged);
    }

    fn aborted(&mut self) {
        self.staged.clear();
    }

    fn unassigned(&mut self, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            self.restoring = Restoring::Nothing;
            self.staged.clear();
            self.views.clear();
            self.standing.decides(false);
        }
    }
}

#[cfg(test)]
mod tests;
