//! The admin API: health, metrics, status, and the commands that change what runs.
//!
//! `GET /livez /readyz /metrics`, `GET /v1/openapi.json`, `GET /v1/proof/NONCE`, `GET /v1/status`, `GET /v1/pipelines/NAME/history`, `PUT /v1/artifacts`,
//! `POST /v1/pipelines/NAME/deploy`, `…/undo`, `…/pause`, `…/resume`, `…/rollout/promote`, `…/rollout/abort`,
//! `…/rollout/pause`, `…/rollout/resume`, `GET` and `POST …/replay`. Errors are `{"error": "…"}`. Who may ask what is decided in `access`, before any of these is called.

use std::sync::Arc;

use anyhow::Result;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};

use super::access::{self, Access, MayLook, Place};
use super::audit::CameOf;
use super::bodies::{self, Asked, pipeline};
use super::health::Health;
use super::metrics;
use super::refusal::Refusal;
use super::status::Status;
use super::tokens;
use super::uploads::Uploads;
use crate::control::command::{By, Outcome, Refused};
use crate::control::controller::{Answered, Change, Controller, RolloutRequest};
use crate::control::runner::Answer;
use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;
use crate::record::Revision;
use crate::replay::process::{Progress, Request as ReplayRequest};
use crate::stream::stop::Stop;
use sandpiper_sandbox::Digest;

/// All that is answered, to those who may ask.
pub fn router(daemon: Arc<Daemon>, access: Access) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(prometheus))
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/proof/{nonce}", get(proof))
        .route("/v1/status", get(status))
        .route("/v1/pipelines/{name}/history", get(history))
        .route("/v1/pipelines/{name}/deploy", post(deploy))
        .route("/v1/pipelines/{name}/undo", post(undo))
        .route("/v1/pipelines/{name}/rollout/promote", post(promote))
        .route("/v1/pipelines/{name}/rollout/abort", post(abort))
        .route("/v1/pipelines/{name}/rollout/pause", post(pause_rollout))
        .route("/v1/pipelines/{name}/rollout/resume", post(resume_rollout))
        .route("/v1/pipelines/{name}/pause", post(pause))
        .route("/v1/pipelines/{name}/resume", post(resume))
        .route("/v1/pipelines/{name}/replay", get(replayed).post(replay))
        .route("/v1/artifacts", put(artifact))
        .layer(DefaultBodyLimit::max(bodies::LARGEST))
        .layer(Extension(Arc::new(Uploads::default())))
        // Last, so that it comes first: also of what there is no route for.
        .layer(middleware::from_fn_with_state(Arc::new(access), access::check))
        .with_state(daemon)
}

type Shared = State<Arc<Daemon>>;

/// All of these, for programs.
async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

async fn status(State(daemon): Shared) -> Json<Status> {
    Json(Status::of(&daemon))
}

/// That this is the daemon which a caller's token is for, before the caller shows it.
#[derive(Serialize, Deserialize)]
pub struct Proofs {
    /// By the admin's token and by the viewer's.
    pub proofs: [String; 2],
}

async fn proof(Extension(access): Extension<Arc<Access>>, Path(nonce): Path<String>) -> Result<Json<Proofs>, Refusal> {
    if !tokens::is_nonce(&nonce) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "a nonce has 64 hexadecimal digits".to_owned()));
    }
    Ok(Json(Proofs { proofs: access.proofs(&nonce) }))
}

/// Alive: no loop is stuck.
async fn livez(State(daemon): Shared, Extension(may_look): Extension<MayLook>) -> Response {
    health(may_look, Health::of(&daemon).iter().filter_map(Health::stuck).collect())
}

/// Ready: every loop runs, on the deployed revision, with what it remembers.
async fn readyz(State(daemon): Shared, Extension(may_look): Extension<MayLook>) -> Response {
    let mut reasons = Vec::new();
    if !daemon.is_started() {
        reasons.push("the daemon starts: plugins are compiled and opened".to_owned());
    }
    reasons.extend(Health::of(&daemon).iter().filter_map(Health::not_ready));
    health(may_look, reasons)
}

/// The reasons name topics and hosts: who may not look is told only that there are some.
fn health(MayLook(may_look): MayLook, reasons: Vec<String>) -> Response {
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n").into_response()
    } else if may_look {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no; the reasons are for the viewer's token\n").into_response()
    }
}

async fn prometheus(State(daemon): Shared) -> Result<Response, Refusal> {
    let text = metrics::render(&Status::of(&daemon))
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

async fn history(State(daemon): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    Ok(Json(pipeline(&daemon, &name)?.controller.history().lines()).into_response())
}

/// What an artifact is called from here on.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    pub digest: Digest,
}

async fn artifact(
    State(daemon): Shared,
    Extension(uploads): Extension<Arc<Uploads>>,
    body: Body,
) -> Result<Response, Refusal> {
    let digest = uploads.receive(daemon.directory.clone(), body).await?;
    Ok(came_of(format!("kept {digest}"), Kept { digest }))
}

/// What a command is given that needs nothing but a reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    #[serde(default)]
    pub reason: String,
}

type Caller = Extension<By>;
type Placed = Extension<Place>;

async fn deploy(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<Change>,
) -> Result<Response, Refusal> {
    answered(place, pipeline, move |controller| controller.deploy(&body, Some(by))).await
}

/// Back to an earlier revision.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Back {
    #[serde(default)]
    pub reason: String,
    /// What that revision ran; by default what ran before.
    #[serde(default)]
    pub to: Option<Revision>,
}

async fn undo(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<Back>,
) -> Result<Response, Refusal> {
    answered(place, pipeline, move |controller| controller.undo(&body.reason, body.to, Some(by))).await
}

/// What is asked of a rollout.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfRollout {
    #[serde(default)]
    pub reason: String,
    /// It is refused when another revision runs.
    #[serde(default)]
    pub expected_revision: Option<Revision>,
}

async fn promote(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<OfRollout>,
) -> Result<Response, Refusal> {
    of_rollout(place, pipeline, RolloutRequest::Promote { reason: body.reason }, body.expected_revision, by).await
}

async fn abort(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<OfRollout>,
) -> Result<Response, Refusal> {
    of_rollout(place, pipeline, RolloutRequest::Abort { reason: body.reason }, body.expected_revision, by).await
}

async fn pause_rollout(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<OfRollout>,
) -> Result<Response, Refusal> {
    of_rollout(place, pipeline, RolloutRequest::Pause { reason: body.reason }, body.expected_revision, by).await
}

async fn resume_rollout(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<OfRollout>,
) -> Result<Response, Refusal> {
    of_rollout(place, pipeline, RolloutRequest::Resume { reason: body.reason }, body.expected_revision, by).await
}

async fn of_rollout(
    place: Place,
    pipeline: Arc<RunningPipeline>,
    what: RolloutRequest,
    expected: Option<Revision>,
    by: By,
) -> Result<Response, Refusal> {
    answered(place, pipeline, move |controller| controller.rollout(what, expected, Some(by))).await
}

async fn pause(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<Why>,
) -> Result<Response, Refusal> {
    answered(place, pipeline, move |controller| controller.pause(&body.reason, Some(by))).await
}

async fn resume(
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, .. }: Asked<Why>,
) -> Result<Response, Refusal> {
    answered(place, pipeline, move |controller| controller.resume(Some(by))).await
}

/// How far the last replay is.
async fn replayed(State(daemon): Shared, Path(name): Path<String>) -> Result<Json<Progress>, Refusal> {
    Ok(Json(pipeline(&daemon, &name)?.replay.latest()))
}

/// A dry run, and what is read before letters are replayed, is for whoever waits for it, and ends with the request.
async fn replay(
    State(daemon): Shared,
    Extension(by): Caller,
    Extension(place): Placed,
    Asked { pipeline, body }: Asked<ReplayRequest>,
) -> Result<Response, Refusal> {
    let (caller_has_gone, _waits) = Waits::begin();
    let progress = blocking(place, move || daemon.replay(&pipeline, &body, Some(by), &caller_has_gone)).await?;
    Ok(came_of(format!("{} letters selected", progress.selected), progress))
}

/// A request that is waited for; when it is gone, so is whoever asked, or he has his answer.
struct Waits(Stop);

impl Waits {
    /// With what is set at its end.
    fn begin() -> (Stop, Self) {
        let end = Stop::default();
        (end.clone(), Self(end))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What came of a command. The thread that answers health checks does not wait for it.
async fn answered(
    place: Place,
    pipeline: Arc<RunningPipeline>,
    ask: impl FnOnce(&Controller) -> Answer + Send + 'static,
) -> Result<Response, Refusal> {
    let work =
        move || Ok(ask(&pipeline.controller).map(|outcome| Answered { pipeline: pipeline.name().to_owned(), outcome }));
    let answered = blocking(place, work).await?.map_err(|refused| {
        let status = match refused {
            // What the caller looked at runs no more: to look again and ask again may well do.
            Refused::Stale { .. } => StatusCode::CONFLICT,
            Refused::Undecided { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Refusal::new(status, refused.to_string())
    })?;
    Ok(came_of(in_words(&answered.outcome), answered))
}

/// As the audit log says it.
fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Activated { deployment, .. } => {
            format!("revision {} runs: {}", deployment.revision, deployment.reason)
        }
        Outcome::RolledBack { deployment, failed_revision } => {
            format!("revision {failed_revision} was taken back, revision {} runs", deployment.revision)
        }
        Outcome::Superseded { by } => format!("superseded by revision {by}"),
        Outcome::Paused { pause } => format!("paused: {}", pause.why),
        Outcome::Resumed { .. } => "resumed".to_owned(),
        Outcome::Rollout { rollout } => rollout.describe(),
        Outcome::Noted => "noted".to_owned(),
    }
}

fn came_of(words: String, answer: impl Serialize) -> Response {
    let mut response = Json(answer).into_response();
    response.extensions_mut().insert(CameOf(words));
    response
}

/// Staging compiles and opens: not on the thread that answers health checks. The command keeps its place until its work is done.
async fn blocking<T: Send + 'static>(
    place: Place,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let work = move || {
        let _place = place;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"))),
        Err(error) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::extract::Request;
    use tower::ServiceExt as _;

    use super::super::tokens::{ADMIN_FILE, Kept, Tokens, read};
    use super::*;

    #[tokio::test]
    async fn a_command_whose_caller_has_gone_keeps_its_place_until_its_work_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let access =
            Access::new(Tokens::open(directory.path(), None).unwrap(), ([127, 0, 0, 1], 8642).into(), Vec::new());
        let token = format!("Bearer {}", read(&directory.path().join(ADMIN_FILE), Kept::InState).unwrap());
        let (begun, end) = (Arc::new(AtomicUsize::new(0)), Stop::default());
        let (has_begun, ends) = (begun.clone(), end.clone());
        let work = async move |Extension(place): Placed| {
            let (begun, end) = (begun.clone(), end.clone());
            let worked = blocking(place, move || {
                begun.fetch_add(1, Ordering::Relaxed);
                while !end.is_set() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            });
            worked.await.map(|()| "done")
        };
        let router = Router::new()
            .route("/work", post(work))
            .layer(middleware::from_fn_with_state(Arc::new(access), access::check));
        let ask = || {
            let request = Request::post("/work").header("host", "localhost").header("authorization", token.as_str());
            router.clone().oneshot(request.body(Body::empty()).unwrap())
        };
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..access::COMMANDS {
            callers.spawn(ask());
        }
        while has_begun.load(Ordering::Relaxed) < access::COMMANDS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        callers.shutdown().await;
        let busy = tokio::spawn(ask());
        tokio::time::sleep(Duration::from_millis(50)).await;
        ends.set();
        assert_eq!(busy.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        while ask().await.unwrap().status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_is_done_for_a_caller_alone_ends_when_he_goes() {
        let (has_gone, waits) = Waits::begin();
        let request = async move {
            let _waits = waits;
            std::future::pending::<()>().await;
        };
        let request = tokio::spawn(request);
        tokio::task::yield_now().await;
        assert!(!has_gone.is_set());
        request.abort();
        assert!(request.await.is_err() && has_gone.is_set());
    }
}
