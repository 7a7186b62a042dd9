//! The admin API under load: told to stop in mid-deployment, and clients that are slow or stuck.

use crate::load_test::LoadTest;
use crate::support::admin_client::{answer, bearer, head, sent, until_logged};
use crate::support::process::Usage;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Context, Result, ensure};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Instant;

crate::tests![told_to_stop_in_mid_deployment, slow_and_stuck_admin_clients];

/// Resident memory that all the clients together may cost, megabytes.
const MAX_COST_MB: f64 = 64.0;

fn told_to_stop_in_mid_deployment(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "[limits]\nworkers = 2\n")?;
    let endless = [("FAILPOINTS", "in-staging=1*off->return".as_ref())];
    let mut daemon = test.daemon_with("a", &endless)?;
    test.until_all_progress()?;
    let model = scene.model_of("virginica")?.to_string_lossy().into_owned();
    let mut deploying = daemon.start_cli(&["deploy", &scene.name, "--model", &model, "--reason", "a test"])?;
    until_logged(&daemon, &["PUT /v1/artifacts", "kept"])?;
    test.until_all_progress()?;
    ensure!(deploying.try_wait()?.is_none(), "the deployment was answered");
    let signalled = Instant::now();
    daemon.sigterm()?;
    let status = daemon.wait_exit()?;
    let took = signalled.elapsed();
    ensure!(status.code() == Some(0), "{status}");
    ensure!(!deploying.wait()?.success(), "the deployment was taken");
    let mut daemon = test.daemon("a")?;
    ensure!(daemon.pipeline(&scene.name)?["revision"] == 1, "a deployment that was not answered came alive");
    test.until_all_progress()?;
    test.assert_exactly_once(&mut [&mut daemon], &format!("ended after {:.1} s", took.as_secs_f64()))
}

/// One of each kind: says nothing, half a head, half a command, a part of an artifact, an answer that it does not take.
fn stuck(daemon: &mut crate::support::daemon::Daemon, authorization: &str, pipeline: &str) -> Result<Vec<TcpStream>> {
    let host = "Host: localhost".to_owned();
    let with = |length: usize| {
        let token = format!("Authorization: {authorization}");
        vec![host.clone(), token, "Content-Type: application/json".into(), format!("Content-Length: {length}")]
    };
    let artifact = head("PUT /v1/artifacts", &with(256 << 20)).into_bytes();
    let part = [artifact, vec![b'x'; 1 << 20]].concat();
    Ok(vec![
        sent(daemon, b"")?,
        sent(daemon, b"GET /livez HTTP/1.1\r\nHost: loc")?,
        sent(daemon, head(&format!("POST /v1/pipelines/{pipeline}/pause"), &with(100)).as_bytes())?,
        sent(daemon, head("POST /v1/pipelines/nowhere/pause", std::slice::from_ref(&host)).as_bytes())?,
        sent(daemon, &part)?,
        sent(daemon, head("GET /metrics", &[host]).as_bytes())?,
    ])
}

fn slow_and_stuck_admin_clients(scene: &Scene) -> Result<()> {
    let test = LoadTest::direct(scene, "")?;
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    let authorization = bearer(&daemon, "admin")?;
    let before = Usage::of(daemon.process())?.resident;
    let mut clients = Vec::new();
    for _ in 0..40 {
        // Those whom the daemon has let go cannot send any more.
        clients.extend(stuck(&mut daemon, &authorization, &scene.name)?);
        for client in &mut clients {
            let _ = client.write(b" ");
        }
        let livez = daemon.get("/livez")?.context("/livez is not answered")?;
        ensure!(livez.0 == 200, "{livez:?}");
        ensure!(daemon.get("/metrics")?.is_some(), "/metrics is not answered");
        daemon.status()?;
    }
    let cost = Usage::of(daemon.process())?.resident - before;
    ensure!(cost <= MAX_COST_MB, "resident memory grew by {cost:.0} MB");
    test.until_all_progress()?;
    // Commands have their turn as soon as the time of those that never came whole is over.
    until_true("a command is carried out", || Ok(daemon.cli(&["pause", &scene.name])?.code == Some(0)))?;
    ensure!(daemon.cli(&["resume", &scene.name])?.code == Some(0), "it does not go on");
    let ended =
        clients.iter_mut().filter_map(|client| answer(client).ok()).filter(|(status, _)| *status == 408).count();
    let late = stuck(&mut daemon, &authorization, &scene.name)?;
    let signalled = Instant::now();
    daemon.sigterm()?;
    let status = daemon.wait_exit()?;
    let took = signalled.elapsed();
    ensure!(status.code() == Some(0), "{status}");
    drop(late);
    let mut daemon = test.daemon("a")?;
    test.until_all_progress()?;
    let figures = format!(
        "{} clients, {ended} told that they are late; memory {cost:+.0} MB; ended after {:.1} s",
        clients.len(),
        took.as_secs_f64()
    );
    test.assert_exactly_once(&mut [&mut daemon], &figures)
}
