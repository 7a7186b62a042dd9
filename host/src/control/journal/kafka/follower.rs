//! Reads what was decided, for every pipeline of this daemon: from the topic's beginning to its end, then as it comes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sandpiper_sandbox::Digest;

use super::link::Standing;
use super::records::{View, split};
use super::topics;
use crate::config::daemon::Control;
use crate::config::plan::Properties;
use crate::control::fold::Artifact;
use crate::control::journal::News;
use crate::kafka::reader::{Next, Partitions, ReadFrom, Reader};
use crate::stream::backoff::Backoff;
use crate::stream::fault::Fault;
use crate::stream::stop::{self, Stop};

/// Time for a broker to answer where the topic ends.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for a record before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// How often it looks whether the topics are all there.
const TOPICS: Duration = Duration::from_secs(30);
/// Trouble of which nothing was heard for that long is over.
const PASSES: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// Where one pipeline's news go.
pub type Subscriber = Box<dyn Fn(News) + Send>;

/// Where artifacts stand, by pipeline; known before the news that need them.
#[derive(Clone, Default)]
pub struct Artifacts(Arc<Mutex<HashMap<(String, Digest), Artifact>>>);

impl Artifacts {
    pub fn get(&self, pipeline: &str, digest: Digest) -> Option<Artifact> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(pipeline.to_owned(), digest)).cloned()
    }

    fn set(&self, pipeline: &str, view: &View) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _), _| of != pipeline);
        known.extend(view.artifacts().map(|(digest, artifact)| ((pipeline.to_owned(), digest), artifact.clone())));
    }
}

pub struct Follower {
    /// Of a reader.
    pub properties: Properties,
    pub control: Control,
    pub standing: Arc<Standing>,
    pub artifacts: Artifacts,
    pub subscribers: BTreeMap<String, Subscriber>,
    pub stop: Stop,
}

impl Follower {
    /// Reads on a thread of its own until it is told to stop.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("follower".into()).spawn(move || self.run())
    }

    fn run(self) {
        let mut backoff = BACKOFF;
        while !self.stop.is_set() {
            let fault = match self.follow(&mut backoff) {
                Ok(()) => return,
                Err(fault) => fault,
            };
            tracing::warn!(%fault, "what is decided for all daemons cannot be read; trying again");
            self.standing.is_in_trouble(fault.to_string());
            stop::wait(backoff.failed(), || self.stop.is_set());
        }
    }

    /// Reads from the beginning; comes back when it is told to stop.
    fn follow(&self, backoff: &mut Backoff) -> Result<(), Fault> {
        topics::make(&self.control)?;
        let mut reader = Reader::open(
            &self.properties,
            &self.control.deployments(),
            &Partitions::All,
            &ReadFrom::Beginning,
            PATIENCE,
        )?;
        let mut views: HashMap<String, View> = HashMap::new();
        let (mut is_at_end, mut trouble, mut looked) = (false, None::<Instant>, Instant::now());
        let mut not_understood = HashSet::new();
        while !self.stop.is_set() {
            match reader.next(LOOK)? {
                Next::Record(record) => {
                    let Some((pipeline, part)) = record.key.as_deref().and_then(split) else { continue };
                    if !self.subscribers.contains_key(pipeline) {
                        continue;
                    }
                    let view = views.entry(pipeline.to_owned()).or_default();
                    match view.take(part, record.value.as_deref()) {
                        Ok(is_head) if is_head && is_at_end => self.tell(pipeline, view),
                        Ok(_) => {}
                        Err(error) => {
                            // What runs goes on; a later program's daemons decide meanwhile.
                            let why = format!("{}, offset {}: {error:#}", self.control.deployments(), record.offset);
                            tracing::error!(why, "a record of the control topics is not understood");
                            self.standing.does_not_understand(why);
                            not_understood.insert(pipeline.to_owned());
                        }
                    }
                }
                Next::End => {
                    is_at_end = true;
                    // Of what is not understood nothing is known: it is not taken for lost.
                    for pipeline in self.subscribers.keys().filter(|name| !not_understood.contains(*name)) {
                        let view = views.entry(pipeline.clone()).or_default();
                        self.tell(pipeline, view);
                    }
                    backoff.reset();
                    self.standing.caught_up();
                }
                Next::Trouble(why) => {
                    trouble = Some(Instant::now());
                    self.standing.is_in_trouble(why);
                }
                Next::Idle => {
                    if looked.elapsed() >= TOPICS {
                        looked = Instant::now();
                        topics::make(&self.control)?;
                    }
                    // A client says what goes wrong, and not that it is over.
                    if trouble.is_some_and(|at| at.elapsed() >= PASSES) {
                        trouble = None;
                        self.standing.is_well();
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&self, pipeline: &str, view: &View) {
        self.artifacts.set(pipeline, view);
        if let Some(subscriber) = self.subscribers.get(pipeline) {
            subscriber(view.news(pipeline));
        }
    }
}
