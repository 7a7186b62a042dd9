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
use crate::record::Revision;
use crate::stream::hold::Hold;
use crate::stream::process::Probation;
use crate::stream::slot::Slot;
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
    pub probation: Probation,
}

/// Names what is opened: the command that proposed it, or none where it is current already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub of: Option<CommandId>,
    revision: Revision,
    runs: Digest,
}

impl Key {
    fn new(of: Option<CommandId>, deployment: &Deployment) -> Self {
        Self { of, revision: deployment.revision, runs: deployment.digest() }
    }

    fn is_of(&self, deployment: &Deployment) -> bool {
        (self.revision, self.runs) == (deployment.revision, deployment.digest())
    }
}

/// What has become of a deployment here.
enum State<P> {
    Opening,
    /// One for each worker.
    Open(Vec<P>),
    Unfit,
}

/// One pipeline's workers at this daemon.
pub struct Reconciler<P> {
    slots: Vec<Arc<Slot<P>>>,
    hold: Arc<Hold>,
    deployments: HashMap<Key, State<P>>,
    /// What the slots were given last.
    handed: Option<Key>,
    /// What is current is opened although no command of this daemon's proposed it.
    follows: bool,
    /// A revision failed: the workers go on with what takes its place, and not before.
    awaits_successor: bool,
    /// Since when something else is current than the slots were given.
    behind_since: Option<Instant>,
    /// When opening what is current is tried again.
    retry: Option<Instant>,
    /// Why it failed.
    trouble: Option<String>,
}

impl<P: Send + 'static> Reconciler<P> {
    pub fn new(slots: Vec<Arc<Slot<P>>>, hold: Arc<Hold>, follows: bool) -> Self {
        Self {
            slots,
            hold,
            deployments: HashMap::new(),
            handed: None,
            follows,
            awaits_successor: false,
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
    pub fn opened(&mut self, key: Key, opened: Result<Vec<P>, String>, now: Instant) {
        if !self.deployments.contains_key(&key) {
            // Nobody wants it any more.
            for process in opened.into_iter().flatten().zip(&self.slots) {
                process.1.discard(process.0);
            }
            return;
        }
        let state = match opened {
            Ok(processes) => State::Open(processes),
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

    /// A worker stands still that runs something older: it goes on with what is current, and not before.
    pub fn await_successor(&mut self) {
        self.awaits_successor |= self.behind_since.is_some();
        if self.awaits_successor {
            self.hold.set(true);
        }
    }

    /// Whether the workers have something to run.
    pub fn has_handed_over(&self) -> bool {
        self.handed.is_some()
    }

    /// When it is to look again by itself.
    pub fn due(&self) -> Option<Instant> {
        // Said once: from then on it stays out until what is current is open.
        let is_in = self.follows && self.handed.is_some() && self.hold.stays_out().is_none();
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
        if let Some(State::Open(processes)) = self.deployments.remove(&key) {
            for (slot, process) in self.slots.iter().zip(processes) {
                slot.put(process);
            }
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
            if let Some(State::Open(processes)) = self.deployments.remove(&key) {
                for (slot, process) in self.slots.iter().zip(processes) {
                    slot.discard(process);
                }
            }
        }
    }

    fn open(&mut self, of: Option<CommandId>, deployment: &Deployment, control: &Control) -> Option<Opening> {
        let key = Key::new(of, deployment);
        if self.deployments.contains_key(&key) {
            return None;
        }
        self.deployments.insert(key, State::Opening);
        Some(Opening { key, deployment: deployment.clone(), probation: control.probation(deployment) })
    }

    fn hold_or_release(&mut self, control: &Control, is_behind: bool) {
        if let Some(current) = control.history.current().filter(|current| !current.on_probation) {
            self.hold.note_passed(current.revision);
        }
        self.awaits_successor = control.failed.is_some() || (self.awaits_successor && is_behind);
        self.hold.set(control.is_held() || self.awaits_successor);
    }

    fn stay_out_or_in(&self, control: &Control, now: Instant) {
        let say = |why: &str| {
            let revision = control.history.revision().map(|revision| revision.to_string()).unwrap_or_default();
            format!("this daemon cannot run revision {revision}, which is current: {why}")
        };
        // While it never had anything to run it is in no group.
        let straggles = |since: Instant| now.saturating_duration_since(since) >= STRAGGLES;
        let out = self.behind_since.filter(|since| self.follows && straggles(*since));
        self.hold.stay_out(out.map(|_| say(self.trouble().unwrap_or("it is not open within its time"))));
        self.hold.note_trouble(self.trouble().map(say));
    }
}

#[cfg(test)]
mod tests;
