//! One opened plugin: its store, its limits, its calls. After a trap the store is gone and the next call
//! opens a new one, so nothing that a guest left behind outlives its failure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap};

use crate::batch::Rows;
use crate::engine::TICK;
use crate::plugin::{Interface, Plugin};
use crate::state::State;
use crate::wit::latest::{classifier, learner, parser, scorer, transform};

/// What an instance may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Linear memory, bytes, all memories together.
    pub memory: usize,
    /// Time of one call. The measure is the epoch: up to one tick (10 ms) more.
    pub deadline: Duration,
    /// What one answer may copy out of the guest, bytes.
    pub answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 64 << 20, deadline: Duration::from_millis(500), answer: 64 << 20 }
    }
}

/// Time for `open`, which may read a large model.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of a failure's message: it stands in a header of each dead letter that the failure makes.
const MESSAGE: usize = 4_096;

/// Why a call gave no answer that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened, with the guest's frames where there are some.
    pub message: String,
    /// The instance's last log lines.
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Trap,
    Deadline,
    Memory,
    /// It answered, but against the interface's rules.
    Answer,
    /// It said itself that the batch failed.
    Error,
}

impl FailureKind {
    /// The dead letter's reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::Trap => "plugin-trap",
            Self::Deadline => "plugin-deadline",
            Self::Memory => "plugin-memory",
            Self::Answer => "plugin-answer",
            Self::Error => "plugin-error",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An interface that the host calls: how it is instantiated and what `open` takes and answers.
pub trait World: Sized + Send + 'static {
    type Opened;
    const INTERFACE: Interface;
    fn instantiate(store: &mut Store<State>, pre: InstancePre<State>) -> wasmtime::Result<Self>;
    fn open(&self, store: &mut Store<State>, opening: &Opening) -> wasmtime::Result<Result<Self::Opened, String>>;
}

/// What `open` is given.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// A JSON object as text.
    pub config: String,
    /// Empty where there is none.
    pub model: Arc<Vec<u8>>,
    /// For a learner only: what is to be learned.
    pub signature: Option<crate::wit::latest::Signature>,
}

macro_rules! world {
    ($interface:ident, $world:ty, $pre:ty, $opened:ty, |$guest:ident, $store:ident, $opening:ident| $open:expr) => {
        impl World for $world {
            type Opened = $opened;
            const INTERFACE: Interface = Interface::$interface;

            fn instantiate(store: &mut Store<State>, pre: InstancePre<State>) -> wasmtime::Result<Self> {
                <$pre>::new(pre)?.instantiate(store)
            }

            #[allow(unused_braces, reason = "the formatter puts them around long expressions")]
            fn open(&self, $store: &mut Store<State>, $opening: &Opening) -> wasmtime::Result<Result<$opened, String>> {
                let $guest = self;
                $open
            }
        }
    };
}

world!(
    Parser,
    parser::ParserPlugin,
    parser::ParserPluginPre<State>,
    Vec<crate::wit::latest::Column>,
    |guest, store, opening| { guest.sandpiper_plugin_parser().call_open(store, &opening.config) }
);
world!(
    Classifier,
    classifier::ClassifierPlugin,
    classifier::ClassifierPluginPre<State>,
    crate::wit::latest::Signature,
    |guest, store, opening| { guest.sandpiper_plugin_classifier().call_open(store, &opening.config, &opening.model) }
);
world!(Scorer, scorer::ScorerPlugin, scorer::ScorerPluginPre<State>, (), |guest, store, opening| {
    guest.sandpiper_plugin_scorer().call_open(store, &opening.config)
});
world!(
    Transform,
    transform::TransformPlugin,
    transform::TransformPluginPre<State>,
    Vec<String>,
    |guest, store, opening| { guest.sandpiper_plugin_transform().call_open(store, &opening.config) }
);
world!(Learner, learner::LearnerPlugin, learner::LearnerPluginPre<State>, (), |guest, store, opening| {
    match &opening.signature {
        Some(signature) => {
            guest.sandpiper_plugin_learner().call_open(store, &opening.config, signature, &opening.model)
        }
        None => Ok(Err("a learner needs a signature".to_owned())),
    }
});

/// A plugin opened for one stage of one worker.
pub struct Instance<W> {
    plugin: Arc<Plugin>,
    limits: Limits,
    opening: Opening,
    /// `None` after a failure, until the next call.
    live: Option<(Store<State>, W)>,
}

impl<W: World> Instance<W> {
    /// Instantiates and opens; answers what the plugin says of itself.
    ///
    /// # Errors
    /// When it lacks the interface, cannot be instantiated within its limits, traps in `open` or refuses its
    /// configuration or model.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<(Self, W::Opened)> {
        plugin.require(W::INTERFACE)?;
        let mut instance = Self { plugin, limits, opening, live: None };
        let opened = instance.renew()?;
        Ok((instance, opened))
    }

    /// A fresh store, opened.
    fn renew(&mut self) -> Result<W::Opened> {
        let plugin = &self.plugin;
        let (mut store, guest) =
            self.instantiate().with_context(|| format!("plugin {} cannot be instantiated", plugin.name))?;
        store.set_epoch_deadline(ticks(OPEN_DEADLINE));
        match guest.open(&mut store, &self.opening) {
            Ok(Ok(opened)) => {
                self.live = Some((store, guest));
                Ok(opened)
            }
            Ok(Err(message)) => bail!("plugin {} refuses to open: {message}", plugin.name),
            Err(error) => bail!("plugin {} failed in open: {}", plugin.name, self.failure(&store, &error)),
        }
    }

    fn instantiate(&self) -> Result<(Store<State>, W)> {
        let state = State::new(&self.plugin.name, self.limits.memory);
        let mut store = Store::new(&self.plugin.engine.wasmtime, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(self.limits.answer);
        store.set_epoch_deadline(ticks(OPEN_DEADLINE));
        let guest = W::instantiate(&mut store, self.plugin.pre.clone())?;
        Ok((store, guest))
    }

    /// Calls into the guest under a deadline. `rows` is what its record-context may ask about.
    ///
    /// # Errors
    /// A trap, a passed deadline, memory refused, or an error of the guest's own. After all but the last the
    /// instance is a new one.
    pub fn call<T>(
        &mut self,
        deadline: Duration,
        rows: Option<&Arc<Rows>>,
        call: impl FnOnce(&W, &mut Store<State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, Failure> {
        if self.live.is_none()
            && let Err(error) = self.renew()
        {
            return Err(Failure { kind: FailureKind::Trap, message: format!("{error:#}"), log: String::new() });
        }
        let Some((mut store, guest)) = self.live.take() else {
            return Err(Failure {
                kind: FailureKind::Trap,
                message: "the instance did not open".into(),
                log: String::new(),
            });
        };
        store.data_mut().rows = rows.cloned();
        store.set_epoch_deadline(ticks(deadline));
        match call(&guest, &mut store) {
            Ok(answer) => {
                store.data_mut().rows = None;
                let log = answer.as_ref().err().map(|_| store.data().voice.last_lines());
                self.live = Some((store, guest));
                answer.map_err(|message| Failure {
                    kind: FailureKind::Error,
                    message: shortened(message),
                    log: log.unwrap_or_default(),
                })
            }
            Err(error) => Err(self.failure(&store, &error)),
        }
    }

    /// Forgets the guest: an answer that breaks the rules is not asked again.
    pub fn discard(&mut self) {
        self.live = None;
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn failure(&self, store: &Store<State>, error: &wasmtime::Error) -> Failure {
        let state = store.data();
        let kind = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => FailureKind::Deadline,
            _ if state.limiter.denied => FailureKind::Memory,
            _ => FailureKind::Trap,
        };
        let message = match kind {
            FailureKind::Deadline => "it was still running when its time was up".to_owned(),
            FailureKind::Memory => {
                format!("it wanted more than its {} MiB of memory: {error:#}", self.limits.memory >> 20)
            }
            _ => format!("{error:#}"),
        };
        Failure { kind, message: shortened(message), log: state.voice.last_lines() }
    }
}

/// A guest chooses the length of its messages; we choose how much of one is kept.
fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE {
        message.truncate(message.floor_char_boundary(MESSAGE));
        message.push('…');
    }
    message
}

/// At least two, since the first may be about to pass.
fn ticks(time: Duration) -> u64 {
    (time.as_millis() / TICK.as_millis()) as u64 + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failures_message_is_as_long_as_a_header_may_be_and_no_longer() {
        assert_eq!(shortened("x".repeat(MESSAGE)), "x".repeat(MESSAGE));
        assert_eq!(shortened("x".repeat(MESSAGE + 1)), format!("{}…", "x".repeat(MESSAGE)));
        // Three bytes a letter: the bound falls into one.
        assert_eq!(shortened("€".repeat(MESSAGE)), format!("{}…", "€".repeat(MESSAGE / 3)));
    }
}
