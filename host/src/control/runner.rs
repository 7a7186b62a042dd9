//! Carries out what the fold says: one thread a pipeline, the only place where its control changes.
//!
//! Nothing is staged here, and nothing is waited for: staging has a thread of its own each time, and reports back by a
//! command as everybody else does. So a command is decided at once, whatever is compiled meanwhile, and readers have a
//! snapshot that nobody locks.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;

use super::command::{Action, By, Command, CommandId, Outcome, Refused};
use super::deployment::Deployment;
use super::fold::{Control, Effect, apply};
use super::journal::{Entry, Journal};
use super::rollout::StepFigures;
use crate::record::Revision;
use crate::stream::clock::{Clock as _, SystemClock};
use crate::stream::hold::{Hold, WorkerEvent};
use crate::stream::pause::{Cause, Pause};
use crate::stream::process::Probation;
use crate::stream::slot::Slot;

/// How long a deployment waits to be taken by every running worker before its command is answered.
const TAKEN: Duration = Duration::from_secs(10);

/// Messages that wait for the runner. Beyond them whoever sends waits: the runner waits for nobody, so that ends soon.
const WAITING: usize = 256;

/// How often the running step of a rollout is judged.
const JUDGED: Duration = Duration::from_millis(500);

pub type Answer = Result<Outcome, Refused>;

/// Opens a deployment: one process for each worker.
pub type Stage<P> = dyn Fn(&Deployment, Probation) -> Result<Vec<P>> + Send + Sync;

/// What the step of a rollout that is that revision has come to.
pub type Measure = dyn Fn(Revision) -> StepFigures + Send + Sync;

/// Where commands go, and where what is known is read.
pub struct Inbox<P> {
    messages: SyncSender<Message<P>>,
    snapshot: Arc<ArcSwap<Control>>,
}

impl<P> Clone for Inbox<P> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), snapshot: self.snapshot.clone() }
    }
}

enum Message<P> {
    Command { by: Option<By>, against: Option<Revision>, action: Action, asker: Option<Sender<Answer>> },
    Opened { of: CommandId, opened: Result<Vec<P>> },
    End,
}

impl<P> Inbox<P> {
    /// Waits for what comes of a command that the daemon itself has.
    ///
    /// # Errors
    /// When it is refused, or the daemon stops before it is decided.
    pub fn ask(&self, against: Option<Revision>, action: Action) -> Answer {
        self.ask_by(None, against, action)
    }

    /// Waits for what comes of somebody's command.
    ///
    /// # Errors
    /// As `ask`.
    pub fn ask_by(&self, by: Option<By>, against: Option<Revision>, action: Action) -> Answer {
        let (asker, answer) = channel();
        let message = Message::Command { by, against, action, asker: Some(asker) };
        self.messages.send(message).map_err(|_| Refused::Stopping)?;
        answer.recv().unwrap_or(Err(Refused::Stopping))
    }

    /// Reports what nobody waits for. Once the daemon stops nobody hears it.
    pub fn report(&self, event: WorkerEvent) {
        let action = match event {
            WorkerEvent::Failed { revision: Some(revision), why } => Action::Failed { revision, why },
            WorkerEvent::Failed { revision: None, why } => Action::Paused {
                pause: Pause { at: SystemClock.unix_ms(), cause: Cause::Release, why, reasons: BTreeMap::new() },
            },
            WorkerEvent::Passed { revision } => Action::Passed { revision },
            WorkerEvent::Paused(pause) => Action::Paused { pause },
            WorkerEvent::Adopt { revision, releases } => Action::Adopt { revision, releases },
            WorkerEvent::Outrun { revision } => Action::Outrun { revision },
            WorkerEvent::Runs { worker, revision } => Action::Runs { worker, revision },
        };
        let _ = self.messages.send(Message::Command { by: None, against: None, action, asker: None });
    }

    /// What is known at the moment.
    pub fn snapshot(&self) -> Arc<Control> {
        self.snapshot.load_full()
    }

    /// Ends the runner. Whoever still waits is told that the daemon stops.
    pub fn end(&self) {
        let _ = self.messages.send(Message::End);
    }
}

/// What one pipeline's runner works on.
pub struct Runner<P> {
    journal: Arc<dyn Journal>,
    stage: Arc<Stage<P>>,
    measure: Box<Measure>,
    /// When the running step is judged next.
    judged: Instant,
    hold: Arc<Hold>,
    slots: Vec<Arc<Slot<P>>>,
    inbox: Inbox<P>,
    messages: Receiver<Message<P>>,
    control: Control,
    last: CommandId,
    /// What was opened and is not handed over yet.
    staged: HashMap<CommandId, Vec<P>>,
    askers: HashMap<CommandId, Sender<Answer>>,
    /// When a command is reported overdue, the next one first: all wait for the same time.
    reminders: Vec<(Instant, CommandId)>,
}

impl<P: Send + 'static> Runner<P> {
    /// Goes on from what the journal has of the pipeline; `develops` as in `Control`. A pipeline that was paused is held from the start.
    ///
    /// # Errors
    /// When the journal cannot be read, or there is no thread.
    pub fn start(
        pipeline: &str,
        develops: bool,
        journal: Arc<dyn Journal>,
        stage: Arc<Stage<P>>,
        measure: Box<Measure>,
        slots: Vec<Arc<Slot<P>>>,
    ) -> Result<(Inbox<P>, Arc<Hold>, JoinHandle<()>)> {
        let kept = journal.read(pipeline)?;
        let history = Arc::new(kept.history);
        let control = Control { pipeline: pipeline.to_owned(), develops, history, ..Control::default() };
        let (send, messages) = sync_channel(WAITING);
        let inbox = Inbox { messages: send, snapshot: Arc::new(ArcSwap::from_pointee(control.clone())) };
        let events = inbox.clone();
        let hold = Arc::new(Hold::new(control.history.paused.is_some(), move |event| events.report(event)));
        let runner = Self {
            journal,
            stage,
            measure,
            judged: Instant::now() + JUDGED,
            hold: hold.clone(),
            slots,
            inbox: inbox.clone(),
            messages,
            control,
            last: kept.last.unwrap_or(CommandId(0)),
            staged: HashMap::new(),
            askers: HashMap::new(),
            reminders: Vec::new(),
        };
        let thread = std::thread::Builder::new().name(format!("{pipeline}/control"));
        Ok((inbox, hold, thread.spawn(move || runner.run()).context("starting the control thread")?))
    }

    fn run(mut self) {
        loop {
            let now = Instant::now();
            if self.control.history.rollout.is_some() && self.judged <= now {
                self.judged = now + JUDGED;
                self.judge();
            }
            let judged = self.control.history.rollout.is_some().then_some(self.judged);
            let reminder = self.reminders.first().map(|(at, _)| *at);
            let message = match judged.into_iter().chain(reminder).min() {
                Some(at) => self.messages.recv_timeout(at.saturating_duration_since(now)),
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Command { by, against, action, asker }) => self.command(by, against, action, asker),
                Ok(Message::Opened { of, opened: Ok(opened) }) => {
                    self.staged.insert(of, opened);
                    self.report(Action::Staged { of });
                }
                Ok(Message::Opened { of, opened: Err(error) }) => {
                    self.report(Action::Unfit { of, why: format!("{error:#}") });
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.reminders.first().is_some_and(|(at, _)| *at <= Instant::now()) {
                        let (_, of) = self.reminders.remove(0);
                        self.report(Action::Overdue { of });
                    }
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Has the fold look at what the running step has come to.
    fn judge(&mut self) {
        if let Some(revision) = self.control.history.revision() {
            let figures = Box::new((self.measure)(revision));
            self.report(Action::Measured { revision, figures });
        }
    }

    /// Takes a command of the runner's own.
    fn report(&mut self, action: Action) {
        self.command(None, None, action, None);
    }

    fn command(&mut self, by: Option<By>, against: Option<Revision>, action: Action, asker: Option<Sender<Answer>>) {
        self.last = CommandId(self.last.0 + 1);
        let command = Command { id: self.last, by, against, action };
        self.askers.extend(asker.map(|asker| (command.id, asker)));
        let at = SystemClock.unix_ms();
        let (next, effects) = match apply(&self.control, &command, at) {
            Ok(applied) => applied,
            Err(refused) => return self.answer(command.id, Err(refused)),
        };
        if effects.contains(&Effect::Remember)
            && let Err(error) =
                self.journal.keep(&next.pipeline, &Entry { command: command.clone(), at }, &next.history)
        {
            let why = format!("{error:#}");
            tracing::error!(pipeline = next.pipeline, why, "what changed cannot be remembered");
            match command.action {
                // What cannot be remembered is not deployed: after a restart another revision would run.
                Action::Staged { of } => return self.report(Action::Unfit { of, why }),
                Action::Pause { .. }
                | Action::Resume
                | Action::Replay
                | Action::HoldRollout { .. }
                | Action::ContinueRollout { .. } => {
                    return self.answer(command.id, Err(Refused::Unfit { why }));
                }
                // A worker has stopped already, and that holds as long as this process lives.
                _ => {}
            }
        }
        self.control = next;
        self.inbox.snapshot.store(Arc::new(self.control.clone()));
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            // Done before the state was anybody's to see.
            Effect::Remember => {}
            Effect::Stage { of, deployment, probation } => self.stage(of, deployment, probation),
            Effect::HandOver { of } => {
                for (slot, process) in self.slots.iter().zip(self.staged.remove(&of).unwrap_or_default()) {
                    slot.put(process);
                }
            }
            Effect::Discard { of } => {
                // Instances take a while to go, and commands wait for nothing.
                for (slot, process) in self.slots.iter().zip(self.staged.remove(&of).unwrap_or_default()) {
                    slot.discard(process);
                }
            }
            Effect::Hold => self.hold.hold(),
            Effect::Release => self.hold.release(),
            Effect::Remind { of } => self.reminders.push((Instant::now() + TAKEN, of)),
            Effect::Answer { to, outcome } => self.answer(to, outcome),
        }
    }

    fn stage(&mut self, of: CommandId, deployment: Deployment, probation: Probation) {
        let (stage, messages) = (self.stage.clone(), self.inbox.messages.clone());
        let open = move || {
            // The stack of a panic is logged by its hook; the command must have its answer all the same.
            let opened = catch_unwind(AssertUnwindSafe(|| stage(&deployment, probation)))
                .unwrap_or_else(|_| Err(anyhow::anyhow!("staging panicked; the log says where")));
            let _ = messages.send(Message::Opened { of, opened });
        };
        let thread = std::thread::Builder::new().name(format!("{}/stage", self.control.pipeline)).spawn(open);
        if let Err(error) = thread {
            let error = anyhow::Error::from(error).context("no thread to stage on");
            // Not by the inbox, which may be full: only this thread empties it.
            self.report(Action::Unfit { of, why: format!("{error:#}") });
        }
    }

    fn answer(&mut self, to: CommandId, outcome: Answer) {
        let pipeline = &self.control.pipeline;
        match &outcome {
            Ok(Outcome::Activated { deployment, .. }) => {
                tracing::info!(pipeline, revision = %deployment.revision, reason = deployment.reason, "deployed");
            }
            Ok(Outcome::RolledBack { deployment, .. }) => {
                tracing::error!(pipeline, revision = %deployment.revision, "{}", deployment.reason);
            }
            Ok(Outcome::Paused { pause }) => tracing::warn!(pipeline, "paused: {}", pause.why),
            Ok(Outcome::Resumed { .. }) => tracing::info!(pipeline, "resumed"),
            Ok(Outcome::Rollout { rollout }) => {
                tracing::info!(pipeline, "{}: {:?}", rollout.describe(), rollout.state);
            }
            Err(refused) if !self.askers.contains_key(&to) => tracing::warn!(pipeline, "{refused}"),
            Ok(Outcome::Superseded { .. } | Outcome::Noted) | Err(_) => {}
        }
        if let Some(asker) = self.askers.remove(&to) {
            // Somebody who has gone away needs no answer.
            let _ = asker.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
