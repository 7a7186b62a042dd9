//! The WIT worlds that the host calls into: how each is instantiated, and how its `open` is called.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::answers;
use crate::plugin::Interface;
use crate::secrets::Secrets;
use crate::state::State;
use crate::wit::latest::{Column, Signature, classifier, learner, parser, scorer, transform};

/// The arguments of `open`.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// A JSON object as text.
    pub config: String,
    /// Empty where there is none.
    pub model: Arc<Vec<u8>>,
    /// For a learner only: the columns and classes of the model that it is to make.
    pub signature: Option<Signature>,
    /// What of the configuration is not shown where the plugin repeats it.
    pub secrets: Secrets,
}

/// A world whose interface the host calls.
pub trait World: Sized + Send + 'static {
    /// What `open` answers: the columns, classes or outputs that later answers are checked against.
    type Opened: Clone + Send;
    const INTERFACE: Interface;
    fn instantiate(store: &mut Store<State>, pre: InstancePre<State>) -> wasmtime::Result<Self>;
    fn open(&self, store: &mut Store<State>, opening: &Opening) -> wasmtime::Result<Result<Self::Opened, String>>;

    /// # Errors
    /// Which rule of `answers` the answer of `open` breaks.
    fn check_opened(opened: &Self::Opened) -> Result<(), String>;
}

fn nothing_to_check((): &()) -> Result<(), String> {
    Ok(())
}

macro_rules! world {
    ($interface:ident, $world:ty, $pre:ty, $opened:ty, $check:expr, |$guest:ident, $store:ident, $opening:ident| $open:expr) => {
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

            fn check_opened(opened: &$opened) -> Result<(), String> {
                $check(opened)
            }
        }
    };
}

world!(
    Parser,
    parser::ParserPlugin,
    parser::ParserPluginPre<State>,
    Vec<Column>,
    answers::check_columns,
    |guest, store, opening| { guest.sandpiper_plugin_parser().call_open(store, &opening.config) }
);
world!(
    Classifier,
    classifier::ClassifierPlugin,
    classifier::ClassifierPluginPre<State>,
    Signature,
    answers::check_signature,
    |guest, store, opening| { guest.sandpiper_plugin_classifier().call_open(store, &opening.config, &opening.model) }
);
world!(Scorer, scorer::ScorerPlugin, scorer::ScorerPluginPre<State>, (), nothing_to_check, |guest, store, opening| {
    guest.sandpiper_plugin_scorer().call_open(store, &opening.config)
});
world!(
    Transform,
    transform::TransformPlugin,
    transform::TransformPluginPre<State>,
    Vec<String>,
    answers::check_outputs,
    |guest, store, opening| { guest.sandpiper_plugin_transform().call_open(store, &opening.config) }
);
world!(
    Learner,
    learner::LearnerPlugin,
    learner::LearnerPluginPre<State>,
    (),
    nothing_to_check,
    |guest, store, opening| {
        match &opening.signature {
            Some(signature) => {
                guest.sandpiper_plugin_learner().call_open(store, &opening.config, signature, &opening.model)
            }
            None => Ok(Err("a learner needs a signature".to_owned())),
        }
    }
);
