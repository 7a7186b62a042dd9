//! A runner whose commands are decided elsewhere: what is under way there, and what it does with what it hears.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::{Answer, Decides, Runner, log};
use crate::control::command::{Action, Command, CommandId, Outcome, Refused};
use crate::control::history::History;
use crate::control::journal::kafka::MAX_RECORD;
use crate::control::journal::{Entry, Link, News};
use crate::control::opened::StandsStill;
use crate::control::rollout::StepFigures;
use crate::record::Revision;

/// How long a journal that was given what a daemon remembers has to say so.
const GIVEN_AGAIN: Duration = Duration::from_secs(10);

/// How long people wait until somebody decides about what they ask for.
pub(super) const DECIDED: Duration = Duration::from_secs(60);

/// What is under way to whoever decides.
pub(super) struct Elsewhere {
    pub(super) link: Arc<dyn Link>,
    pub(super) requests: u64,
    /// By request, until it is known which number it has.
    pub(super) unsent: HashMap<u64, Sent>,
    /// By their numbers, until they are decided.
    pub(super) undecided: BTreeMap<i64, Sent>,
    /// Those that were decided and wait for what they brought.
    pub(super) waiting: HashMap<CommandId, Sent>,
    /// What was heard last.
    pub(super) news: Option<Box<News>>,
    /// What was told of the running step, and when.
    pub(super) told: Option<(Revision, StepFigures, Instant)>,
    /// When the journal was last given what this daemon remembers.
    pub(super) given: Option<Instant>,
    /// What each worker runs, as last reported here.
    pub(super) runs: BTreeMap<usize, Option<Revision>>,
    /// How often what was heard has begun anew: its topics were lost and made again.
    pub(super) era: u64,
    /// The last number that a command had, and the era by then.
    pub(super) last: Option<(u64, i64)>,
    /// The era in which numbers went back: they are of a topic of which nothing was heard yet.
    pub(super) renewed: Option<u64>,
    /// Deployments of which it was told that they are staged here, and whether partitions were owned by then.
    pub(super) told_staged: HashMap<CommandId, bool>,
    /// Reports that could not be sent.
    pub(super) again: Vec<Action>,
    pub(super) again_at: Option<Instant>,
}

/// A command that is on its way.
pub(super) struct Sent {
    /// The era after which its number counts, where its topic was made anew.
    pub(super) renewed: Option<u64>,
    /// Until when its asker waits for a decision.
    pub(super) until: Instant,
    pub(super) asker: Option<Sender<Answer>>,
    /// Kept only where it is sent again when it could not be.
    pub(super) report: Option<Action>,
    /// A worker stands still until it is decided.
    pub(super) holds: Option<StandsStill>,
}

/// As much of a history as one command has room for: the newest.
fn fitting(mut history: History) -> Box<History> {
    while serde_json::to_vec(&history).map_or(0, |bytes| bytes.len()) > MAX_RECORD * 3 / 4 {
        let (deployments, calls) = (history.deployments.len() / 2, history.calls.len().div_ceil(2));
        if deployments == 0 && calls == 0 {
            break;
        }
        history.deployments.drain(..deployments);
        history.calls.drain(..calls);
    }
    Box::new(history)
}

impl Elsewhere {
    pub(super) fn new(link: Arc<dyn Link>) -> Self {
        Self {
            link,
            requests: 0,
            unsent: HashMap::new(),
            undecided: BTreeMap::new(),
            waiting: HashMap::new(),
            news: None,
            told: None,
            given: None,
            runs: BTreeMap::new(),
            era: 0,
            last: None,
            renewed: None,
            told_staged: HashMap::new(),
            again: Vec::new(),
            again_at: None,
        }
    }

    /// What could not be sent and is to be sent again now.
    pub(super) fn due_again(&mut self, now: Instant) -> Vec<Action> {
        if self.again_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.again_at = None;
        let runs = &self.runs;
        let renewed = |action| match action {
            // What it runs by now, not what it ran when that could not be said.
            Action::Runs { worker, .. } => Action::Runs { worker, revision: runs.get(&worker).copied().flatten() },
            action => action,
        };
        std::mem::take(&mut self.again).into_iter().map(renewed).collect()
    }

    /// The number that a command has.
    fn numbered(&mut self, number: i64, command: Sent) {
        let before = self.last.replace((self.era, number));
        if before.is_some_and(|(era, last)| era == self.era && number <= last) {
            self.renewed = Some(self.era);
        }
        let renewed = self.renewed.filter(|era| *era == self.era);
        self.undecided.insert(number, Sent { renewed, ..command });
    }

    /// The commands' topic was made anew, and what stood in the old one is not decided any more. Workers that stand still for it
    /// do so until it is.
    pub(super) fn give_up_old_numbers(&mut self, now: Instant) {
        for (_, command) in self.undecided.extract_if(.., |_, command| command.renewed.is_none()) {
            if let Some(asker) = command.asker {
                let _ = asker.send(Err(Refused::Undecided { seconds: DECIDED.as_secs() }));
            }
            self.again.extend(command.report);
            self.again_at.get_or_insert(now);
        }
    }

    pub(super) fn asked(&mut self) -> impl Iterator<Item = &mut Sent> {
        self.unsent.values_mut().chain(self.undecided.values_mut()).filter(|command| command.asker.is_some())
    }

    /// When somebody has waited long enough for a decision.
    pub(super) fn gives_up(&self) -> Option<Instant> {
        let asked = self.unsent.values().chain(self.undecided.values()).filter(|command| command.asker.is_some());
        asked.map(|command| command.until).min()
    }

    /// Tells those who have waited long enough; what they asked for may still be decided.
    pub(super) fn give_up(&mut self, now: Instant) {
        for command in self.asked().filter(|command| command.until <= now) {
            if let Some(asker) = command.asker.take() {
                let _ = asker.send(Err(Refused::Undecided { seconds: DECIDED.as_secs() }));
            }
        }
    }
}

/// Where one decides for several daemons.
impl<P: Send + 'static> Runner<P> {
    /// Between two attempts to send what a worker has reported.
    const AGAIN: Duration = Duration::from_secs(1);

    /// Nobody is to wait for this daemon any more.
    pub(super) fn say_goodbye(mut self) {
        if matches!(self.decides, Decides::Elsewhere(_)) {
            self.report(Action::Leaves);
        }
    }

    pub(super) fn sent(&mut self, request: u64, sent: Result<i64, String>) {
        let Decides::Elsewhere(elsewhere) = &mut self.decides else { return };
        let Some(command) = elsewhere.unsent.remove(&request) else { return };
        match sent {
            Ok(number) => elsewhere.numbered(number, command),
            Err(why) => {
                if let Some(asker) = command.asker {
                    let why = format!("the command could not be written to the control topic: {why}");
                    let _ = asker.send(Err(Refused::Unfit { why }));
                }
                if let Some(action) = command.report {
                    if !elsewhere.again.contains(&action) {
                        elsewhere.again.push(action);
                    }
                    elsewhere.again_at.get_or_insert(self.machine.clock.now() + Self::AGAIN);
                }
            }
        }
        self.settle();
    }

    /// What was decided for all daemons.
    pub(super) fn heard(&mut self, mut news: Box<News>) {
        let now = self.machine.clock.now();
        let Decides::Elsewhere(elsewhere) = &mut self.decides else { return };
        let known = &self.control.history;
        let is_first = elsewhere.news.is_none();
        // A journal that was lost has less than this daemon remembers; what it had to say is not followed.
        let lost = news.control.history.revision() < known.revision();
        let begins_anew = |before: &News| news.base != before.base || news.position < before.position;
        let is_renewed = elsewhere.news.as_deref().is_some_and(begins_anew);
        news.control.develops = self.control.develops;
        news.control.is_shared = true;
        let history = news.control.history.clone();
        let next = (!lost).then(|| news.control.clone());
        let news_is_whole = news.is_whole;
        elsewhere.news = Some(news);
        let is_given = elsewhere.given.is_some_and(|at| now.saturating_duration_since(at) < GIVEN_AGAIN);
        if !lost {
            elsewhere.given = None;
        }
        if is_renewed {
            elsewhere.era += 1;
            elsewhere.give_up_old_numbers(now);
        }
        if !lost && !news_is_whole && !is_given {
            elsewhere.given = Some(now);
            self.report(Action::Incomplete);
        } else if lost && !is_given {
            elsewhere.given = Some(now);
            let history = fitting(History::clone(known));
            tracing::warn!(
                pipeline = self.control.pipeline,
                "the journal has less than this daemon remembers, and is given it"
            );
            // Their artifacts may be lost with it.
            elsewhere.link.share(&self.control.pipeline, history.current_artifacts());
            self.report(Action::Restore { history });
        }
        if let Some(next) = next {
            if is_first || history != self.control.history {
                self.keep_copy(&history);
            }
            self.follow(next);
        }
        self.tell_ready();
        if !lost {
            self.settle();
        }
    }

    /// What the journal is given should it be lost.
    fn keep_copy(&self, history: &History) {
        let command = Command {
            id: CommandId(0),
            from: String::new(),
            by: None,
            against: None,
            action: Action::Staged { of: CommandId(0), owns: false },
        };
        let entry = Entry { command, at: self.machine.clock.unix_ms() };
        if let Err(error) = self.journal.keep(&self.control.pipeline, &entry, history) {
            let why = format!("{error:#}");
            tracing::warn!(pipeline = self.control.pipeline, why, "this daemon keeps no copy of what is deployed");
        }
    }

    /// Answers whoever waits for what has been decided.
    pub(super) fn settle(&mut self) {
        let Decides::Elsewhere(elsewhere) = &mut self.decides else { return };
        let Some(news) = &elsewhere.news else { return };
        // Where the topic was made anew numbers begin again, and those of the old one come to nothing.
        let era = elsewhere.era;
        let is_decided = |number: &i64, command: &mut Sent| {
            *number < news.position && command.renewed.is_none_or(|renewed| era > renewed)
        };
        for (number, command) in elsewhere.undecided.extract_if(.., is_decided) {
            if let Some(of) = command.holds {
                self.reconciler.await_successor(of);
                self.reconciler.decided(of);
            }
            if command.asker.is_some() {
                elsewhere.waiting.insert(news.id(number), command);
            }
        }
        let is_under_way = |of: &CommandId| {
            news.control.staging.contains_key(of) || news.control.handover.is_some_and(|handover| handover.of == *of)
        };
        let over: Vec<CommandId> = elsewhere.waiting.keys().filter(|of| !is_under_way(of)).copied().collect();
        for of in over {
            let Some(Sent { asker: Some(asker), .. }) = elsewhere.waiting.remove(&of) else { continue };
            // Only the last answers are kept.
            let outcome = news.answers.get(&of).cloned().unwrap_or(Ok(Outcome::Noted));
            log(&self.control.pipeline, &outcome, true);
            let _ = asker.send(outcome);
        }
    }

    /// Tells whoever decides what is staged here; again when this daemon has come to own partitions.
    pub(super) fn tell_staged(&mut self) {
        let Decides::Elsewhere(elsewhere) = &mut self.decides else { return };
        let staging: HashSet<CommandId> = self.control.staging.keys().copied().collect();
        elsewhere.told_staged.retain(|of, _| staging.contains(of));
        let open: Vec<CommandId> = staging.into_iter().filter(|of| self.reconciler.has_open(*of)).collect();
        if open.is_empty() {
            return;
        }
        let owns = self.observed.owns_partitions();
        let mut told = Vec::new();
        for of in open {
            let before = elsewhere.told_staged.insert(of, owns);
            if before.is_none_or(|before| owns && !before) {
                told.push(of);
            }
        }
        for of in told {
            self.report(Action::Staged { of, owns });
        }
    }
}
