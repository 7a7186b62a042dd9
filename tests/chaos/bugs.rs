//! Mistakes that a release could make, made on purpose: the checker calls each by its name.

use crate::course::note;
use crate::stage::{Stage, until_killed};
use crate::support::checker::Defect;
use crate::support::scene::Scene;
use anyhow::{Result, ensure};

crate::tests![
    offsets_committed_before_the_outputs_lose_records,
    reading_on_after_an_abort_loses_records,
    a_consumer_that_commits_by_itself_loses_records,
    going_back_from_memory_doubles_records,
];

/// Commits seldom, so that much is at stake when one goes wrong.
const SELDOM: &str = "[delivery]\ncommit_interval = \"500ms\"\n";

fn offsets_committed_before_the_outputs_lose_records(scene: &Scene) -> Result<()> {
    dies_with(scene, "bug-offsets-first=return;after-offsets=4*off->1*return(kill)", Defect::Lost)
}

fn a_consumer_that_commits_by_itself_loses_records(scene: &Scene) -> Result<()> {
    dies_with(scene, "bug-auto-commit=return;after-offsets=4*off->1*return(kill)", Defect::Lost)
}

fn reading_on_after_an_abort_loses_records(scene: &Scene) -> Result<()> {
    lives_with(scene, "bug-no-seek=return;after-offsets=4*off->1*return(abort)", Defect::Lost)
}

fn going_back_from_memory_doubles_records(scene: &Scene) -> Result<()> {
    // The transaction has committed when its outcome becomes unknown, and memory does not know.
    lives_with(scene, "bug-rewind-from-memory=return;after-end=4*off->1*return(unknown)", Defect::Duplicated)
}

fn dies_with(scene: &Scene, failpoints: &str, defect: Defect) -> Result<()> {
    let stage = Stage::direct(scene, SELDOM)?;
    until_killed(&mut stage.failing("a", failpoints)?)?;
    let mut daemon = stage.daemon("a")?;
    stage.until_progress()?;
    is_found(scene, stage.report(&mut [&mut daemon])?, defect)
}

fn lives_with(scene: &Scene, failpoints: &str, defect: Defect) -> Result<()> {
    let stage = Stage::direct(scene, SELDOM)?;
    let mut daemon = stage.failing("a", failpoints)?;
    let name = scene.name.clone();
    daemon.until_status(&name, "a transaction failed", |status| {
        let worker = &status["workers"][0];
        worker["aborted"].as_u64().max(worker["recoveries"].as_u64()) == Some(1)
    })?;
    stage.until_serves(&mut daemon)?;
    is_found(scene, stage.report(&mut [&mut daemon])?, defect)
}

fn is_found(scene: &Scene, report: crate::support::checker::Report, defect: Defect) -> Result<()> {
    ensure!(report.count(defect) > 0, "{defect:?} was not found: {report}");
    note(&scene.name, &report.to_string());
    Ok(())
}
