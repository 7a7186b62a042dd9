//! What a pipeline runs: releases, named by their digests, and deployments, numbered by a revision that only grows.

use serde::{Deserialize, Serialize};

use super::command::By;
use crate::record::Revision;
use sandpiper_sandbox::Digest;

/// What a stage runs: plugin, model and configuration; immutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// For people: a stock name, or the file's stem.
    pub name: String,
    pub plugin: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// A JSON object. References to secrets are kept as references.
    pub config: serde_json::Value,
}

impl Release {
    /// Named by what it runs, not by what it is called.
    pub fn digest(&self) -> Digest {
        let model = self.model.map(|model| model.to_string()).unwrap_or_default();
        Digest::of(format!("{}\n{model}\n{}", self.plugin, self.config).as_bytes())
    }

    /// `logistic@3fa2c4d5e6f7`: in messages, metrics and dead letters.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.digest().short())
    }
}

/// The releases of a pipeline's stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<Release>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parse: Option<Release>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classify: Option<Release>,
    /// The feedback's. None where the pipeline has no feedback, for a candidate, which is judged by the scorer that runs, and in
    /// what a version wrote that deployed no scorers: then it is the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Release>,
}

impl Releases {
    /// Stage and release, in the order of a record's path; last what judges it.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Release)> {
        self.path().chain(self.score.iter().map(|release| ("score".to_owned(), release)))
    }

    /// Those that a record's outputs come of.
    pub fn path(&self) -> impl Iterator<Item = (String, &Release)> {
        let transforms = self.transforms.iter().enumerate().map(|(at, release)| (format!("transform[{at}]"), release));
        let parse = self.parse.iter().map(|release| ("parse".to_owned(), release));
        let classify = self.classify.iter().map(|release| ("classify".to_owned(), release));
        transforms.chain(parse).chain(classify)
    }

    /// The plugins and models that they need.
    pub fn artifacts(&self) -> impl Iterator<Item = Digest> {
        self.iter().flat_map(|(_, release)| std::iter::once(release.plugin).chain(release.model))
    }

    /// The release of a stage, named as `iter` names it.
    pub fn get(&self, stage: &str) -> Option<&Release> {
        self.iter().find(|(name, _)| name == stage).map(|(_, release)| release)
    }

    /// As `get`.
    pub fn get_mut(&mut self, stage: &str) -> Option<&mut Release> {
        let at = stage.strip_prefix("transform[").and_then(|rest| rest.strip_suffix(']'));
        match (stage, at.and_then(|at| at.parse::<usize>().ok())) {
            ("parse", _) => self.parse.as_mut(),
            ("classify", _) => self.classify.as_mut(),
            ("score", _) => self.score.as_mut(),
            (_, Some(at)) => self.transforms.get_mut(at),
            _ => None,
        }
    }

    /// The releases that are others there, for people. Of a scorer that is not known there nothing is said.
    pub fn differing_from(&self, others: &Releases) -> String {
        let differs = |(stage, release): &(String, &Release)| match others.get(stage) {
            Some(other) => other.digest() != release.digest(),
            None => stage != "score",
        };
        let named = |(stage, release): (String, &Release)| format!("{stage} {}", release.label());
        self.iter().filter(differs).map(named).collect::<Vec<_>>().join(", ")
    }

    /// The scorer's.
    pub fn score_digest(&self) -> Option<Digest> {
        self.score.as_ref().map(Release::digest)
    }

    /// The same with the scorer of others.
    pub fn scored_as(self, others: &Releases) -> Self {
        Self { score: others.score.clone(), ..self }
    }

    /// Whether both are the same, scorers included.
    pub fn is_all_of(&self, others: &Releases) -> bool {
        self.digest() == others.digest() && self.score_digest() == others.score_digest()
    }

    /// Of what a record's outputs come of: what offsets and predictions name. A scorer changes none of these, so it does not
    /// count, and daemons that know no deployed scorers find the same.
    pub fn digest(&self) -> Digest {
        let parts: Vec<String> = self.path().map(|(stage, release)| format!("{stage} {}", release.digest())).collect();
        Digest::of(parts.join("\n").as_bytes())
    }
}

/// A candidate that runs beside what a pipeline runs, as one step of a rollout has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenger {
    /// What the pipeline would run if it were promoted: it differs from what runs in one stage, or in parser and classifier. Without
    /// a scorer.
    pub releases: Releases,
    /// The rollout, named by the revision of its first step.
    pub rollout: Revision,
    /// Share of the records that both run on, and of those whose answer is the challenger's: 0..=1.
    pub sample: f32,
    pub canary: f32,
    /// Its classes may be others than the champion's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_new_classes: bool,
}

impl Challenger {
    /// What a record's arm is told by: the same in each step of the rollout, at every daemon and after a restart.
    pub fn salt(&self, pipeline: &str) -> Digest {
        Digest::of(format!("{pipeline}\n{}\n{}", self.rollout, self.releases.digest()).as_bytes())
    }
}

/// What a pipeline runs from one moment on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Grows with each deployment of this pipeline, by one unless the group is further; the first is 1.
    pub revision: Revision,
    pub releases: Releases,
    /// Why, in somebody's words.
    pub reason: String,
    /// Who asked for it; nobody where the daemon itself did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// Whether it has yet to pass its first records.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_probation: bool,
    /// Whether its scorer has yet to judge its first outcomes, where there is another to go back to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scorer_on_probation: bool,
    /// Why it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What runs beside it, while a rollout is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenger: Option<Challenger>,
}

impl Deployment {
    /// Of releases that nobody has deployed: to open them and look.
    pub fn of(revision: Revision, releases: Releases) -> Self {
        Self {
            revision,
            releases,
            reason: String::new(),
            by: None,
            at: 0,
            on_probation: false,
            scorer_on_probation: false,
            failed: None,
            challenger: None,
        }
    }

    /// The plugins and models that it needs.
    pub fn artifacts(&self) -> impl Iterator<Item = Digest> {
        let challenger = self.challenger.iter().flat_map(|challenger| challenger.releases.artifacts());
        self.releases.artifacts().chain(challenger)
    }

    /// Of all that decides what a record's outputs are.
    pub fn digest(&self) -> Digest {
        let releases = self.releases.digest();
        match &self.challenger {
            None => releases,
            Some(Challenger { releases: other, rollout, sample, canary, .. }) => {
                Digest::of(format!("{releases}\n{}\n{rollout} {sample} {canary}", other.digest()).as_bytes())
            }
        }
    }
}
