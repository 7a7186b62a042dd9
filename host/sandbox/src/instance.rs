//! One opened plugin: its store, its limits, its calls.
//!
//! After a trap the store is gone and the next call opens a new one, so that nothing a guest left behind outlives its
//! failure. What `open` answers that second time is not checked again: the release is the same.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::batch::Rows;
use crate::engine::TICK;
use crate::failure::shortened;
use crate::plugin::{Interface, Plugin};
use crate::plugin_log::PluginLog;
use crate::secrets::Secrets;
use crate::state::State;
use crate::wit::latest::{classifier, learner, parser, scorer, transform};
use crate::world::{Opening, World};
use crate::{Failure, FailureKind};

/// What an instance may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Linear memory, bytes, all memories together.
    pub memory: usize,
    /// Time of one call. It is measured in epochs: up to one tick (10 ms) more.
    pub deadline: Duration,
    /// What one answer may copy out of the guest, bytes.
    pub answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 64 << 20, deadline: Duration::from_millis(500), answer: 64 << 20 }
    }
}

/// Lines of a failure's stack frames.
const MAX_FRAMES: usize = 40;

/// Time for `open`, which may read a large model.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// A plugin opened for one stage of one worker.
pub struct Instance<W> {
    plugin: Arc<Plugin>,
    limits: Limits,
    opening: Opening,
    /// `None` after a failure, until the next call.
    live: Option<(Store<State>, W)>,
}

impl<W: World> Instance<W> {
    /// Instantiates and opens; returns what `open` answered.
    ///
    /// # Errors
    /// When it lacks the interface, cannot be instantiated within its limits, traps in `open` or refuses its
    /// configuration or model.
    pub fn open(plugin: Arc<Plugin>, limits: Limits, opening: Opening) -> Result<(Self, W::Opened)> {
        plugin.require(W::INTERFACE)?;
        let mut instance = Self { plugin, limits, opening, live: None };
        let (store, guest, opened) = instance.start()?;
        instance.live = Some((store, guest));
        Ok((instance, opened))
    }

    /// Instantiates and goes no further: what is wrong with the plugin that no configuration can mend.
    ///
    /// # Errors
    /// When it lacks the interface, or cannot be instantiated within its limits.
    fn probe(plugin: Arc<Plugin>, limits: Limits) -> Result<()> {
        plugin.require(W::INTERFACE)?;
        let instance = Self { plugin, limits, opening: Opening::default(), live: None };
        let name = &instance.plugin.name;
        instance.instantiate().map(drop).with_context(|| format!("plugin {name} cannot be instantiated"))
    }

    /// A new store whose guest has been opened.
    fn start(&self) -> Result<(Store<State>, W, W::Opened)> {
        let plugin = &self.plugin;
        let (mut store, guest) =
            self.instantiate().with_context(|| format!("plugin {} cannot be instantiated", plugin.name))?;
        store.set_epoch_deadline(ticks(OPEN_DEADLINE));
        match guest.open(&mut store, &self.opening) {
            Ok(Ok(opened)) => Ok((store, guest, opened)),
            Ok(Err(message)) => {
                bail!(
                    "plugin {} refuses to open: {}",
                    plugin.name,
                    shortened(self.opening.secrets.hide(&message).into_owned())
                )
            }
            Err(error) => {
                let failure = self.failure(&store, &error, || format!("`open` has {OPEN_DEADLINE:?}"));
                bail!("plugin {} failed in open: {}", plugin.name, failure.with_last_words())
            }
        }
    }

    fn instantiate(&self) -> Result<(Store<State>, W)> {
        let log = PluginLog::new(&self.plugin.name, self.plugin.log_rate.clone(), self.opening.secrets.clone());
        let state = State::new(log, self.limits.memory);
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
    /// A trap, a passed deadline, memory refused, or an error that the guest answers. After all but the last the next
    /// call starts a new instance.
    pub fn call<T>(
        &mut self,
        deadline: Duration,
        rows: Option<&Arc<Rows>>,
        call: impl FnOnce(&W, &mut Store<State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, Failure> {
        let (mut store, guest) = match self.live.take() {
            Some(live) => live,
            None => {
                let started = self.start().map_err(|error| Failure::new(FailureKind::Trap, format!("{error:#}")));
                let (store, guest, _) = started?;
                (store, guest)
            }
        };
        store.data_mut().rows = rows.cloned();
        store.set_epoch_deadline(ticks(deadline));
        let answer = call(&guest, &mut store).map_err(|error| {
            self.failure(&store, &error, || match deadline < self.limits.deadline {
                true => format!("this call had {deadline:?} of limits.deadline = {:?}", self.limits.deadline),
                false => format!("limits.deadline = {deadline:?}"),
            })
        })?;
        store.data_mut().rows = None;
        let answer = answer.map_err(|message| {
            let message = self.opening.secrets.hide(&message).into_owned();
            Failure::new(FailureKind::Error, message).with_log(store.data().log.last_lines())
        });
        self.live = Some((store, guest));
        answer
    }

    /// Drops the guest, so that the next call starts a new one: an instance that answered against the rules is not asked
    /// again.
    pub(super) fn discard(&mut self) {
        self.live = None;
    }

    /// What the plugin must not show.
    pub fn secrets(&self) -> &Secrets {
        &self.opening.secrets
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// `limit` says how much time there was.
    fn failure(&self, store: &Store<State>, error: &wasmtime::Error, limit: impl FnOnce() -> String) -> Failure {
        let state = store.data();
        let frames = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
        // The frames are a context of the error, and so its first sentence: they are told behind the cause.
        let causes = error.chain().map(ToString::to_string).filter(|text| Some(text) != frames.as_ref());
        let cause = causes.collect::<Vec<_>>().join(": ");
        let (kind, mut message) = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => {
                (FailureKind::Deadline, format!("it was still running when its time was up: {}", limit()))
            }
            _ if state.limiter.denied => {
                let limit = self.limits.memory >> 20;
                (FailureKind::Memory, format!("it wanted more than its {limit} MiB of memory: {cause}"))
            }
            _ => (FailureKind::Trap, cause),
        };
        for (at, frame) in frames.iter().flat_map(|frames| frames.lines().skip(1)).take(MAX_FRAMES).enumerate() {
            message.push_str(if at == 0 { "\nframes, the innermost first:\n" } else { "\n" });
            message.push_str(frame);
        }
        Failure::new(kind, message).with_log(state.log.last_lines())
    }
}

/// What `Instance::probe` finds of a plugin that is asked for that interface.
///
/// # Errors
/// As there.
pub fn probe(plugin: &Arc<Plugin>, interface: Interface, limits: Limits) -> Result<()> {
    let probe = match interface {
        Interface::Parser => Instance::<parser::ParserPlugin>::probe,
        Interface::Classifier => Instance::<classifier::ClassifierPlugin>::probe,
        Interface::Learner => Instance::<learner::LearnerPlugin>::probe,
        Interface::Scorer => Instance::<scorer::ScorerPlugin>::probe,
        Interface::Transform => Instance::<transform::TransformPlugin>::probe,
    };
    probe(plugin.clone(), limits)
}

/// At least two, since the first tick may be about to come.
fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).saturating_add(2)
}
