//! The admin API: who may command, what callers may send, and that it answers whatever else goes on.

use crate::support::admin_client::{ask, bearer, tls_file, until_logged};
use crate::support::daemon::{Daemon, Printed, sandpiper};
use crate::support::process::Usage;
use crate::support::scene::Scene;
use crate::support::until_true;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

crate::tests![
    a_command_needs_the_token_and_the_command_line_finds_it,
    a_foreign_web_page_gets_no_answer,
    what_is_too_large_is_refused_and_stands_in_no_memory,
    a_call_stands_in_the_history_and_in_the_audit_log,
    beyond_loopback_it_takes_tls_and_tokens,
    a_deployment_that_does_not_end_holds_nobody_up,
    a_daemon_that_still_starts_answers_and_hears_the_end,
    a_hangup_ends_as_a_sigterm,
];

fn start(scene: &Scene) -> Result<Daemon> {
    let pipeline = pipeline(scene)?;
    scene.daemon("a", &pipeline)
}

fn pipeline(scene: &Scene) -> Result<PathBuf> {
    scene.create_usual(1)?;
    scene.flower_pipeline("", &scene.model_of("setosa")?, "")
}

fn local() -> Vec<String> {
    vec!["Host: localhost".to_owned()]
}

fn json(authorization: &str) -> Vec<String> {
    let lines = ["Content-Type: application/json".to_owned(), format!("Authorization: {authorization}")];
    local().into_iter().chain(lines).collect()
}

fn a_command_needs_the_token_and_the_command_line_finds_it(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let url = format!("http://{}", daemon.address()?);
    let elsewhere = scene.directory.join("elsewhere");
    let pause = |more: &[&str]| Printed::of(sandpiper().args(["pause", &scene.name, "--admin", &url]).args(more));
    let viewer = daemon.state.join("viewer.token");
    for (options, words) in [
        (["--state", &elsewhere.to_string_lossy()], ["needs the admin's token", "none was shown", "--token-file"]),
        (["--token-file", &viewer.to_string_lossy()], ["viewer's token does not do", "viewer.token", "--state"]),
    ] {
        let refused = pause(&options)?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for word in words {
            assert!(refused.err.contains(word), "{word:?} is missing in: {}", refused.err);
        }
    }
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running", "who is refused changes nothing");
    let status = Printed::of(sandpiper().args(["status", "--admin", &url, "--state"]).arg(&elsewhere))?;
    assert_eq!(status.code, Some(0), "to look at this machine's daemon takes no token: {status:?}");
    assert_eq!(pause(&["--state", &daemon.state.to_string_lossy()])?.code, Some(0));
    let copy = scene.directory.join("copy");
    fs::copy(daemon.state.join("admin.token"), &copy)?;
    let resumed = Printed::of(sandpiper().args(["resume", &scene.name, "--admin", &url, "--token-file"]).arg(&copy))?;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let log = fs::read_to_string(&daemon.log)?;
    let token = fs::read_to_string(&copy)?;
    assert!(!log.contains(token.trim()), "the log shows the token");
    Ok(())
}

fn a_foreign_web_page_gets_no_answer(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let admin = bearer(&daemon, "admin")?;
    let rebound = ["Host: rebound.example:8642".to_owned()];
    let (status, body) = ask(&mut daemon, "GET /v1/status", &rebound, b"")?;
    assert!(status == 421 && body.contains("--admin-host"), "{status} {body}");
    let cross = [json(&admin), vec!["Origin: http://evil.example".to_owned()]].concat();
    let call = format!("POST /v1/pipelines/{}/pause", scene.name);
    assert_eq!(ask(&mut daemon, &call, &cross, b"{}")?.0, 403);
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running");
    assert_eq!(ask(&mut daemon, &call, &json(&admin), b"{}")?.0, 200, "the same without the page");
    Ok(())
}

fn what_is_too_large_is_refused_and_stands_in_no_memory(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    let admin = bearer(&daemon, "admin")?;
    let call = format!("POST /v1/pipelines/{}/pause", scene.name);
    let before = Usage::of(daemon.process())?.resident;
    let reason = |bytes: usize| format!("{{\"reason\":\"{}\"}}", "x".repeat(bytes)).into_bytes();
    let (status, body) = ask(&mut daemon, &call, &json(&admin), &reason(30 << 20))?;
    assert!(status == 413 && body.contains("1048576"), "{status} {body}");
    let (status, body) = ask(&mut daemon, &call, &json(&admin), &reason(2_000))?;
    assert!(status == 422 && body.contains("1024"), "{status} {body}");
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "running");
    let artifact = vec![b'x'; 200 << 20];
    let (status, body) = ask(&mut daemon, "PUT /v1/artifacts", &json(&admin), &artifact)?;
    assert!(status == 200 && body.contains("sha256:"), "{status} {body}");
    let grown = Usage::of(daemon.process())?.resident - before;
    assert!(grown < 64.0, "resident memory grew by {grown:.0} MB");
    let kept = fs::read_dir(daemon.state.join("artifacts"))?;
    let sizes = kept.map(|file| Ok(file?.metadata()?.len())).collect::<Result<Vec<_>>>()?;
    assert!(sizes.contains(&(200 << 20)), "{sizes:?}");
    Ok(())
}

fn a_call_stands_in_the_history_and_in_the_audit_log(scene: &Scene) -> Result<()> {
    let pipeline = pipeline(scene)?;
    let filter = [("RUST_LOG", "error".as_ref())];
    let mut daemon = Daemon::spawn_with(&scene.directory, "a", &[&pipeline], &["--instance", "a"], &filter)?;
    daemon.until_ready()?;
    let model = scene.model_of("virginica")?;
    assert_eq!(daemon.deploy(&scene.name, &["--model", &model.to_string_lossy()])?, 2);
    assert_eq!(daemon.cli(&["pause", &scene.name, "--reason", "lunch"])?.code, Some(0));
    assert_eq!(daemon.cli(&["resume", &scene.name])?.code, Some(0));
    assert_eq!(daemon.cli(&["resume", &scene.name])?.code, Some(1));
    let history = daemon.cli(&["history", &scene.name, "-o", "json"])?.json()?;
    let lines: Vec<(&str, &str)> = (history.as_array().context("no list")?.iter())
        .map(|line| (line["call"].as_str().unwrap_or("deployment"), line["by"]["who"].as_str().unwrap_or("nobody")))
        .collect();
    let asked = [("pause", "admin"), ("resume", "admin"), ("refused", "admin")];
    assert_eq!(lines, [&[("deployment", "nobody"), ("deployment", "admin")], &asked[..]].concat(), "{history:#}");
    assert_eq!((&history[1]["by"]["from"], &history[2]["reason"]), (&"127.0.0.1".into(), &"lunch".into()));
    let text = daemon.cli(&["history", &scene.name])?.out;
    assert!(text.contains("admin from 127.0.0.1") && text.contains("lunch"), "{text}");
    let who = "who=\"admin\" from=\"127.0.0.1\"";
    until_logged(&daemon, &[who, "PUT /v1/artifacts", "kept sha256:"])?;
    until_logged(&daemon, &[who, "/deploy", "revision 2 runs: a test"])?;
    until_logged(&daemon, &[who, "/pause", "paused: lunch"])?;
    until_logged(&daemon, &[who, "/resume", "status=422", "is not paused"])?;
    Ok(())
}

fn beyond_loopback_it_takes_tls_and_tokens(scene: &Scene) -> Result<()> {
    let pipeline = pipeline(scene)?;
    let state = scene.directory.join("a");
    let refused =
        Printed::of(sandpiper().arg("run").arg(&pipeline).args(["--admin", "0.0.0.0:0", "--state"]).arg(&state))?;
    assert!(refused.code == Some(2) && refused.err.contains("--admin-cert"), "{refused:?}");

    let (certificate, key) = (tls_file("certificate.pem"), tls_file("key.pem"));
    let tls = ["--admin-cert", &certificate.to_string_lossy(), "--admin-key", &key.to_string_lossy()];
    let mut daemon =
        Daemon::spawn(&scene.directory, "a", &[&pipeline], &[&tls[..], &["--admin", "0.0.0.0:0"]].concat())?;
    let port = daemon.address()?.rsplit_once(':').context("no port")?.1.to_owned();
    let run = |arguments: &[&str], state: &std::path::Path, host: &str| {
        let url = format!("https://{host}:{port}");
        let mut command = sandpiper();
        command.args(arguments).args(["--admin", &url, "--state"]).arg(state);
        Printed::of(command.arg("--ca-file").arg(&certificate))
    };
    until_true("the daemon is ready", || {
        daemon.check_alive()?;
        let status = run(&["status", "-o", "json"], &daemon.state, "localhost")?.json()?;
        Ok(status["pipelines"][0]["state"] == "running")
    })?;
    let stranger = run(&["status"], &scene.directory.join("elsewhere"), "localhost")?;
    assert!(stranger.code == Some(1) && stranger.err.contains("viewer's token"), "{stranger:?}");
    let viewer = daemon.state.join("viewer.token").to_string_lossy().into_owned();
    assert_eq!(run(&["status", "--token-file", &viewer], &daemon.state, "localhost")?.code, Some(0));
    let paused = run(&["pause", &scene.name], &daemon.state, "127.0.0.1")?;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let without = Printed::of(
        sandpiper().args(["status", "--admin", &format!("https://localhost:{port}"), "--state"]).arg(&daemon.state),
    )?;
    assert!(without.err.contains("--ca-file"), "{without:?}");
    let clear = Printed::of(
        sandpiper().args(["resume", &scene.name, "--admin", "http://192.0.2.1:1", "--state"]).arg(&daemon.state),
    )?;
    assert!(clear.err.contains("in the clear"), "{clear:?}");
    Ok(())
}

/// Every later deployment of it is compiled for ever.
const ENDLESS: &str = "in-staging=1*off->return";

fn a_deployment_that_does_not_end_holds_nobody_up(scene: &Scene) -> Result<()> {
    let pipeline = pipeline(scene)?;
    let failing = [("FAILPOINTS", ENDLESS.as_ref())];
    let mut daemon = Daemon::spawn_with(&scene.directory, "a", &[&pipeline], &["--instance", "a"], &failing)?;
    daemon.until_ready()?;
    let model = scene.model_of("virginica")?.to_string_lossy().into_owned();
    let mut deploying = daemon.start_cli(&["deploy", &scene.name, "--model", &model, "--reason", "a test"])?;
    until_logged(&daemon, &["PUT /v1/artifacts", "kept"])?;
    for path in ["/livez", "/readyz", "/metrics", "/v1/status"] {
        let answered = daemon.get(path)?.with_context(|| format!("{path} is not answered"))?;
        assert_eq!(answered.0, 200, "{path}: {}", answered.1);
    }
    for _ in 0..10 {
        let paused = daemon.cli(&["pause", &scene.name])?;
        assert_eq!(paused.code, Some(0), "{paused:?}");
        assert_eq!(daemon.cli(&["resume", &scene.name])?.code, Some(0));
    }
    assert!(deploying.try_wait()?.is_none(), "the deployment was answered");
    daemon.sigterm()?;
    assert_eq!(daemon.wait_exit()?.code(), Some(0));
    let answered = deploying.wait_with_output()?;
    let why = String::from_utf8_lossy(&answered.stderr).into_owned();
    assert!(answered.status.code() == Some(1) && why.contains("the daemon stops"), "{answered:?}");
    Ok(())
}

fn a_daemon_that_still_starts_answers_and_hears_the_end(scene: &Scene) -> Result<()> {
    let pipeline = pipeline(scene)?;
    let failing = [("FAILPOINTS", "in-staging=return".as_ref())];
    let mut daemon = Daemon::spawn_with(&scene.directory, "a", &[&pipeline], &["--instance", "a"], &failing)?;
    assert_eq!(daemon.get("/livez")?.context("no answer")?.0, 200);
    let (code, why) = daemon.get("/readyz")?.context("no answer")?;
    assert!(code == 503 && why.contains("the daemon starts"), "{code} {why}");
    let ready = daemon.cli(&["status", "--ready"])?;
    assert!(ready.code == Some(1) && ready.out.contains("the daemon starts"), "{ready:?}");
    assert_eq!(daemon.pipeline(&scene.name)?["state"], "starting");
    daemon.sigterm()?;
    assert_eq!(daemon.wait_exit()?.code(), Some(0));
    Ok(())
}

fn a_hangup_ends_as_a_sigterm(scene: &Scene) -> Result<()> {
    let mut daemon = start(scene)?;
    until_true("the daemon is a member of its group", || Ok(!scene.members()?.is_empty()))?;
    daemon.signal(libc::SIGHUP)?;
    assert_eq!(daemon.wait_exit()?.code(), Some(0));
    assert!(scene.members()?.is_empty(), "it has left its group");
    Ok(())
}
