//! A pipeline's history, read from the state directory as a daemon does that starts: what anybody may find there.

use std::sync::{Arc, LazyLock};

use sandpiper::control::StateDirectory;
use sandpiper::control::command::{Action, By, Command, CommandId};
use sandpiper::control::deployment::{Deployment, Release, Releases};
use sandpiper::control::fold::{Control, apply};
use sandpiper::control::history::{Call, CallKind, History};
use sandpiper::control::journal::{Entry, Journal as _, Kept};
use sandpiper::record::Revision;
use sandpiper_sandbox::Digest;

const PIPELINE: &str = "iris";

/// A state directory, what a daemon has kept there of the pipeline, and its file.
struct State {
    directory: StateDirectory,
    file: std::path::PathBuf,
    kept: Kept,
    written: Vec<u8>,
    _folder: tempfile::TempDir,
}

static STATE: LazyLock<State> = LazyLock::new(|| {
    // In memory where there is such a folder: all that is kept is synced.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let directory = StateDirectory::open(folder.path(), Some("i")).expect("a state directory");
    let file = folder.path().join("pipelines").join(format!("{PIPELINE}.json"));
    let kept = Kept { history: history(), last: Some(CommandId(9)) };
    keep(&directory, &kept);
    let written = std::fs::read(&file).expect("what was kept");
    State { directory, file, kept, written, _folder: folder }
});

/// The bytes as a file; and the file that a daemon wrote, with a stretch of it replaced.
pub fn check(data: &[u8]) {
    let state = &*STATE;
    if let Some(kept) = read(state, data) {
        // What can be read is what is kept from then on.
        let last = kept.last.unwrap_or(CommandId(9));
        keep(&state.directory, &Kept { history: kept.history.clone(), last: Some(last) });
        let again = state.directory.read(PIPELINE).expect("what was just kept");
        assert_eq!((&again.history, again.last), (&kept.history, Some(last)));
        go_on(kept.history);
    }
    if let [low, high, removed, inserted @ ..] = data {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % state.written.len();
        let end = (at + usize::from(*removed)).min(state.written.len());
        let mut damaged = state.written.clone();
        damaged.splice(at..end, inserted.iter().copied().take(8));
        // The digest guards the content, not how its own line is laid out; no other deployment may come of it.
        if let Some(kept) = read(state, &damaged) {
            assert_eq!(kept, state.kept, "another history than was kept");
        }
    }
}

fn read(state: &State, bytes: &[u8]) -> Option<Kept> {
    std::fs::write(&state.file, bytes).expect("a file");
    match state.directory.read(PIPELINE) {
        Ok(kept) => Some(kept),
        Err(error) => {
            let why = format!("{error:#}");
            assert!(why.contains("iris.json") && why.contains("move it away"), "{why}");
            None
        }
    }
}

fn keep(directory: &StateDirectory, kept: &Kept) {
    let CommandId(id) = kept.last.expect("a command");
    let command = command(id, Action::Resume);
    directory.keep(PIPELINE, &Entry { command, at: 0 }, &kept.history).expect("room for it");
}

/// A daemon goes on from a history: an unchanged file has the last deployment stand, and whatever is asked, revisions grow.
fn go_on(history: History) {
    let control = Control { pipeline: PIPELINE.into(), history: Arc::new(history), ..Control::default() };
    let revision = control.history.revision();
    let runs = control.history.current().map(|current| current.releases.clone()).unwrap_or_default();
    let scorer = runs.score_digest();
    let applied_score = control.history.applied_score.is_none_or(|applied| scorer.is_none_or(|runs| runs == applied));
    let applied = control.history.applied == Some(runs.digest()) && applied_score;
    let wish = Action::Wish { releases: Box::new(runs), reason: "file".into() };
    let staging = apply(&control, &command(1, wish), 1).expect("a wish is never refused").next;
    if applied && revision.is_some() {
        let stands = staging.staging.values().any(|staging| Some(staging.deployment.revision) == revision);
        assert!(stands, "{staging:?}");
    }
    let mut now = apply(&staging, &command(2, staged(1)), 2).expect("it was staged").next;
    let current = now.history.revision().expect("a deployment");
    let actions = [
        Action::Pause { reason: "p".into() },
        Action::Failed { revision: current, why: "f".into() },
        staged(4),
        Action::Resume,
        Action::Undo { reason: "u".into(), to: None },
        staged(7),
        Action::Passed { revision: current },
        Action::Outrun { revision: current, releases: None },
        staged(10),
    ];
    for (id, action) in (3..).zip(actions) {
        if let Ok(applied) = apply(&now, &command(id, action), 3) {
            assert!(applied.next.history.revision() >= now.history.revision(), "a revision went back");
            now = applied.next;
        }
        let revisions = now.history.deployments.iter().map(|deployment| deployment.revision);
        assert!(revisions.is_sorted_by(|one, next| one < next), "{:?}", now.history);
        assert!(now.history.lines().len() >= now.history.deployments.len());
    }
}

fn command(id: u64, action: Action) -> Command {
    Command { id: CommandId(id), from: String::new(), by: None, against: None, action }
}

fn staged(of: u64) -> Action {
    Action::Staged { of: CommandId(of), owns: true }
}

/// Three deployments, one of which failed, and a call.
fn history() -> History {
    let release = |name: &str, config| Release {
        name: name.into(),
        plugin: Digest::of(name.as_bytes()),
        model: Some(Digest::of(b"model")),
        config,
    };
    let releases = |threshold: f64| Releases {
        transforms: vec![release("route", serde_json::json!({ "by": "/kind" }))],
        parse: Some(release("csv", serde_json::json!({ "columns": ["a", "b"] }))),
        classify: Some(release("tree", serde_json::json!({ "threshold": threshold }))),
        score: Some(release("loss", serde_json::json!({ "metric": "error" }))),
    };
    let by = Some(By { who: "admin".into(), from: "127.0.0.1:4000".into() });
    let deployment = |number, threshold, failed| Deployment {
        revision: Revision::new(number).expect("a revision"),
        releases: releases(threshold),
        reason: "trained on May".into(),
        by: by.clone(),
        at: 1_700_000_000_000,
        on_probation: number == 4,
        scorer_on_probation: number == 4,
        failed,
        challenger: None,
    };
    let call = Call { call: CallKind::Pause, by: by.clone(), reason: "look".into(), at: 1_700_000_000_001 };
    History {
        applied: Some(releases(0.5).digest()),
        applied_score: releases(0.5).score_digest(),
        deployments: vec![
            deployment(1, 0.5, None),
            deployment(2, 0.926_286_909_756_665_1, Some("trap".into())),
            deployment(4, 0.25, None),
        ],
        calls: vec![call],
        ..History::default()
    }
}
