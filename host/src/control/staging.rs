//! From releases to an opened pipeline: everything that can be wrong with a deployment is found here, while the
//! old one goes on serving.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, Result, anyhow, bail};

use super::deployment::{Challenger, Deployment, Release, Releases};
use super::directory::StateDirectory;
use crate::config::plan::{self, Partition, Plan, PluginRef, Stamp};
use crate::config::secret::{self, Sources};
use crate::kafka::sink::{Placement, SinkTopic};
use crate::pipeline::challenger::{ModelChallenger, Sampling, TransformChallenger};
use crate::pipeline::{ModelStage, Pipeline, Settings, TransformStage};
use crate::record::prediction::{Arm, Writer};
use crate::record::{Role, Route, Routes};
use crate::stream::failpoint::hangpoint;
use crate::stream::process::Probation;
use sandpiper_sandbox::Digest;
use sandpiper_sandbox::Opening;
use sandpiper_sandbox::Secrets;
use sandpiper_sandbox::stage::{Parse, WasmClassifier, WasmParser, WasmTransform};
use sandpiper_sandbox::stock;
use sandpiper_sandbox::wit::latest::{Column, Kind, Signature};
use sandpiper_sandbox::{Engine, Limits, Plugin};

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
    /// When a file cannot be read or kept.
    pub fn releases(&self, plan: &Plan) -> Result<Releases> {
        let release = |stage: &Option<plan::Stage>| stage.as_ref().map(|stage| self.release(stage)).transpose();
        Ok(Releases {
            transforms: plan
                .transforms
                .iter()
                .map(|transform| self.release(&transform.stage))
                .collect::<Result<_>>()?,
            parse: release(&plan.parse)?,
            classify: release(&plan.classify)?,
        })
    }

    /// Names this daemon in dead letters.
    pub fn instance(&self) -> &str {
        self.directory.instance()
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

    /// What `open` is given: here references to secrets are read, each time anew.
    ///
    /// # Errors
    /// When the model or a secret cannot be read.
    pub fn opening(&self, plan: &Plan, release: &Release) -> Result<Opening> {
        let sources = Sources { folder: plan.folder(), env: &|name| std::env::var(name).ok() };
        let (config, secrets) =
            secret::expand(&sources, &release.config).map_err(|error| anyhow!("plugin {}: {error}", release.name))?;
        let model = release.model.map(|model| self.directory.artifact(model)).transpose()?;
        Ok(Opening {
            config: config.to_string(),
            model: Arc::new(model.unwrap_or_default()),
            signature: None,
            secrets: Secrets::of(secrets),
        })
    }

    /// Opens a deployment for each of so many workers.
    ///
    /// # Errors
    /// As `open`.
    pub fn stage(
        &self,
        plan: &Plan,
        deployment: &Deployment,
        probation: Probation,
        workers: usize,
    ) -> Result<Vec<Pipeline>> {
        hangpoint!(IN_STAGING);
        let open = |_| {
            let mut pipeline = self.open(plan, deployment)?;
            pipeline.probation = probation;
            pipeline.releases = Some(deployment.digest());
            Ok(pipeline)
        };
        (0..workers).map(open).collect()
    }

    /// Opens everything for one worker.
    ///
    /// # Errors
    /// When a stage cannot be opened or two stages do not fit; the message names both sides and the fix.
    pub fn open(&self, plan: &Plan, deployment: &Deployment) -> Result<Pipeline> {
        let releases = &deployment.releases;
        let topics = sink_topics(plan);
        let mut transforms = Vec::new();
        for (at, (transform, release)) in plan.transforms.iter().zip(&releases.transforms).enumerate() {
            let name = format!("transform[{at}]");
            let (stage, routes) = self.open_transform(plan, transform, &topics, &name, release)?;
            let challenger = match changed(deployment, &name) {
                Some((challenger, release)) => {
                    let (stage, routes) = self.open_transform(plan, transform, &topics, &name, release)?;
                    let (sampling, release) = (sampling(plan, challenger), release.label());
                    Some(TransformChallenger { sampling, stage: Box::new(stage), release, routes })
                }
                None => None,
            };
            let release = release.label();
            transforms.push(TransformStage { stage: Box::new(stage), name, release, routes, challenger });
        }
        let model = match (&releases.parse, &releases.classify) {
            (Some(parse), Some(classify)) => Some(self.open_model(plan, parse, classify, deployment)?),
            _ => None,
        };
        let settings = Arc::new(Settings::new(plan, self.directory.instance()));
        Ok(Pipeline::new(deployment.revision, settings, transforms, model))
    }

    fn open_transform(
        &self,
        plan: &Plan,
        transform: &plan::Transform,
        topics: &Routes<SinkTopic>,
        name: &str,
        release: &Release,
    ) -> Result<(WasmTransform, Vec<Option<Route>>)> {
        let opened = WasmTransform::open(self.plugin(release)?, limits(plan), self.opening(plan, release)?);
        let (stage, outputs) = opened.with_context(|| format!("pipeline {}, stage {name}", plan.name))?;
        let routes = routes(&transform.outputs, &outputs, topics)
            .with_context(|| format!("pipeline {}, stage {name}, plugin {}", plan.name, release.name))?;
        Ok((stage, routes))
    }

    fn open_model(
        &self,
        plan: &Plan,
        parse: &Release,
        classify: &Release,
        deployment: &Deployment,
    ) -> Result<ModelStage> {
        let (parser, columns) = self.open_parser(plan, parse)?;
        let (classifier, signature) = self.open_classifier(plan, classify)?;
        let gathered = gather(&parse.name, &columns, &classify.name, &signature)
            .with_context(|| format!("pipeline {}, stages parse and classify", plan.name))?;
        let writer = |signature: &Signature, role, release| {
            let stamped = plan.output.stamp == Stamp::Value;
            let arm = Arm { role, revision: deployment.revision, release, stamped };
            Writer::new(signature, plan.output.min_confidence, &arm)
        };
        let (own_parser, own_classifier) = (changed(deployment, "parse"), changed(deployment, "classify"));
        let challenger = match own_parser.or(own_classifier) {
            None => None,
            Some((challenger, _)) => {
                let (mut parse, mut columns, mut parser) = (parse, columns.clone(), None);
                if let Some((_, own)) = own_parser {
                    let (opened, theirs) = self.open_parser(plan, own)?;
                    (parse, columns, parser) = (own, theirs, Some(Box::new(opened) as Box<dyn Parse>));
                }
                let classify = own_classifier.map_or(classify, |(_, own)| own);
                let (classifier, theirs) = self.open_classifier(plan, classify)?;
                let gather = gather(&parse.name, &columns, &classify.name, &theirs)
                    .with_context(|| format!("pipeline {}, stages parse and classify", plan.name))?;
                if !challenger.allow_new_classes {
                    same_classes(&signature, &classify.name, &theirs)
                        .with_context(|| format!("pipeline {}, stage classify", plan.name))?;
                }
                Some(ModelChallenger {
                    sampling: sampling(plan, challenger),
                    parser,
                    classifier: Box::new(classifier),
                    release: classify.label(),
                    gather,
                    columns: width(&theirs)?,
                    classes: theirs.classes.len(),
                    writer: writer(&theirs, Role::Challenger, challenger.releases.digest()),
                })
            }
        };
        Ok(ModelStage {
            parser: Box::new(parser),
            parser_release: parse.label(),
            classifier: Box::new(classifier),
            classifier_release: classify.label(),
            gather: gathered,
            columns: width(&signature)?,
            classes: signature.classes.len(),
            writer: writer(&signature, Role::Champion, deployment.releases.digest()),
            challenger,
        })
    }

    fn open_parser(&self, plan: &Plan, release: &Release) -> Result<(WasmParser, Vec<Column>)> {
        WasmParser::open(self.plugin(release)?, limits(plan), self.opening(plan, release)?)
            .with_context(|| format!("pipeline {}, stage parse", plan.name))
    }

    fn open_classifier(&self, plan: &Plan, release: &Release) -> Result<(WasmClassifier, Signature)> {
        WasmClassifier::open(self.plugin(release)?, limits(plan), self.opening(plan, release)?)
            .with_context(|| format!("pipeline {}, stage classify", plan.name))
    }
}

/// The challenger, where it runs something else in that stage, and what.
fn changed<'a>(deployment: &'a Deployment, stage: &str) -> Option<(&'a Challenger, &'a Release)> {
    let challenger = deployment.challenger.as_ref()?;
    let release = challenger.releases.get(stage)?;
    (deployment.releases.get(stage)?.digest() != release.digest()).then_some((challenger, release))
}

fn sampling(plan: &Plan, challenger: &Challenger) -> Sampling {
    Sampling::new(&challenger.salt(&plan.name), challenger.sample, challenger.canary)
}

/// Answers in other classes cannot be compared, and whoever reads the predictions may not know them.
fn same_classes(champion: &Signature, classifier: &str, challenger: &Signature) -> Result<()> {
    let set = |signature: &Signature| signature.classes.iter().cloned().collect::<BTreeSet<_>>();
    let (ours, theirs) = (set(champion), set(challenger));
    if ours == theirs {
        return Ok(());
    }
    let list = |classes: Vec<&String>| match classes.is_empty() {
        true => "none".to_owned(),
        false => classes.into_iter().map(|class| format!("{class:?}")).collect::<Vec<_>>().join(", "),
    };
    bail!(
        "classifier {classifier} has other classes than the one that runs: new are {}, missing are {}; --allow-new-classes takes it",
        list(theirs.difference(&ours).collect()),
        list(ours.difference(&theirs).collect())
    )
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

/// Where each output of a transform goes.
///
/// # Errors
/// When a name is configured that the plugin does not have.
pub fn routes(
    configured: &std::collections::BTreeMap<String, String>,
    outputs: &[String],
    topics: &Routes<SinkTopic>,
) -> Result<Vec<Option<Route>>> {
    if let Some(unknown) = configured.keys().find(|name| !outputs.contains(name)) {
        bail!("outputs.{unknown} names an output that the plugin does not have; it has {}", outputs.join(", "));
    }
    let route = |name: &String| topics.find(|topic| topic.name == *name);
    Ok(outputs.iter().map(|output| configured.get(output).and_then(route)).collect())
}

/// Where each column of the classifier stands in the parser's; `None` when they are the same in the same order.
///
/// # Errors
/// When a column is missing or of another kind; the message names both sides and the fix.
pub fn gather(parser: &str, columns: &[Column], classifier: &str, signature: &Signature) -> Result<Option<Vec<usize>>> {
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut places = Vec::new();
    for wanted in &signature.columns {
        let Some(at) = columns.iter().position(|column| column.name == wanted.name) else {
            bail!(
                "classifier {classifier} needs column {:?}, which parser {parser} does not supply; the parser has [{}], the \
                 classifier needs [{}]: add the column to the parser's configuration, or deploy both together",
                wanted.name,
                names(columns),
                names(&signature.columns)
            );
        };
        let supplied = columns.get(at).map(|column| &column.kind);
        if supplied.is_none_or(|supplied| !same(supplied, &wanted.kind)) {
            bail!(
                "column {:?} is {} for parser {parser} and {} for classifier {classifier}: make them equal in the parser's \
                 configuration, or train the model anew",
                wanted.name,
                supplied.map(describe).unwrap_or_default(),
                describe(&wanted.kind)
            );
        }
        places.push(at);
    }
    let identical = columns.len() == places.len() && places.iter().enumerate().all(|(at, place)| at == *place);
    Ok(if identical { None } else { Some(places) })
}

/// How many columns a classifier reads.
///
/// # Errors
/// When they are more than a matrix can have.
pub fn width(signature: &Signature) -> Result<u32> {
    u32::try_from(signature.columns.len()).context("a signature has too many columns")
}

fn same(one: &Kind, other: &Kind) -> bool {
    match (one, other) {
        (Kind::Number, Kind::Number) => true,
        (Kind::Category(one), Kind::Category(other)) => one == other,
        _ => false,
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Number => "a number".into(),
        Kind::Category(names) => format!("a category of [{}]", names.join(", ")),
    }
}
