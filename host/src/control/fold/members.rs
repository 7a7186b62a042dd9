//! The daemons that run a pipeline, in the fold: what each of them runs, asks for and has staged, and what that comes to.

use std::collections::BTreeSet;

use super::super::artifacts::ON_ITS_WAY;
use super::super::command::{CommandId, Outcome};
use super::super::deployment::Releases;
use super::super::history::History;
use super::{Artifact, Came, Control, Fold, Member, Staging};
use crate::record::Revision;
use crate::stream::failpoint::planted_mistake;
use sandpiper_sandbox::Digest;

/// Daemons that are remembered, at most, as long as none of them runs anything.
const MEMBERS: usize = 1_024;

impl Control {
    /// Each worker's daemon and number, and what it runs.
    pub fn workers(&self) -> impl Iterator<Item = (&str, usize, Option<Revision>)> {
        self.members.iter().flat_map(|(name, member)| {
            member.workers.iter().map(move |(worker, revision)| (name.as_str(), *worker, *revision))
        })
    }

    /// Daemons that have workers, whatever these run: while they are held that is nothing.
    fn present(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter(|(_, member)| !member.workers.is_empty()).map(|(name, _)| name.as_str())
    }
}

/// A worker as people are told it.
fn worker_name(daemon: &str, worker: usize) -> String {
    if daemon.is_empty() { worker.to_string() } else { format!("{daemon}/{worker}") }
}

impl Fold {
    /// The daemon that the command is from.
    pub(super) fn member(&mut self) -> &mut Member {
        let from = self.from.clone();
        if !self.next.members.contains_key(&from) && self.next.members.len() >= MEMBERS {
            self.next.members.retain(|_, member| !member.workers.is_empty());
        }
        self.next.members.entry(from).or_default()
    }

    /// Whether a daemon's file asks for something that is to be applied: it has changed since that daemon asked last, or nobody
    /// has asked for it yet. A daemon that comes late with what was replaced in the meantime takes what runs.
    pub(super) fn is_new_wish(&mut self, releases: &Releases) -> bool {
        let (wanted, scorer) = (releases.digest(), releases.score_digest());
        let member = self.member();
        let (before, scorer_before) = (member.wish.replace(wanted), std::mem::replace(&mut member.wish_score, scorer));
        if self.next.history.current().is_some() && self.next.history.has_applied(releases) {
            return false;
        }
        // A file without a scorer asks for none in particular, and versions that deployed none did not say what theirs was.
        let same_scorer = |other: Option<Digest>| scorer.zip(other).is_none_or(|(scorer, other)| scorer == other);
        let same = |member: &Member| member.wish == Some(wanted) && same_scorer(member.wish_score);
        let from = &self.from;
        let others = || self.next.members.iter().any(|(name, member)| name != from && same(member));
        let runs = |each: &Releases| each.digest() == wanted && same_scorer(each.score_digest());
        let ran = || self.next.history.deployments.iter().any(|each| runs(&each.releases));
        match before {
            // It could not be run when it was asked for first, or the control topics were lost since.
            _ if self.next.history.current().is_none() => true,
            Some(before) => before != wanted || !same_scorer(scorer_before),
            None => !(others() || ran()),
        }
    }

    pub(super) fn runs(&mut self, worker: usize, revision: Option<Revision>) {
        self.member().workers.insert(worker, revision);
        if self.not_yet_taken().is_empty() {
            self.end_handover(Vec::new());
        }
        self.done(Outcome::Noted);
    }

    /// Workers that run something older than what is current. Those that run nothing take it when they start.
    pub(super) fn not_yet_taken(&self) -> Vec<String> {
        let Some(current) = self.next.history.revision() else { return Vec::new() };
        let older = self.next.workers().filter(|(_, _, revision)| revision.is_some_and(|revision| revision < current));
        older.map(|(daemon, worker, _)| worker_name(daemon, worker)).collect()
    }

    /// A daemon stops: nobody is to wait for it.
    pub(super) fn leaves(&mut self) {
        self.member().workers.clear();
        if self.next.handover.is_some() && self.not_yet_taken().is_empty() {
            self.end_handover(Vec::new());
        }
        for of in self.next.staging.keys().copied().collect::<Vec<_>>() {
            if self.next.staging.get(&of).is_some_and(|staging| !staging.came.is_empty()) {
                self.decide(of, false);
            }
        }
        self.done(Outcome::Noted);
    }

    /// A daemon says what came of staging there.
    pub(super) fn came(&mut self, of: CommandId, came: Came) {
        if let Some(staging) = self.next.staging.get_mut(&of) {
            staging.came.insert(self.from.clone(), came);
            self.decide(of, false);
        }
        self.done(Outcome::Noted);
    }

    /// What has had its time: workers that have not taken a deployment, or daemons that have not said what came of staging.
    pub(super) fn overdue(&mut self, of: CommandId) {
        if self.next.handover.is_some_and(|handover| handover.of == of) {
            self.end_handover(self.not_yet_taken());
            self.forget_late_workers();
        }
        if self.next.staging.contains_key(&of) {
            self.decide(of, true);
        }
        self.done(Outcome::Noted);
    }

    /// One of several daemons may have gone without a word: the next deployment does not wait for it, unless it is heard again.
    fn forget_late_workers(&mut self) {
        if !self.next.is_shared {
            return;
        }
        let current = self.next.history.revision();
        let late = |revision: &&mut Option<Revision>| revision.is_some() && **revision < current;
        for member in self.next.members.values_mut() {
            member.workers.retain(|_, revision| !late(&revision));
        }
    }

    /// A deployment is current as soon as a daemon has it staged that owns partitions, or everybody has answered who runs
    /// something and one has it staged; where nobody has, it is refused, and nothing of what runs was touched.
    fn decide(&mut self, of: CommandId, is_overdue: bool) {
        let Some(staging) = self.next.staging.get(&of) else { return };
        let all_answered = is_overdue || self.next.present().all(|name| staging.came.contains_key(name));
        let mut is_staged = staging.came.values().any(|came| matches!(came, Came::Staged { .. }));
        planted_mistake!(ACTIVATES_UNFIT, is_staged = true);
        let is_owned = staging.came.values().any(|came| *came == Came::Staged { owns: true });
        if !(is_owned || all_answered) {
            return;
        }
        let Some(staging) = self.next.staging.remove(&of) else { return };
        if !is_staged {
            let why = whys(&staging);
            return self.unfit(of, staging, &why);
        }
        match self.next.history.revision() {
            Some(by) if staging.against != Some(by) => self.answer(of, Ok(Outcome::Superseded { by })),
            _ => self.activate(of, staging),
        }
    }

    /// A plugin or a model stands in the artifacts' topic. It is named by a deployment afterwards.
    pub(super) fn shared(&mut self, digest: Digest, artifact: &Artifact) {
        self.next.artifacts.insert(digest, Artifact { at: self.now, ..artifact.clone() });
        self.done(Outcome::Noted);
    }

    /// It is not there any more, and whoever has it gives it anew.
    pub(super) fn lacks(&mut self, digest: Digest) {
        self.next.artifacts.remove(&digest);
        self.done(Outcome::Noted);
    }

    /// Forgets artifacts that no deployment needs, unless they may be on their way into one.
    pub(super) fn drop_artifacts(&mut self) {
        let Control { history, staging, artifacts, .. } = &mut self.next;
        let proposed = staging.values().flat_map(|staging| staging.deployment.artifacts());
        let needed: BTreeSet<Digest> = history.artifacts().chain(proposed).collect();
        let now = self.now;
        artifacts.retain(|digest, artifact| {
            needed.contains(digest) || now.saturating_sub(artifact.at) < ON_ITS_WAY.as_millis() as i64
        });
    }

    /// A daemon knows more than the journal has: it was lost, or the daemon had its own before.
    pub(super) fn restore(&mut self, history: &History) {
        if history.revision() > self.next.history.revision() {
            self.next.history = std::sync::Arc::new(history.clone());
            // What it was about is not current any more.
            (self.next.failed, self.next.failed_scorer) = (None, None);
        }
        self.done(Outcome::Noted);
    }
}

/// Why no daemon can run it: once where all say the same.
fn whys(staging: &Staging) -> String {
    let mut whys: Vec<(&str, &str)> = Vec::new();
    for (daemon, came) in &staging.came {
        if let Came::Unfit { why } = came
            && !whys.iter().any(|(_, known)| known == why)
        {
            whys.push((daemon, why));
        }
    }
    match &whys[..] {
        [] => "no daemon has said within its time whether it can run it".to_owned(),
        [(_, why)] => (*why).to_owned(),
        several => several.iter().map(|(daemon, why)| format!("{daemon}: {why}")).collect::<Vec<_>>().join("\n"),
    }
}
