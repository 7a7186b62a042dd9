//! A deployment opened with its scorer, wherever that is named.

use super::*;
use crate::stream::process::Probation;
use sandpiper_sandbox::Compiler;

const TRUST: Trust = Trust { path: Probation::Passed, scorer: Probation::Replaceable };

fn iris(state: &Path) -> (Stager, Plan) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/iris.toml");
    let plan = crate::config::load(&file, &stock::names()).unwrap();
    let directory = Arc::new(StateDirectory::open(state, None).unwrap());
    (Stager::new(Engine::new(None, Compiler::InProcess).unwrap(), directory), plan)
}

#[test]
fn a_scorer_is_the_deployments_else_the_files_and_none_where_nothing_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let (stager, mut plan) = iris(folder.path());
    let of_file = stager.releases(&plan).unwrap();
    let scorer = |plan: &Plan, releases: Releases| {
        let opened = stager.stage(plan, &Deployment::of(Revision::FIRST.next(), releases), TRUST, 2).unwrap();
        assert_eq!(opened.workers.len(), 2);
        opened.scorer.map(|scorer| (scorer.release, scorer.revision, scorer.probation))
    };
    let of = |release: &Release| Some((release.label(), Revision::FIRST.next(), Probation::Replaceable));
    let loss = of_file.score.clone().unwrap();
    let brier = Release { config: serde_json::json!({ "metric": "brier" }), ..loss.clone() };
    assert_eq!(scorer(&plan, Releases { score: Some(brier.clone()), ..of_file.clone() }), of(&brier));
    assert_eq!(scorer(&plan, Releases { score: None, ..of_file.clone() }), of(&loss));
    plan.feedback = None;
    assert_eq!(scorer(&plan, of_file), None);
}

#[test]
fn a_scorer_that_cannot_be_opened_is_named_with_every_other_stage() {
    let folder = tempfile::tempdir().unwrap();
    let (stager, plan) = iris(folder.path());
    let mut releases = stager.releases(&plan).unwrap();
    for release in [&mut releases.parse, &mut releases.score] {
        release.as_mut().unwrap().config = serde_json::json!({ "mistaken": 1 });
    }
    let deployment = Deployment::of(Revision::FIRST, releases);
    let unfit = stager.stage(&plan, &deployment, TRUST, 2).err().unwrap().to_string();
    let lines: Vec<&str> = unfit.lines().collect();
    assert_eq!(lines.len(), 2, "once each, however many workers there are: {unfit}");
    assert!(lines[0].contains("stage parse: ") && lines[1].contains("stage score: "), "{unfit}");
}
