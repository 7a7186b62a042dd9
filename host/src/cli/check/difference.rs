//! Where a pipeline's file asks for something else than runs. That is no mistake: something was deployed since.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::plan::Plan;
use crate::control::remembered::Remembered;
use crate::control::staging::Stager;
use crate::record::Revision;

#[derive(Serialize)]
pub(super) struct Difference {
    #[serde(skip)]
    pub file: PathBuf,
    pipeline: String,
    /// What runs, and what of it the file does not ask for.
    revision: Revision,
    runs: String,
    asks_for: String,
    /// Why the current deployment was made.
    reason: String,
}

impl Difference {
    /// None where the state directory knows nothing of the pipeline, or cannot be read by whoever asks.
    pub fn of(stager: &Stager, plan: &Plan, remembered: &Remembered) -> Option<Self> {
        let history = remembered.history(&plan.name).ok()?;
        let (current, asked) = (history.current()?, stager.releases(plan).ok()?);
        let asks_for = asked.differing_from(&current.releases);
        (!asks_for.is_empty()).then(|| Self {
            file: plan.file.clone(),
            pipeline: plan.name.clone(),
            revision: current.revision,
            runs: current.releases.differing_from(&asked),
            asks_for,
            reason: current.reason.clone(),
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, runs, asks_for, reason, .. } = self;
        write!(f, "asks for {asks_for}; revision {revision}, which runs, has {runs} instead ({reason})")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::control::StateDirectory;
    use crate::control::command::{Action, Command, CommandId};
    use crate::control::deployment::Deployment;
    use crate::control::history::History;
    use crate::control::journal::{Entry, Journal as _};
    use sandpiper_sandbox::{Compiler, Engine};

    #[test]
    fn a_file_that_asks_for_what_runs_differs_in_nothing_and_another_says_both_sides() {
        let folder = tempfile::tempdir().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.toml");
        let plan = crate::config::load(&file, &sandpiper_sandbox::stock::names()).unwrap();
        let state = Arc::new(StateDirectory::open(folder.path(), None).unwrap());
        let stager = Stager::new(Engine::new(None, Compiler::InProcess).unwrap(), state.clone());
        let remembered = Remembered::at(folder.path().to_owned());
        assert!(Difference::of(&stager, &plan, &remembered).is_none(), "nothing is known");
        let keep = |deployment: Deployment| {
            let (id, from) = (CommandId(1), String::new());
            let command = Command { id, from, by: None, against: None, action: Action::Resume };
            let history = History { deployments: vec![deployment], ..History::default() };
            state.keep(&plan.name, &Entry { command, at: 0 }, &history).unwrap();
        };
        let mut releases = stager.releases(&plan).unwrap();
        keep(Deployment::of(Revision::FIRST, releases.clone()));
        assert!(Difference::of(&stager, &plan, &remembered).is_none());
        releases.classify.as_mut().unwrap().model = None;
        keep(Deployment { reason: "an experiment".into(), ..Deployment::of(Revision::FIRST, releases) });
        let said = Difference::of(&stager, &plan, &remembered).unwrap().to_string();
        assert!(
            said.starts_with("asks for classify logistic@") && said.contains("revision 1, which runs, has classify"),
            "{said}"
        );
        assert!(said.ends_with("instead (an experiment)"), "{said}");
    }
}
