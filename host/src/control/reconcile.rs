//! Has a daemon's workers follow what control says: opens what is proposed, hands over what is current, lets go of the rest, and
//! holds the workers as long as nothing is to be processed.
//!
//! It looks at the state alone, never at how that came about: who missed a step of it does the same as who saw them all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::CommandId;
use super::deployment::Deployment;
use super::fold::Control;
use super::opened::{Holds, Opened, Slots, StandsStill, Trust};
use crate::record::Revision;
use crate::stream::failpoint::planted_mistake;
use crate::stream::hold::Hold;
use sandpiper_sandbox::Digest;

/// How long the workers go on with what ran before while this daemon cannot run what is current: then they leave their group,
/// and other daemons have the partitions.
pub const STRAGGLES: Duration = Duration::from_secs(60);
/// Between two attempts to open what is current.
const RETRY: Duration = Duration::from_secs(5);

/// A deployment that is to be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    pub key: Key,
    pub deployment: Deployment,
    pub trust: Trust,
}

/// Names what is opened: the command that proposed it, or none where it is current already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub of: Option<CommandId>,
    revision: Revision,
    runs: Digest,
    scorer: Option<Digest>,
}

impl Key {
    fn new(of: Option<CommandId>, deployment: &Deployment) -> Self {
        let (runs, scorer) = (deployment.digest(), deployment.releases.score_digest());
        Self { of, revision: deployment.revision, runs, scorer }
    }

    fn is_of(&self, deployment: &Deployment) -> bool {
        *self == Self::new(self.of, deployment)
    }
}

/// What has become of a deployment here.
enum State<P> {
    Opening,
    Open(Opened<P>),
    Unfit,
}

/// The workers of one loop, which are held while nothing is to be processed.
struct Held {
    hold: Arc<Hold>,
    /// A revision failed: the workers go on with what takes its place, and not before.
    awaits_successor: bool,
}

impl Held {
    fn new(hold: Arc<Hold>) -> Self {
        Self { hold, awaits_successor: false }
    }

    fn await_successor(&mut self, is_behind: bool) {
        self.awaits_successor |= is_behind;
        if self.awaits_successor {
            self.hold.set(true);
        }
    }

    /// Holds them while they await a successor, or for another reason.
    fn set(&mut self, has_failed: bool, is_behind: bool, is_held: bool) {
        self.awaits_successor = has_failed || (self.awaits_successor && is_behind);
        self.hold.set(is_held || self.awaits_successor);
    }
}

/// One pipeline's workers at this daemon.
pub struct Reconciler<P> {
    slots: Slots<P>,
    main: Held,
    feedback: Held,
    deployments: HashMap<Key, State<P>>,
    /// What the slots were given last.
    handed: Option<Key>,
    /// What is current is opened although no command of this daemon's proposed it.
    follows: bool,
    /// Since when something else is current than the slots were given.
    behind_since: Option<Instant>,
    /// When opening what is current is tried again.
    retry: Option<Instant>,
    /// Why it failed.
    trouble: Option<String>,
}

impl<P: Send + 'static> Reconciler<P> {
    pub fn new(slots: Slots<P>, holds: Holds, follows: bool) -> Self {
        Self {
            slots,
            main: Held::new(holds.main),
            feedback: Held::new(holds.feedback),
            deployments: HashMap::new(),
            handed: None,
            follows,
            behind_since: None,
            retry: None,
            trouble: None,
        }
    }

    /// Brings the workers as close to that state as can be done at once. What has to be opened for the rest is answered: whoever
    /// opens it says so by `opened`, and reconciles again.
    pub fn reconcile(&mut self, control: &Control, now: Instant) -> Vec<Opening> {
        let current = control.history.current();
        self.hand_over(control, current);
        self.discard(control, current);
        let mut openings = Vec::new();
        for (of, staging) in &control.staging {
            openings.extend(self.open(Some(*of), &staging.deployment, control));
        }
        let is_behind = current.is_some_and(|current| !self.is_handed(current));
        self.behind_since = is_behind.then(|| self.behind_since.unwrap_or(now));
        if let Some(current) = current.filter(|current| is_behind && self.follows && !self.is_opening(current)) {
            if self.retry.is_some_and(|at| at <= now) {
                self.retry = None;
                self.deployments.remove(&Key::new(None, current));
            }
            openings.extend(self.open(None, current, control));
        }
        self.hold_or_release(control, is_behind);
        self.stay_out_or_in(control, now);
        openings
    }

    /// What came of opening.
    pub fn opened(&mut self, key: Key, opened: Result<Opened<P>, String>, now: Instant) {
        if !self.deployments.contains_key(&key) {
            // Nobody wants it any more.
            opened.into_iter().for_each(|opened| self.slots.discard(opened));
            return;
        }
        let state = match opened {
            Ok(opened) => State::Open(opened),
            Err(why) => {
                if key.of.is_none() {
                    (self.retry, self.trouble) = (Some(now + RETRY), Some(why));
                }
                State::Unfit
            }
        };
        self.deployments.insert(key, state);
    }

    /// Whether what that command proposed is open here, and was not handed over.
    pub fn has_open(&self, of: CommandId) -> bool {
        self.deployments.iter().any(|(key, state)| key.of == Some(of) && matches!(state, State::Open(_)))
    }

    /// A worker stands still that may run something older: then it goes on with what is current, and not before.
    pub(super) fn await_successor(&mut self, of: StandsStill) {
        let is_behind = self.behind_since.is_some();
        self.held(of).await_successor(is_behind);
    }

    /// What a worker stood still for is decided.
    pub(super) fn decided(&mut self, of: StandsStill) {
        self.held(of).hold.decided();
    }

    fn held(&mut self, of: StandsStill) -> &mut Held {
        match of {
            StandsStill::Main => &mut self.main,
            StandsStill::Feedback => &mut self.feedback,
        }
    }

    /// Whether the workers have something to run.
    pub fn has_handed_over(&self) -> bool {
        self.handed.is_some()
    }

    /// When it is to look again by itself.
    pub fn due(&self) -> Option<Instant> {
        // Said once: from then on it stays out until what is current is open.
        let is_in = self.follows && self.handed.is_some() && self.main.hold.stays_out().is_none();
        let straggles = self.behind_since.filter(|_| is_in).map(|since| since + STRAGGLES);
        self.retry.into_iter().chain(straggles).min()
    }

    /// Why what is current cannot be opened here.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn is_handed(&self, deployment: &Deployment) -> bool {
        self.handed.is_some_and(|handed| handed.is_of(deployment))
    }

    fn is_opening(&self, deployment: &Deployment) -> bool {
        self.deployments.iter().any(|(key, state)| key.is_of(deployment) && matches!(state, State::Opening))
    }

    /// What is current goes into the slots once it is open, unless it is only proposed yet.
    fn hand_over(&mut self, control: &Control, current: Option<&Deployment>) {
        let Some(current) = current.filter(|current| !self.is_handed(current)) else { return };
        let is_decided = |of: Option<CommandId>| of.is_none_or(|of| !control.staging.contains_key(&of));
        let open = self
            .deployments
            .iter()
            .find(|(key, state)| key.is_of(current) && is_decided(key.of) && matches!(state, State::Open(_)));
        let Some(key) = open.map(|(key, _)| *key) else { return };
        planted_mistake!(NEVER_HANDS_OVER, return);
        if let Some(State::Open(opened)) = self.deployments.remove(&key) {
            self.slots.put(opened);
        }
        self.handed = Some(key);
        (self.retry, self.trouble) = (None, None);
    }

    /// Lets go of what is neither proposed nor current. Instances take a while to go, and commands wait for nothing.
    fn discard(&mut self, control: &Control, current: Option<&Deployment>) {
        let handed = self.handed;
        let is_wanted = |key: &Key| match key.of.and_then(|of| control.staging.get(&of)) {
            Some(staging) => key.is_of(&staging.deployment),
            None => {
                current.is_some_and(|current| key.is_of(current) && !handed.is_some_and(|handed| handed.is_of(current)))
            }
        };
        let unwanted: Vec<Key> = self.deployments.keys().filter(|key| !is_wanted(key)).copied().collect();
        for key in unwanted {
            if let Some(State::Open(opened)) = self.deployments.remove(&key) {
                self.slots.discard(opened);
            }
        }
    }

    fn open(&mut self, of: Option<CommandId>, deployment: &Deployment, control: &Control) -> Option<Opening> {
        let key = Key::new(of, deployment);
        if self.deployments.contains_key(&key) {
            return None;
        }
        self.deployments.insert(key, State::Opening);
        let trust = Trust { path: control.probation(deployment), scorer: control.scorer_probation(deployment) };
        Some(Opening { key, deployment: deployment.clone(), trust })
    }

    fn hold_or_release(&mut self, control: &Control, is_behind: bool) {
        if let Some(current) = control.history.current() {
            if !current.on_probation {
                self.main.hold.note_passed(current.revision);
            }
            if !current.scorer_on_probation {
                self.feedback.hold.note_passed(current.revision);
            }
        }
        self.main.set(control.failed.is_some(), is_behind, control.is_held());
        // Scoring goes on while the pipeline is paused.
        self.feedback.set(control.failed_scorer.is_some(), is_behind, false);
    }

    fn stay_out_or_in(&self, control: &Control, now: Instant) {
        let say = |why: &str| {
            let revision = control.history.revision().map(|revision| revision.to_string()).unwrap_or_default();
            format!("this daemon cannot run revision {revision}, which is current: {why}")
        };
        // While it never had anything to run it is in no group.
        let straggles = |since: Instant| now.saturating_duration_since(since) >= STRAGGLES;
        let out = self.behind_since.filter(|since| self.follows && straggles(*since));
        self.main.hold.stay_out(out.map(|_| say(self.trouble().unwrap_or("it is not open within its time"))));
        self.main.hold.note_trouble(self.trouble().map(say));
    }
}

#[cfg(test)]
mod tests;
