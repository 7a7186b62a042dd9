//! Mistakes that a release could contain, made on purpose: the checker must find each and name it.

use crate::load_test::{LoadTest, until_killed};
use crate::matrix::record_result;
use crate::support::checker::Defect;
use crate::support::scene::Scene;
use anyhow::{Result, ensure};

crate::tests![
    offsets_committed_before_the_outputs_lose_records,
    reading_on_after_an_abort_loses_records,
    a_consumer_that_commits_by_itself_loses_records,
    going_back_from_memory_doubles_records,
];

/// Commits seldom, so that a mistake affects many records.
const SELDOM: &str = "[delivery]\ncommit_interval = \"500ms\"\n";

fn offsets_committed_before_the_outputs_lose_records(scene: &Scene) -> Result<()> {
    finds_after_kill(scene, "bug-offsets-first=return;after-offsets=4*off->1*return(kill)", Defect::Lost)
}

fn a_consumer_that_commits_by_itself_loses_records(scene: &Scene) -> Result<()> {
    finds_after_kill(scene, "bug-auto-commit=return;after-offsets=4*off->1*return(kill)", Defect::Lost)
}

fn reading_on_after_an_abort_loses_records(scene: &Scene) -> Result<()> {
    finds_while_running(scene, "bug-no-seek=return;after-offsets=4*off->1*return(abort)", Defect::Lost)
}

fn going_back_from_memory_doubles_records(scene: &Scene) -> Result<()> {
    // The transaction has committed when its outcome becomes unknown, and the worker's memory still has its start.
    finds_while_running(scene, "bug-rewind-from-memory=return;after-end=4*off->1*return(unknown)", Defect::Duplicated)
}

fn finds_after_kill(scene: &Scene, failpoints: &str, defect: Defect) -> Result<()> {
    let test = LoadTest::direct(scene, SELDOM)?;
    until_killed(&mut test.failing("a", failpoints)?)?;
    let mut daemon = test.daemon("a")?;
    test.until_progress()?;
    ensure_found(scene, test.report(&mut [&mut daemon])?, defect)
}

fn finds_while_running(scene: &Scene, failpoints: &str, defect: Defect) -> Result<()> {
    let test = LoadTest::direct(scene, SELDOM)?;
    let mut daemon = test.failing("a", failpoints)?;
    let name = scene.name.clone();
    daemon.until_status(&name, "a transaction failed", |status| {
        let worker = &status["workers"][0];
        worker["aborted"].as_u64().max(worker["recoveries"].as_u64()) == Some(1)
    })?;
    test.until_commits(&mut daemon)?;
    ensure_found(scene, test.report(&mut [&mut daemon])?, defect)
}

fn ensure_found(scene: &Scene, report: crate::support::checker::Report, defect: Defect) -> Result<()> {
    ensure!(report.count(defect) > 0, "{defect:?} was not found: {report}");
    record_result(&scene.name, &report.to_string());
    Ok(())
}
