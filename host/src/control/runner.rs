//! Has one pipeline follow its control: one thread, the only place from which its workers are told what to run.
//!
//! Commands are decided here where this daemon decides alone; else they go to whoever decides for all, and what was decided comes
//! back as news. Either way the workers follow the state (`reconcile`). Nothing is staged here, and nothing is waited for: staging
//! has a thread of its own each time, and reports back by a command as everybody else does. So a command is decided at once,
//! whatever is compiled meanwhile, and readers have a snapshot that nobody locks.

mod elsewhere;

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
use super::fold::{Control, apply, note_refusal};
use super::journal::{Entry, Journal, Link, News};
use super::opened::{Holds, Opened, Slots, StandsStill, Trust};
use super::reconcile::{Key, Opening, Reconciler};
use super::rollout::StepFigures;
use crate::record::Revision;
use crate::stream::clock::{Clock, SystemClock};
use crate::stream::hold::{Hold, WorkerEvent};
use crate::stream::pause::{Cause, Pause};
use elsewhere::{DECIDED, Elsewhere, Sent};

/// How long a deployment waits to be taken by every running worker before its command is answered.
const TAKEN: Duration = Duration::from_secs(10);
/// How long several daemons have to say what came of staging. Compiling alone may take two minutes.
const STAGED: Duration = Duration::from_secs(300);

/// How much later a daemon says that something is overdue that does not decide.
const LATER: Duration = Duration::from_secs(5);

/// Messages that wait for the runner. Beyond them whoever sends waits: the runner waits for nobody, so that ends soon.
const WAITING: usize = 256;

/// How often the running step of a rollout is judged where this daemon decides.
const JUDGED: Duration = Duration::from_millis(500);
/// How often a daemon tells those who decide what the running step has come to, and how often it does so where that is the same.
const TOLD: Duration = Duration::from_secs(1);
const TOLD_AGAIN: Duration = Duration::from_secs(10);

pub type Answer = Result<Outcome, Refused>;

/// Opens a deployment for every worker.
pub type Stage<P> = dyn Fn(&Deployment, Trust) -> Result<Opened<P>> + Send + Sync;

/// What this daemon's loops have come to.
pub trait Observed: Send {
    /// The step of a rollout that is that revision.
    fn measured(&self, revision: Revision) -> StepFigures;
    /// Whether a worker owns a partition.
    fn owns_partitions(&self) -> bool;
}

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
    Command {
        by: Option<By>,
        against: Option<Revision>,
        action: Action,
        asker: Option<Sender<Answer>>,
    },
    Opened {
        key: Key,
        opened: Result<Opened<P>>,
    },
    /// A command that was sent to whoever decides has a number, or could not be sent.
    Sent {
        request: u64,
        sent: Result<i64, String>,
    },
    News(Box<News>),
    /// Somebody waits for that.
    Await(Awaited, Sender<()>),
    End,
}

/// What may be waited for at a start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Awaited {
    /// What was decided so far has been heard.
    News,
    /// The workers have something to run.
    Process,
}

impl<P: Send + 'static> Inbox<P> {
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
        self.asked(by, against, action)?.recv().unwrap_or(Err(Refused::Stopping))
    }

    /// Where what comes of a command will be heard.
    pub(super) fn asked(
        &self,
        by: Option<By>,
        against: Option<Revision>,
        action: Action,
    ) -> Result<Receiver<Answer>, Refused> {
        let (asker, answer) = channel();
        let message = Message::Command { by, against, action, asker: Some(asker) };
        self.messages.send(message).map_err(|_| Refused::Stopping)?;
        Ok(answer)
    }

    /// Hears once that the workers have something to run; nothing when the daemon stops first.
    ///
    /// # Errors
    /// When the daemon has stopped.
    pub fn ready(&self) -> Result<Receiver<()>, Refused> {
        self.when(Awaited::Process)
    }

    /// Waits until this daemon has heard what was decided so far.
    ///
    /// # Errors
    /// As `ready`'s, or when the daemon stops first.
    pub fn until_heard(&self) -> Result<(), Refused> {
        self.when(Awaited::News)?.recv().map_err(|_| Refused::Stopping)
    }

    fn when(&self, what: Awaited) -> Result<Receiver<()>, Refused> {
        let (asker, answer) = channel();
        self.messages.send(Message::Await(what, asker)).map_err(|_| Refused::Stopping)?;
        Ok(answer)
    }

    /// Where whoever follows the journal tells what was decided.
    pub fn news(&self) -> Box<dyn Fn(News) + Send> {
        let messages = self.messages.clone();
        Box::new(move |news| drop(messages.send(Message::News(Box::new(news)))))
    }

    /// Reports what nobody waits for. Once the daemon stops nobody hears it.
    pub fn report(&self, event: WorkerEvent) {
        self.tell(match event {
            WorkerEvent::Failed { revision: Some(revision), why } => Action::Failed { revision, why },
            WorkerEvent::Failed { revision: None, why } => Action::Paused {
                pause: Pause { at: SystemClock.unix_ms(), cause: Cause::Release, why, reasons: BTreeMap::new() },
            },
            WorkerEvent::Passed { revision } => Action::Passed { revision },
            WorkerEvent::Paused(pause) => Action::Paused { pause },
            WorkerEvent::Adopt { revision, releases } => Action::Adopt { revision, releases },
            WorkerEvent::Outrun { revision, releases } => Action::Outrun { revision, releases },
            WorkerEvent::Runs { worker, revision } => Action::Runs { worker, revision },
        });
    }

    /// The same of the feedback's worker, whose deployments nobody waits for and whose group's offsets name none.
    fn report_scoring(&self, event: WorkerEvent) {
        match event {
            WorkerEvent::Failed { revision: Some(revision), why } => self.tell(Action::ScorerFailed { revision, why }),
            WorkerEvent::Passed { revision } => self.tell(Action::ScorerPassed { revision }),
            WorkerEvent::Failed { revision: None, .. }
            | WorkerEvent::Paused(_)
            | WorkerEvent::Adopt { .. }
            | WorkerEvent::Outrun { .. }
            | WorkerEvent::Runs { .. } => {}
        }
    }

    fn tell(&self, action: Action) {
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

/// Who decides about commands.
enum Decides {
    /// This daemon alone; `last` is its last command.
    Here { last: CommandId },
    /// One for all daemons.
    Elsewhere(Box<Elsewhere>),
}

/// Has something done on a thread of that name.
type Spawn = dyn Fn(String, Box<dyn FnOnce() + Send>) -> std::io::Result<()> + Send;

/// What a runner needs of the machine.
pub(super) struct Machine {
    pub(super) clock: Box<dyn Clock>,
    pub(super) spawn: Box<Spawn>,
}

impl Machine {
    fn real() -> Self {
        let spawn =
            |name: String, work: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name).spawn(work).map(drop);
        Self { clock: Box::new(SystemClock), spawn: Box::new(spawn) }
    }
}

/// What one pipeline's runner works on.
pub struct Runner<P> {
    machine: Machine,
    journal: Arc<dyn Journal>,
    stage: Arc<Stage<P>>,
    observed: Box<dyn Observed>,
    decides: Decides,
    /// When the running step is judged next.
    judged: Instant,
    reconciler: Reconciler<P>,
    inbox: Inbox<P>,
    messages: Receiver<Message<P>>,
    control: Control,
    askers: HashMap<CommandId, Sender<Answer>>,
    awaiting: Vec<(Awaited, Sender<()>)>,
    /// When what has its time is reported overdue.
    reminders: HashMap<CommandId, Instant>,
}

impl<P: Send + 'static> Runner<P> {
    /// Goes on from what the journal has of the pipeline; `develops` as in `Control`. A pipeline that was paused is held from the
    /// start. With a link somebody decides for several daemons, and the journal keeps a copy.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn new(
        pipeline: &str,
        develops: bool,
        journal: Arc<dyn Journal>,
        link: Option<Arc<dyn Link>>,
        stage: Arc<Stage<P>>,
        observed: Box<dyn Observed>,
        slots: Slots<P>,
    ) -> Result<(Self, Inbox<P>, Holds)> {
        let kept = journal.read(pipeline)?;
        let history = Arc::new(kept.history);
        let is_shared = link.is_some();
        let control = Control { pipeline: pipeline.to_owned(), develops, is_shared, history, ..Control::default() };
        let (send, messages) = sync_channel(WAITING);
        let inbox = Inbox { messages: send, snapshot: Arc::new(ArcSwap::from_pointee(control.clone())) };
        let (events, scoring) = (inbox.clone(), inbox.clone());
        let holds = Holds {
            main: Arc::new(Hold::new(control.is_held(), move |event| events.report(event))),
            feedback: Arc::new(Hold::new(false, move |event| scoring.report_scoring(event))),
        };
        let decides = match link {
            None => Decides::Here { last: kept.last.unwrap_or(CommandId(0)) },
            Some(link) => Decides::Elsewhere(Box::new(Elsewhere::new(link))),
        };
        let runner = Self {
            journal,
            stage,
            observed,
            decides,
            judged: Instant::now() + JUDGED,
            machine: Machine::real(),
            reconciler: Reconciler::new(slots, holds.clone(), is_shared),
            inbox: inbox.clone(),
            messages,
            control,
            askers: HashMap::new(),
            awaiting: Vec::new(),
            reminders: HashMap::new(),
        };
        Ok((runner, inbox, holds))
    }

    /// On another machine, for whoever has it take its turns.
    #[cfg(test)]
    pub(super) fn on(self, machine: Machine) -> Self {
        Self { judged: machine.clock.now() + JUDGED, machine, ..self }
    }

    /// Follows on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(self) -> Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name(format!("{}/control", self.control.pipeline));
        thread.spawn(move || self.run()).context("starting the control thread")
    }

    fn run(mut self) {
        loop {
            let now = self.machine.clock.now();
            self.do_what_is_due(now);
            let message = match self.next_due() {
                Some(at) => self.messages.recv_timeout(at.saturating_duration_since(now)),
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return self.say_goodbye(),
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn take(&mut self, message: Message<P>) {
        match message {
            Message::Command { by, against, action, asker } => self.command(by, against, action, asker),
            Message::Opened { key, opened } => self.opened(key, opened),
            Message::Sent { request, sent } => self.sent(request, sent),
            Message::News(news) => self.heard(news),
            Message::Await(what, asker) => {
                self.awaiting.push((what, asker));
                self.tell_ready();
            }
            // Whoever receives it stops.
            Message::End => {}
        }
    }

    /// What is due, and every message that waits.
    #[cfg(test)]
    pub(super) fn turn(&mut self) {
        self.do_what_is_due(self.machine.clock.now());
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let judged = self.control.history.rollout.is_some().then_some(self.judged);
        let again = match &self.decides {
            Decides::Elsewhere(elsewhere) => elsewhere.again_at.into_iter().chain(elsewhere.gives_up()).min(),
            Decides::Here { .. } => None,
        };
        let reminder = self.reminders.values().min().copied();
        judged.into_iter().chain(reminder).chain(again).chain(self.reconciler.due()).min()
    }

    fn do_what_is_due(&mut self, now: Instant) {
        if self.control.history.rollout.is_some() && self.judged <= now {
            self.judge(now);
        }
        let overdue: Vec<CommandId> = self.reminders.iter().filter(|(_, at)| **at <= now).map(|(of, _)| *of).collect();
        for of in overdue {
            self.reminders.remove(&of);
            self.report(Action::Overdue { of });
        }
        self.remind();
        if let Decides::Elsewhere(elsewhere) = &mut self.decides {
            elsewhere.give_up(now);
            elsewhere.due_again(now).into_iter().for_each(|action| self.report(action));
        }
        if self.reconciler.due().is_some_and(|at| at <= now) {
            self.reconcile();
        }
    }

    /// Whether this daemon decides, for itself or for all.
    fn decides_here(&self) -> bool {
        match &self.decides {
            Decides::Here { .. } => true,
            Decides::Elsewhere(elsewhere) => elsewhere.link.decides_here(),
        }
    }

    /// Has the fold look at what the running step has come to.
    fn judge(&mut self, now: Instant) {
        let Some(revision) = self.control.history.revision() else { return };
        let figures = self.observed.measured(revision);
        match &mut self.decides {
            Decides::Here { .. } => self.judged = now + JUDGED,
            Decides::Elsewhere(elsewhere) => {
                self.judged = now + TOLD;
                let is_same = |(of, told, at): &(Revision, StepFigures, Instant)| {
                    *of == revision && *told == figures && now.saturating_duration_since(*at) < TOLD_AGAIN
                };
                // Whoever decides looks at it once a second: a step may be over by its time alone.
                if elsewhere.told.as_ref().is_some_and(is_same) && !elsewhere.link.decides_here() {
                    return;
                }
                elsewhere.told = Some((revision, figures.clone(), now));
            }
        }
        self.report(Action::Measured { revision, figures: Box::new(figures) });
    }

    /// Takes a command of the runner's own.
    fn report(&mut self, action: Action) {
        self.command(None, None, action, None);
    }

    fn command(&mut self, by: Option<By>, against: Option<Revision>, action: Action, asker: Option<Sender<Answer>>) {
        let holds = StandsStill::for_action(&action);
        match &mut self.decides {
            Decides::Here { last } => {
                *last = CommandId(last.0 + 1);
                let command = Command { id: *last, from: String::new(), by, against, action };
                self.askers.extend(asker.map(|asker| (command.id, asker)));
                self.decide(command);
                holds.into_iter().for_each(|of| self.reconciler.decided(of));
            }
            Decides::Elsewhere(elsewhere) => {
                elsewhere.requests += 1;
                let request = elsewhere.requests;
                if let Action::Runs { worker, revision } = &action {
                    elsewhere.runs.insert(*worker, *revision);
                }
                // What is told again by itself, or means nothing later, is not sent again.
                let passes = matches!(action, Action::Measured { .. } | Action::Overdue { .. });
                let report = (asker.is_none() && !passes).then(|| action.clone());
                let (until, renewed) = (self.machine.clock.now() + DECIDED, None);
                elsewhere.unsent.insert(request, Sent { until, renewed, asker, report, holds });
                let from = elsewhere.link.daemon().to_owned();
                let command = Command { id: CommandId(0), from, by, against, action };
                let messages = self.inbox.messages.clone();
                let sent = Box::new(move |sent| drop(messages.send(Message::Sent { request, sent })));
                elsewhere.link.send(&self.control.pipeline, &command, sent);
            }
        }
    }

    /// Decides about a command here.
    fn decide(&mut self, command: Command) {
        let at = self.machine.clock.unix_ms();
        let applied = match apply(&self.control, &command, at) {
            Ok(applied) => applied,
            Err(refused) => {
                self.note_refusal(&command, &refused, at);
                return self.answer(command.id, Err(refused));
            }
        };
        let (next, answers) = (applied.next, applied.answers);
        let is_changed = !Arc::ptr_eq(&next.history, &self.control.history) && next.history != self.control.history;
        if is_changed
            && let Err(error) =
                self.journal.keep(&next.pipeline, &Entry { command: command.clone(), at }, &next.history)
        {
            let why = format!("{error:#}");
            tracing::error!(pipeline = next.pipeline, why, "what changed cannot be remembered");
            match command.action {
                // What cannot be remembered is not deployed: after a restart another revision would run.
                Action::Staged { of, .. } => return self.report(Action::Unfit { of, why }),
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
        self.follow(next);
        for (to, outcome) in answers {
            self.answer(to, outcome);
        }
    }

    /// The history says what was asked for in vain, as long as that can be remembered.
    fn note_refusal(&mut self, command: &Command, refused: &Refused, at: i64) {
        let Some(next) = note_refusal(&self.control, command, refused, at) else { return };
        match self.journal.keep(&next.pipeline, &Entry { command: command.clone(), at }, &next.history) {
            Ok(()) => self.follow(next),
            Err(error) => {
                let why = format!("{error:#}");
                tracing::warn!(pipeline = next.pipeline, why, "that something was refused cannot be remembered");
            }
        }
    }

    /// The state is another: readers see it, and the workers follow it.
    fn follow(&mut self, next: Control) {
        self.control = next;
        self.inbox.snapshot.store(Arc::new(self.control.clone()));
        self.reconcile();
        self.remind();
    }

    fn reconcile(&mut self) {
        for opening in self.reconciler.reconcile(&self.control, self.machine.clock.now()) {
            self.stage(opening);
        }
        self.tell_ready();
        self.tell_staged();
    }

    fn tell_ready(&mut self) {
        let has_heard = match &self.decides {
            Decides::Here { .. } => true,
            Decides::Elsewhere(elsewhere) => elsewhere.news.is_some(),
        };
        let is_there = |what: Awaited| match what {
            Awaited::News => has_heard,
            Awaited::Process => self.reconciler.has_handed_over(),
        };
        for (_, asker) in self.awaiting.extract_if(.., |(what, _)| is_there(*what)) {
            let _ = asker.send(());
        }
    }

    /// What waits for workers or daemons has its time, and one daemon says when it is over.
    fn remind(&mut self) {
        let handover = self.control.handover.map(|handover| (handover.of, TAKEN));
        let staging = self.control.staging.keys().filter(|_| self.control.is_shared).map(|of| (*of, STAGED));
        let waits: HashMap<CommandId, Duration> = staging.chain(handover).collect();
        self.reminders.retain(|of, _| waits.contains_key(of));
        let now = self.machine.clock.now();
        // The daemon that decides may not run this pipeline: then another one says it, a little later.
        let later = if self.decides_here() { Duration::ZERO } else { LATER };
        for (of, wait) in waits.into_iter().map(|(of, wait)| (of, wait + later)) {
            // One that has been staged waits anew.
            let at = self.reminders.entry(of).or_insert(now + wait);
            *at = (*at).min(now + wait);
        }
    }

    fn stage(&mut self, Opening { key, deployment, trust }: Opening) {
        let (stage, messages) = (self.stage.clone(), self.inbox.messages.clone());
        let open = move || {
            // The stack of a panic is logged by its hook; the command must have its answer all the same.
            let opened = catch_unwind(AssertUnwindSafe(|| stage(&deployment, trust)))
                .unwrap_or_else(|_| Err(anyhow::anyhow!("staging panicked; the log says where")));
            let _ = messages.send(Message::Opened { key, opened });
        };
        if let Err(error) = (self.machine.spawn)(format!("{}/stage", self.control.pipeline), Box::new(open)) {
            // Not by the inbox, which may be full: only this thread empties it.
            self.opened(key, Err(anyhow::Error::from(error).context("no thread to stage on")));
        }
    }

    fn opened(&mut self, key: Key, opened: Result<Opened<P>>) {
        let opened = opened.map_err(|error| format!("{error:#}"));
        let why = opened.as_ref().err().cloned();
        self.reconciler.opened(key, opened, self.machine.clock.now());
        match (key.of, why) {
            (Some(of), Some(why)) => self.report(Action::Unfit { of, why }),
            (Some(of), None) if matches!(self.decides, Decides::Here { .. }) => {
                self.report(Action::Staged { of, owns: true });
            }
            (None, Some(why)) => {
                tracing::error!(
                    pipeline = self.control.pipeline,
                    why,
                    "this daemon cannot run what is current; trying again"
                );
            }
            _ => {}
        }
        self.reconcile();
    }

    fn answer(&mut self, to: CommandId, outcome: Answer) {
        let asker = self.askers.remove(&to);
        log(&self.control.pipeline, &outcome, asker.is_some());
        if let Some(asker) = asker {
            // Somebody who has gone away needs no answer.
            let _ = asker.send(outcome);
        }
    }
}

fn log(pipeline: &str, outcome: &Answer, is_awaited: bool) {
    match outcome {
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
        Err(refused) if !is_awaited => tracing::warn!(pipeline, "{refused}"),
        Ok(Outcome::Superseded { .. } | Outcome::Noted) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
