//! From releases to an opened pipeline, while the old one goes on serving.
//!
//! Whoever wants to know what is wrong with the stages of a pipeline — `check`, `run`, `deploy` — is told here, of every stage
//! at once and in the same words. What a file says wrongly by itself is found before (`config`), and what the cluster lacks,
//! by those who connect.

mod fit;
mod problems;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, Result, anyhow};

use super::deployment::{Challenger, Deployment, Release, Releases};
use super::directory::StateDirectory;
use super::opened::{Opened, Trust};
use crate::config::plan::{self, Partition, Plan, PluginRef, Stamp};
use crate::config::secret::{self, Sources};
use crate::feedback::Scorer;
use crate::kafka::sink::{Placement, SinkTopic};
use crate::pipeline::challenger::{ModelChallenger, Sampling, TransformChallenger};
use crate::pipeline::{ModelStage, Pipeline, Settings, TransformStage};
use crate::record::prediction::{Arm, Writer};
use crate::record::{Revision, Role, Routes};
use crate::stream::failpoint::hangpoint;
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::Secrets;
use sandpiper_sandbox::stage::{Parse, WasmClassifier, WasmParser, WasmScorer, WasmTransform};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::wit::latest::{Column, Signature};
use sandpiper_sandbox::{Engine, Limits, Plugin};

use fit::same_classes;
pub use fit::{gather, routes, width};
use problems::Problems;
pub use problems::{Problem, StageName, Unfit};

/// Compiles and opens releases. One for the process; plugins that are open are compiled once each.
pub struct Stager {
    engine: Engine,
    directory: Arc<StateDirectory>,
    /// Those that some stage has open.
    plugins: Mutex<HashMap<Digest, Weak<Plugin>>>,
}

impl Stager {
    pub fn new(engine: Engine, directory: Arc<StateDirectory>) -> Self {
        Self { engine, directory, plugins: Mutex::default() }
    }

    /// What a stage of a pipeline's file asks for, its plugin and model kept.
    ///
    /// # Errors
    /// When a file cannot be read or kept.
    pub fn release(&self, stage: &plan::Stage) -> Result<Release> {
        let (name, component) = component(&stage.plugin)?;
        let plugin = self.directory.keep_artifact(&component)?;
        let model =
            stage.model.as_deref().map(|path| self.directory.keep_artifact(&read(path, "the model")?)).transpose()?;
        Ok(Release { name, plugin, model, config: stage.config.clone() })
    }

    /// What a pipeline's file asks for.
    ///
    /// # Errors
    /// When a file cannot be read or kept: then with all that is wrong with the other stages, too.
    pub fn releases(&self, plan: &Plan) -> Result<Releases, Unfit> {
        let mut problems = Problems::default();
        let asked = self.asked(plan, &mut problems);
        if let Some(releases) = asked.whole() {
            return Ok(releases);
        }
        self.open_asked(plan, &asked, (Revision::FIRST, None), &mut problems);
        self.open_scorer(plan, &asked, &mut problems);
        Err(problems.of(&plan.name))
    }

    /// Everything that is wrong with the stages that a pipeline's file asks for, its scorer with them.
    pub fn problems(&self, plan: &Plan) -> Vec<Problem> {
        let mut problems = Problems::default();
        let asked = self.asked(plan, &mut problems);
        self.open_asked(plan, &asked, (Revision::FIRST, None), &mut problems);
        self.open_scorer(plan, &asked, &mut problems);
        problems.of(&plan.name).problems
    }

    /// The releases that a pipeline's file asks for, as far as its files can be read and kept.
    fn asked(&self, plan: &Plan, problems: &mut Problems) -> Asked {
        let mut release = |name, stage: &plan::Stage| problems.note(name, self.release(stage));
        let transforms = plan.transforms.iter().enumerate();
        Asked {
            transforms: transforms.map(|(at, each)| release(StageName::Transform(at), &each.stage)).collect(),
            parse: plan.parse.as_ref().map(|stage| release(StageName::Parse, stage)),
            classify: plan.classify.as_ref().map(|stage| release(StageName::Classify, stage)),
            score: plan.feedback.as_ref().map(|feedback| release(StageName::Score, &feedback.score)),
        }
    }

    /// Compiled, or the one that another stage has open.
    ///
    /// # Errors
    /// When it is not a component that this host can run.
    pub fn plugin(&self, release: &Release) -> Result<Arc<Plugin>> {
        let lock = || self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = lock().get(&release.plugin).and_then(Weak::upgrade) {
            return Ok(plugin);
        }
        // Compiled outside of the lock: it takes a while.
        let plugin = Arc::new(Plugin::load(&self.engine, &release.name, &self.directory.artifact(release.plugin)?)?);
        let mut plugins = lock();
        plugins.retain(|_, plugin| plugin.strong_count() > 0);
        plugins.insert(release.plugin, Arc::downgrade(&plugin));
        drop(plugins);
        self.evict_code();
        Ok(plugin)
    }

    /// Removes the code of plugins that are not kept any more.
    fn evict_code(&self) {
        if let Err(error) = self.engine.evict_code(|plugin| self.directory.has_artifact(plugin)) {
            tracing::warn!(%error, "compiled code that nothing needs cannot be removed");
        }
    }

    fn opening(&self, plan: &Plan, release: &Release) -> Result<Opening> {
        let model = release.model.map(|model| self.directory.artifact(model)).transpose()?;
        opening(plan, release, model.unwrap_or_default())
    }

    /// Opens a deployment for each of so many workers, and its scorer where the pipeline has feedback.
    ///
    /// # Errors
    /// As `open`.
    pub fn stage(
        &self,
        plan: &Plan,
        deployment: &Deployment,
        trust: Trust,
        workers: usize,
    ) -> Result<Opened<Pipeline>, Unfit> {
        hangpoint!(IN_STAGING);
        let mut problems = Problems::default();
        let asked = self.of_deployment(plan, deployment, &mut problems);
        let mut pipelines = Vec::new();
        for _ in 0..workers {
            let pipeline = self.open_asked(plan, &asked, of(deployment), &mut problems);
            // What is wrong is wrong for every worker.
            let Some(mut pipeline) = pipeline.filter(|_| problems.is_empty()) else { break };
            pipeline.probation = trust.path;
            pipeline.releases = Some(deployment.digest());
            pipelines.push(pipeline);
        }
        let scorer = self.open_scorer(plan, &asked, &mut problems).map(|(score, release)| Scorer {
            score: Box::new(score),
            release,
            revision: deployment.revision,
            probation: trust.scorer,
        });
        problems.or(&plan.name, Some(Opened { workers: pipelines, scorer }))
    }

    /// Opens everything for one worker.
    ///
    /// # Errors
    /// Every stage that cannot be opened or does not fit another; each message names both sides and the fix.
    pub fn open(&self, plan: &Plan, deployment: &Deployment) -> Result<Pipeline, Unfit> {
        let mut problems = Problems::default();
        let pipeline = self.open_asked(plan, &Asked::from(&deployment.releases), of(deployment), &mut problems);
        problems.or(&plan.name, pipeline)
    }

    /// What a deployment runs here. A scorer that it does not name is the file's.
    fn of_deployment(&self, plan: &Plan, deployment: &Deployment, problems: &mut Problems) -> Asked {
        let asked = Asked::from(&deployment.releases);
        let score = plan.feedback.as_ref().map(|feedback| match asked.score {
            Some(named) => named,
            None => problems.note(StageName::Score, self.release(&feedback.score)),
        });
        Asked { score, ..asked }
    }

    /// The scorer and its release, where it is known.
    fn open_scorer(&self, plan: &Plan, asked: &Asked, problems: &mut Problems) -> Option<(WasmScorer, String)> {
        let release = asked.score.as_ref()?.as_ref()?;
        let open = || WasmScorer::open(self.plugin(release)?, limits(plan), self.opening(plan, release)?);
        Some((problems.note(StageName::Score, open())?, release.label()))
    }

    /// Opens every stage whose release is known, and the challenger's where there is one, and notes what is wrong with each.
    fn open_asked(
        &self,
        plan: &Plan,
        asked: &Asked,
        (revision, challenger): (Revision, Option<&Challenger>),
        problems: &mut Problems,
    ) -> Option<Pipeline> {
        let mut transforms = Vec::new();
        for (at, (transform, release)) in plan.transforms.iter().zip(&asked.transforms).enumerate() {
            let name = StageName::Transform(at);
            let Some(release) = release else { continue };
            let stage = problems.note(name, self.open_transform(plan, name, transform, release));
            let other = changed(challenger, name, release).map(|(challenger, release)| {
                let opened = problems.note(name, self.open_transform(plan, name, transform, release));
                opened.map(|TransformStage { stage, release, routes, .. }| TransformChallenger {
                    sampling: sampling(plan, challenger),
                    stage,
                    release,
                    routes,
                })
            });
            transforms.extend(stage.map(|stage| TransformStage { challenger: other.flatten(), ..stage }));
        }
        let parser = asked.parse.as_ref().map(|release| {
            let release = release.as_ref()?;
            Some((release, problems.note(StageName::Parse, self.open_parser(plan, release))?))
        });
        let classifier = asked.classify.as_ref().map(|release| {
            let release = release.as_ref()?;
            Some((release, problems.note(StageName::Classify, self.open_classifier(plan, release))?))
        });
        let model = match (parser, classifier) {
            (Some(parser), Some(classifier)) => {
                let release = asked.path()?.digest();
                let arm = Arm { role: Role::Champion, revision, release, stamped: plan.output.stamp == Stamp::Value };
                let (parser, classifier) = (parser?, classifier?);
                let other = self.open_challenger(plan, challenger, &arm, (&parser, &classifier), problems);
                // Where a transform has a challenger, what it makes of a record is classified like all others.
                let behind = challenger.filter(|_| other.is_none()).map(|challenger| {
                    let arm = Arm { role: Role::Challenger, release: challenger.releases.digest(), ..arm };
                    Writer::new(&classifier.1.1, plan.output.min_confidence, &arm)
                });
                let model = problems.note(StageName::Classify, model(plan, &arm, parser, classifier))?;
                Some(ModelStage { challenger: other, behind_challenger: behind, ..model })
            }
            _ => None,
        };
        let settings = Arc::new(Settings::new(plan, self.directory.instance()));
        Some(Pipeline::new(revision, settings, transforms, model))
    }

    /// The challenger of parser and classifier, where it runs something else in one of them.
    fn open_challenger(
        &self,
        plan: &Plan,
        challenger: Option<&Challenger>,
        champion: &Arm,
        ((parse, (_, columns)), (classify, (_, signature))): (&OpenParser<'_>, &OpenClassifier<'_>),
        problems: &mut Problems,
    ) -> Option<ModelChallenger> {
        let own_parser = changed(challenger, StageName::Parse, parse);
        let own_classifier = changed(challenger, StageName::Classify, classify);
        let (challenger, _) = own_parser.or(own_classifier)?;
        let (mut parse, mut columns, mut parser) = (*parse, columns.clone(), None);
        if let Some((_, own)) = own_parser {
            let (opened, theirs) = problems.note(StageName::Parse, self.open_parser(plan, own))?;
            (parse, columns, parser) = (own, theirs, Some(Box::new(opened) as Box<dyn Parse>));
        }
        let classify = own_classifier.map_or(*classify, |(_, own)| own);
        let (classifier, theirs) = problems.note(StageName::Classify, self.open_classifier(plan, classify))?;
        let fits = || {
            if !challenger.allow_new_classes {
                same_classes(signature, &classify.name, &theirs)?;
            }
            Ok((gather(&parse.name, &columns, &classify.name, &theirs)?, width(&theirs)?))
        };
        let (gather, columns) = problems.note(StageName::Classify, fits())?;
        let arm = Arm { role: Role::Challenger, release: challenger.releases.digest(), ..*champion };
        Some(ModelChallenger {
            sampling: sampling(plan, challenger),
            parser,
            classifier: Box::new(classifier),
            release: classify.label(),
            gather,
            columns,
            classes: theirs.classes.len(),
            writer: Writer::new(&theirs, plan.output.min_confidence, &arm),
        })
    }

    fn open_transform(
        &self,
        plan: &Plan,
        name: StageName,
        transform: &plan::Transform,
        release: &Release,
    ) -> Result<TransformStage> {
        open_transform(plan, name, transform, release, self.plugin(release)?, self.opening(plan, release)?)
    }

    fn open_parser(&self, plan: &Plan, release: &Release) -> Result<(WasmParser, Vec<Column>)> {
        WasmParser::open(self.plugin(release)?, limits(plan), self.opening(plan, release)?)
    }

    fn open_classifier(&self, plan: &Plan, release: &Release) -> Result<(WasmClassifier, Signature)> {
        WasmClassifier::open(self.plugin(release)?, limits(plan), self.opening(plan, release)?)
    }
}

/// What its pipelines are opened as.
fn of(deployment: &Deployment) -> (Revision, Option<&Challenger>) {
    (deployment.revision, deployment.challenger.as_ref())
}

/// A release and what it is opened as.
type OpenParser<'a> = (&'a Release, (WasmParser, Vec<Column>));
type OpenClassifier<'a> = (&'a Release, (WasmClassifier, Signature));

/// The challenger, where it runs something else than that release in that stage, and what.
fn changed<'a>(
    challenger: Option<&'a Challenger>,
    stage: StageName,
    runs: &Release,
) -> Option<(&'a Challenger, &'a Release)> {
    let challenger = challenger?;
    let release = challenger.releases.get(&stage.to_string())?;
    (runs.digest() != release.digest()).then_some((challenger, release))
}

fn sampling(plan: &Plan, challenger: &Challenger) -> Sampling {
    Sampling::new(&challenger.salt(&plan.name), challenger.sample, challenger.canary)
}

/// The releases of a pipeline's stages. `None` in a stage's place: its files cannot be read, and that is a problem noted already.
struct Asked {
    transforms: Vec<Option<Release>>,
    parse: Option<Option<Release>>,
    classify: Option<Option<Release>>,
    score: Option<Option<Release>>,
}

impl From<&Releases> for Asked {
    fn from(releases: &Releases) -> Self {
        Self {
            transforms: releases.transforms.iter().cloned().map(Some).collect(),
            parse: releases.parse.clone().map(Some),
            classify: releases.classify.clone().map(Some),
            score: releases.score.clone().map(Some),
        }
    }
}

impl Asked {
    /// `None` when one of them is missing.
    fn whole(&self) -> Option<Releases> {
        let score = match &self.score {
            None => None,
            Some(release) => Some(release.clone()?),
        };
        Some(Releases { score, ..self.path()? })
    }

    /// As `whole`, without what scores.
    fn path(&self) -> Option<Releases> {
        let known = |release: &Option<Option<Release>>| match release {
            None => Some(None),
            Some(release) => release.clone().map(Some),
        };
        Some(Releases {
            transforms: self.transforms.iter().cloned().collect::<Option<_>>()?,
            parse: known(&self.parse)?,
            classify: known(&self.classify)?,
            score: None,
        })
    }
}

/// What `open` is given: here references to secrets are read, each time anew.
///
/// # Errors
/// When a secret cannot be read.
pub fn opening(plan: &Plan, release: &Release, model: Vec<u8>) -> Result<Opening> {
    let sources = Sources { folder: plan.folder(), env: &|name| std::env::var(name).ok() };
    let (config, secrets) =
        secret::expand(&sources, &release.config).map_err(|error| anyhow!("plugin {}: {error}", release.name))?;
    Ok(Opening { config: config.to_string(), model: Arc::new(model), signature: None, secrets: Secrets::of(secrets) })
}

/// A transform in its place in the pipeline.
///
/// # Errors
/// When it cannot be opened, or the file names an output that it does not have.
pub fn open_transform(
    plan: &Plan,
    name: StageName,
    transform: &plan::Transform,
    release: &Release,
    plugin: Arc<Plugin>,
    opening: Opening,
) -> Result<TransformStage> {
    let (stage, outputs) = WasmTransform::open(plugin, limits(plan), opening)?;
    let routes = routes(&release.name, &transform.outputs, &outputs, &sink_topics(plan))?;
    let (name, release) = (name.to_string(), release.label());
    Ok(TransformStage { stage: Box::new(stage), name, release, routes, challenger: None })
}

/// Parser and classifier together.
fn model(
    plan: &Plan,
    arm: &Arm,
    (parse, (parser, columns)): OpenParser<'_>,
    (classify, (classifier, signature)): OpenClassifier<'_>,
) -> Result<ModelStage> {
    let gather = gather(&parse.name, &columns, &classify.name, &signature)?;
    Ok(ModelStage {
        parser: Box::new(parser),
        parser_release: parse.label(),
        classifier: Box::new(classifier),
        classifier_release: classify.label(),
        gather,
        columns: width(&signature)?,
        classes: signature.classes.len(),
        writer: Writer::new(&signature, plan.output.min_confidence, arm),
        challenger: None,
        behind_challenger: None,
    })
}

pub fn limits(plan: &Plan) -> Limits {
    Limits { memory: plan.limits.plugin_memory, deadline: plan.limits.deadline, ..Limits::default() }
}

/// A plugin's name for people, and its bytes.
///
/// # Errors
/// When there is no such stock plugin, or the file cannot be read.
pub fn component(plugin: &PluginRef) -> Result<(String, Cow<'static, [u8]>)> {
    match plugin {
        PluginRef::Stock(name) => {
            let bytes = stock::component(name)
                .with_context(|| format!("{name:?} is no stock plugin; there are {}", stock::names().join(", ")))?;
            Ok((name.clone(), Cow::Borrowed(bytes)))
        }
        PluginRef::Path(path) => {
            let name = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into_owned());
            Ok((name, Cow::Owned(read(path, "the plugin")?)))
        }
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{what} {} cannot be read", path.display()))
}

/// Where the main loop writes: output, dead letters, and the transforms' named outputs.
pub fn sink_topics(plan: &Plan) -> Routes<SinkTopic> {
    let placement = match plan.output.partition {
        Partition::Input => Placement::Input,
        Partition::Key => Placement::Key,
    };
    let mut topics = Routes {
        output: SinkTopic { name: plan.output.topic.clone(), placement },
        dead_letters: SinkTopic { name: plan.errors.dead_letters.clone(), placement: Placement::Folded },
        named: Vec::new(),
    };
    for name in plan.transforms.iter().flat_map(|transform| transform.outputs.values()) {
        if topics.find(|topic| topic.name == *name).is_none() {
            topics.named.push(SinkTopic { name: name.clone(), placement });
        }
    }
    topics
}

#[cfg(test)]
mod tests;
