//! The setting of one test: a name that no other test has, topics under that name, a folder of its own.

use super::daemon::Daemon;
use super::flowers;
use super::hostile;
use super::record::Record;
use super::topic::{self, Commit, Isolation};
use super::until_true;
use crate::kafka::{Kafka, Topic};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

pub struct Scene<'a> {
    /// The test's name: the pipeline's name, and what its topics begin with.
    pub name: String,
    /// Kept when the test fails.
    pub directory: PathBuf,
    pub kafka: &'a Kafka,
}

impl Scene<'_> {
    pub fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// The same test on another Kafka: a broker that only this test stops.
    pub fn on<'k>(&self, kafka: &'k Kafka) -> Scene<'k> {
        Scene { name: self.name.clone(), directory: self.directory.clone(), kafka }
    }

    /// A scene beside this one, for a test with several pipelines.
    pub fn part(&self, name: &str) -> Scene<'_> {
        Scene { name: format!("{}.{name}", self.name), directory: self.directory.clone(), kafka: self.kafka }
    }

    /// The full name of one of this test's topics.
    pub fn topic(&self, short: &str) -> String {
        format!("{}.{short}", self.name)
    }

    /// The group of this test's pipeline.
    pub fn group(&self) -> String {
        format!("sandpiper.{}", self.name)
    }

    pub fn create(&self, topics: &[Topic]) -> Result<()> {
        let names: Vec<String> = topics.iter().map(|(short, ..)| self.topic(short)).collect();
        let topics: Vec<Topic> =
            topics.iter().zip(&names).map(|((_, count, config), name)| (name.as_str(), *count, *config)).collect();
        self.kafka.create_topics(&topics)
    }

    /// Creates `in`, `out` and `dead` of that many partitions.
    pub fn create_usual(&self, partitions: i32) -> Result<()> {
        self.create(&[("in", partitions, &[]), ("out", partitions, &[]), ("dead", partitions, &[])])
    }

    pub fn write<'r>(&self, short: &str, records: impl IntoIterator<Item = &'r Record>) -> Result<()> {
        topic::write(&self.bootstrap(), &self.topic(short), records)
    }

    pub fn read(&self, short: &str) -> Result<Vec<Record>> {
        topic::read(&self.bootstrap(), &self.topic(short), Isolation::Committed)
    }

    /// The ids of the members of the pipeline's group; each begins with its client's.
    pub fn members(&self) -> Result<BTreeSet<String>> {
        Ok(topic::members(&self.bootstrap(), &self.group())?.into_keys().collect())
    }

    pub fn commits(&self) -> Result<Vec<Commit>> {
        topic::committed(&self.bootstrap(), &self.group(), &self.topic("in"))
    }

    /// Waits until the pipeline has committed everything that `in` holds now.
    pub fn until_done(&self, daemons: &mut [&mut Daemon]) -> Result<()> {
        let ends = topic::ends(&self.bootstrap(), &self.topic("in"))?;
        let mut commits = Ok(Vec::new());
        let done = until_true(&format!("{} has committed the offsets {ends:?} of its input", self.name), || {
            daemons.iter_mut().try_for_each(|daemon| daemon.check_alive())?;
            // A broker that has just come back may not answer at once.
            commits = self.commits();
            let committed = commits.as_deref().unwrap_or_default();
            let whole =
                |committed: &[Commit]| committed.iter().zip(&ends).all(|(commit, end)| commit.offset.max(0) >= *end);
            Ok(commits.is_ok() && whole(committed))
        });
        done.with_context(|| format!("committed: {commits:?}"))
    }

    /// Writes a file into the scene's folder.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The head of a pipeline file: name, Kafka and input.
    pub fn head(&self, input: &str) -> String {
        format!(
            "name = {:?}\n\
             [kafka]\n\
             bootstrap.servers = {:?}\n\
             [errors]\n\
             dead_letters = {:?}\n\
             [output]\n\
             topic = {:?}\n\
             [input]\n\
             topics = [{:?}]\n\
             start = \"earliest\"\n\
             {input}\n",
            self.name,
            self.bootstrap(),
            self.topic("dead"),
            self.topic("out"),
            self.topic("in"),
        )
    }

    /// Writes a pipeline file.
    pub fn pipeline(&self, text: &str) -> Result<PathBuf> {
        self.file(&format!("{}.toml", self.name), text)
    }

    /// Writes the file of a pipeline that classifies flowers by that model. `input` goes into `[input]`, `more` behind everything.
    pub fn flower_pipeline(&self, input: &str, model: &Path, more: &str) -> Result<PathBuf> {
        let columns = flowers::COLUMNS;
        self.pipeline(&format!(
            "{}[parse]\nplugin = \"csv\"\nconfig = {{ columns = {columns:?} }}\n\
             [classify]\nplugin = \"logistic\"\nmodel = {model:?}\n{more}",
            self.head(input)
        ))
    }

    /// The text of a pipeline of the two hostile plugins, with the insides of their configurations and more limits.
    pub fn hostile_stages(&self, parse: &str, classify: &str, limits: &str) -> Result<String> {
        Ok(format!(
            "{}[parse]\nplugin = {:?}\nconfig = {{ {parse} }}\n[classify]\nplugin = {:?}\nconfig = {{ {classify} }}\n\
             [limits]\ndeadline = \"500ms\"\n{limits}",
            self.head(""),
            hostile::hostile("parser")?,
            hostile::hostile("classifier")?,
        ))
    }

    /// A model that predicts that class for every flower, so that a prediction shows which model made it.
    pub fn model_of(&self, class: &str) -> Result<PathBuf> {
        self.file(&format!("{class}.json"), flowers::model_of(class))
    }

    /// Starts a daemon on that file and waits until it is ready.
    pub fn daemon(&self, name: &str, pipeline: &Path) -> Result<Daemon> {
        let mut daemon = self.unready_daemon(name, pipeline)?;
        daemon.until_ready()?;
        Ok(daemon)
    }

    /// Starts a daemon that shares this scene's control topics with others, and does not wait until it is ready.
    #[allow(dead_code, reason = "for the end-to-end tests and the fault matrix")]
    pub fn shared_daemon(&self, name: &str, pipeline: &Path) -> Result<Daemon> {
        self.shared_daemon_with(name, pipeline, &[])
    }

    /// As `shared_daemon`, with more in its environment.
    pub fn shared_daemon_with(&self, name: &str, pipeline: &Path, environment: &[(&str, &OsStr)]) -> Result<Daemon> {
        let text = format!(
            "instance = {name:?}\n[control]\ntopics = {:?}\n[control.kafka]\nbootstrap.servers = {:?}\n",
            self.topic("control"),
            self.bootstrap()
        );
        let file = self.file(&format!("{name}.daemon.toml"), text)?;
        let options = ["--daemon", &*file.to_string_lossy()];
        Daemon::spawn_with(&self.directory, name, &[pipeline], &options, environment)
    }

    /// Starts a daemon and does not wait until it is ready.
    pub fn unready_daemon(&self, name: &str, pipeline: &Path) -> Result<Daemon> {
        Daemon::spawn(&self.directory, name, &[pipeline], &["--instance", name])
    }
}
