//! `dlq show --as-test`: what the failing release saw, gathered from the letter, the daemon's history and the pipeline's
//! file.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};

use super::super::Global;
use super::super::client::Client;
use super::place;
use crate::authoring::letter_test::{Seen, Tested, text};
use crate::config::plan::{self, Plan, Stamp, Timestamp};
use crate::control::deployment::{Release, Releases};
use crate::control::history::Line;
use crate::control::staging::{self, StageName};
use crate::pipeline::{Pipeline, Settings};
use crate::record::output::Outputs;
use crate::record::{BatchBuilder, Origin, Revision, Route, Topics};
use crate::replay::Letter;
use crate::stream::process::{Forced, Process as _};
use sandpiper_sandbox::{Compiler, Digest, Engine, Plugin, Secrets};

/// The test of a letter's plugin.
///
/// # Errors
/// When the letter is of no plugin that a test can drive, when it was written without all of its record, or when it is not known what
/// ran then; the message says what is missing.
pub(super) fn test(global: &Global, plan: &Plan, letter: &Letter, compiler: Compiler) -> Result<String> {
    let (facts, at) = (&letter.facts, place(letter.at));
    if !facts.is_whole() {
        bail!("letter {at} was written without all of its record: there is nothing to test with");
    }
    let transform =
        facts.stage.strip_prefix("transform[").and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
    let (tested, before) = match (facts.stage.as_str(), transform) {
        ("parse", _) => (Tested::Parser, plan.transforms.len()),
        (_, Some(before)) => (Tested::Transform, before),
        _ => bail!(
            "letter {at} is of stage {}: only what a parser or a transform did not take can be a test",
            facts.stage
        ),
    };
    let releases = releases(global, plan, letter)?;
    let stages: Vec<(String, &Release)> = releases.iter().collect();
    let release = stages.iter().find(|(stage, _)| *stage == facts.stage).map(|(_, release)| *release);
    let release = release
        .with_context(|| format!("letter {at} is of stage {}, which the pipeline does not have", facts.stage))?;
    let ours = facts.release.as_deref().unwrap_or_default();
    ensure!(
        release.label() == ours,
        "letter {at} is of release {ours}, and {} asks for {}: start the daemon that wrote the letter, or name it with \
         --admin, and it says what ran then",
        plan.file.display(),
        release.label()
    );
    let seen = seen(plan, &releases, before, letter, compiler)?;
    Ok(text(facts, tested, &release.config.to_string(), &seen))
}

/// What ran when the letter was written: as the daemon remembers it, else what the pipeline's file asks for.
fn releases(global: &Global, plan: &Plan, letter: &Letter) -> Result<Releases> {
    let history: Result<Vec<Line>> =
        Client::new(global).and_then(|client| client.get(&format!("/v1/pipelines/{}/history", plan.name)));
    let ran = history.unwrap_or_default().into_iter().find_map(|line| match line {
        Line::Deployment(deployment) if Some(deployment.revision) == letter.facts.revision => Some(deployment),
        _ => None,
    });
    if let Some(deployment) = ran {
        return Ok(deployment.releases);
    }
    let release = |stage: &plan::Stage| -> Result<Release> {
        let (name, component) = staging::component(&stage.plugin)?;
        let model = stage.model.as_deref().map(std::fs::read).transpose().context("the model cannot be read")?;
        let (plugin, model) = (Digest::of(&component), model.as_deref().map(Digest::of));
        Ok(Release { name, plugin, model, config: stage.config.clone() })
    };
    Ok(Releases {
        transforms: plan.transforms.iter().map(|transform| release(&transform.stage)).collect::<Result<_>>()?,
        parse: plan.parse.as_ref().map(release).transpose()?,
        classify: plan.classify.as_ref().map(release).transpose()?,
        score: None,
    })
}

/// The letter's record as the stage behind so many transforms saw it.
fn seen(plan: &Plan, releases: &Releases, before: usize, letter: &Letter, compiler: Compiler) -> Result<Vec<Seen>> {
    if before == 0 {
        let (key, value, headers) = (letter.key.clone(), letter.value.clone(), letter.headers.clone());
        return Ok(vec![Seen { key, value, headers, timestamp: letter.facts.timestamp }]);
    }
    let engine = Engine::new(None, compiler)?;
    let (mut transforms, mut secrets) = (Vec::new(), Vec::new());
    for (at, (transform, release)) in plan.transforms.iter().zip(&releases.transforms).take(before).enumerate() {
        let (name, component) = staging::component(&transform.stage.plugin)?;
        ensure!(
            Digest::of(&component) == release.plugin,
            "the record went through transform[{at}] first, whose component then was {}; {} names another one: put the \
             old one there to see what it made of the record",
            release.plugin,
            plan.file.display()
        );
        let stage = StageName::Transform(at);
        let mut open = || {
            let plugin = Arc::new(Plugin::load(&engine, &name, &component)?);
            let opening = staging::opening(plan, release, Vec::new())?;
            secrets.push(opening.secrets.clone());
            staging::open_transform(plan, stage, transform, release, plugin, opening)
        };
        transforms.push(open().with_context(|| format!("the record went through {stage} first"))?);
    }
    let settings = Settings { stamp: Stamp::None, timestamp: Timestamp::Input, ..Settings::new(plan, "") };
    let mut pipeline = Pipeline::new(Revision::FIRST, Arc::new(settings), transforms, None);
    let (topics, [topic]) = Topics::of([letter.facts.topic.as_str()]);
    let mut batch = BatchBuilder::new(topics);
    let headers = (!letter.headers.is_empty()).then(|| Box::new(letter.headers.clone()));
    let origin = Origin { topic, partition: letter.facts.partition, offset: letter.facts.offset };
    batch.push(origin, letter.facts.timestamp, letter.key.as_deref(), letter.value.as_deref(), headers);
    let mut outputs = Outputs::default();
    pipeline.process(&batch.finish(), &Forced::new(), 0, &mut outputs);
    // A test is kept with the plugin's source: what the transforms wrote of their secrets does not go there.
    let shown = |bytes: &[u8]| secrets.iter().fold(bytes.to_vec(), |bytes, secrets: &Secrets| secrets.hide_in(bytes));
    let handed_on = outputs.records.iter().filter(|output| output.route == Route::Output);
    let seen: Vec<Seen> = handed_on
        .map(|output| Seen {
            key: output.key.map(|key| shown(outputs.bytes(key))),
            value: output.value.map(|value| shown(outputs.bytes(value))),
            headers: (output.headers.iter().flat_map(|headers| headers.iter()))
                .map(|(name, value)| (name.clone(), value.as_deref().map(shown)))
                .collect(),
            timestamp: output.timestamp,
        })
        .collect();
    ensure!(!seen.is_empty(), "the transforms hand nothing of this record on: the stage has nothing to see");
    Ok(seen)
}
