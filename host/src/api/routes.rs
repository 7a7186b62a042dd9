//! The admin API, on loopback: health, metrics, status, and the commands that change what runs.
//!
//! `GET /livez /readyz /metrics`, `GET /v1/status`, `GET /v1/pipelines/NAME/history`, `PUT /v1/artifacts`,
//! `POST /v1/pipelines/NAME/deploy`, `…/undo`, `…/pause`, `…/resume`, `GET` and
//! `POST …/replay`. Errors are `{"error": "…"}`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts as _, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::api::metrics;
use crate::api::status::Status;
use crate::control::controller::{Answered, Change, Controller};
use crate::control::runner::Answer;
use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;
use crate::replay::process::{Progress, Request as ReplayRequest};
use crate::stream::report::WorkerState;
use sandpiper_sandbox::Digest;

/// The largest plugin or model that is taken, bytes.
const ARTIFACT: usize = 256 << 20;
/// A running worker renews its report twice a second; a plugin's failing batch may keep it for a few seconds.
const STUCK_MS: u64 = 30_000;

/// Binds the address; port 0 is a free one.
///
/// # Errors
/// When the address is taken or is not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("the admin API cannot listen on {address}; choose another address with --admin"))
}

/// Serves until the future that stops it is done.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    daemon: Arc<Daemon>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(prometheus))
        .route("/v1/status", get(status))
        .route("/v1/pipelines/{name}/history", get(history))
        .route("/v1/pipelines/{name}/deploy", post(deploy))
        .route("/v1/pipelines/{name}/undo", post(undo))
        .route("/v1/pipelines/{name}/pause", post(pause))
        .route("/v1/pipelines/{name}/resume", post(resume))
        .route("/v1/pipelines/{name}/replay", get(replayed).post(replay))
        .route("/v1/artifacts", put(artifact))
        .layer(DefaultBodyLimit::max(ARTIFACT))
        .with_state(daemon);
    axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
    Ok(())
}

type Shared = State<Arc<Daemon>>;

/// An error as the caller sees it.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

async fn status(State(daemon): Shared) -> Json<Status> {
    Json(Status::of(&daemon))
}

/// Alive: no running worker is stuck.
async fn livez(State(daemon): Shared) -> Response {
    let stuck = |pipeline: &crate::api::status::PipelineStatus| {
        let stuck = (pipeline.workers.iter())
            .find(|worker| worker.state == WorkerState::Running && worker.silent_ms > STUCK_MS);
        stuck.map(|worker| {
            format!(
                "pipeline {}, worker {} has not reported for {} s",
                pipeline.name,
                worker.slot,
                worker.silent_ms / 1_000
            )
        })
    };
    health(Status::of(&daemon).pipelines.iter().filter_map(stuck).collect())
}

/// Ready: every loop runs, on the deployed revision, with what it remembers.
async fn readyz(State(daemon): Shared) -> Response {
    let mut reasons = Vec::new();
    for pipeline in Status::of(&daemon).pipelines {
        if let Some(paused) = &pipeline.paused {
            reasons.push(format!("pipeline {} is paused: {}", pipeline.name, paused.pause.why));
        } else if pipeline.state != WorkerState::Running {
            let why = pipeline.last_error.unwrap_or_else(|| "connecting".into());
            reasons.push(format!("pipeline {} is not running: {why}", pipeline.name));
        } else if let Some(revision) = pipeline.revision
            && let Some(worker) = pipeline.workers.iter().find(|worker| worker.revision < Some(revision))
        {
            reasons.push(format!(
                "pipeline {}, worker {} has yet to take revision {revision}",
                pipeline.name, worker.slot
            ));
        } else if let Some(restoring) = pipeline.restoring() {
            reasons.push(format!("pipeline {} restores what it remembers of {restoring}", pipeline.name));
        }
    }
    health(reasons)
}

fn health(reasons: Vec<String>) -> Response {
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
    }
}

async fn prometheus(State(daemon): Shared) -> Result<Response, Refusal> {
    let text = metrics::render(&Status::of(&daemon))
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

async fn history(State(daemon): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    Ok(Json(&pipeline(&daemon, &name)?.controller.history().deployments).into_response())
}

/// What an artifact is called from here on.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    pub digest: Digest,
}

async fn artifact(State(daemon): Shared, bytes: Bytes) -> Result<Json<Kept>, Refusal> {
    blocking(move || Ok(Kept { digest: daemon.directory.keep_artifact(&bytes)? })).await.map(Json)
}

/// A request that is for one pipeline, with its JSON body.
struct Asked<B> {
    pipeline: Arc<RunningPipeline>,
    body: B,
}

impl<B: DeserializeOwned> FromRequest<Arc<Daemon>> for Asked<B> {
    type Rejection = Response;

    async fn from_request(request: Request, daemon: &Arc<Daemon>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Path(name) =
            Path::<String>::from_request_parts(&mut parts, daemon).await.map_err(IntoResponse::into_response)?;
        let headers = parts.headers.clone();
        let bytes = Bytes::from_request(Request::from_parts(parts, body), daemon).await;
        let body = json(&headers, &bytes.map_err(IntoResponse::into_response)?).map_err(IntoResponse::into_response)?;
        Ok(Self { pipeline: pipeline(daemon, &name).map_err(IntoResponse::into_response)?, body })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    reason: String,
}

async fn deploy(Asked { pipeline, body }: Asked<Change>) -> Result<Json<Answered>, Refusal> {
    answered(pipeline, move |controller| controller.deploy(&body)).await
}

async fn undo(Asked { pipeline, body }: Asked<Why>) -> Result<Json<Answered>, Refusal> {
    answered(pipeline, move |controller| controller.undo(&body.reason)).await
}

async fn pause(Asked { pipeline, body }: Asked<Why>) -> Result<Json<Answered>, Refusal> {
    answered(pipeline, move |controller| controller.pause(&body.reason)).await
}

async fn resume(Asked { pipeline, .. }: Asked<Why>) -> Result<Json<Answered>, Refusal> {
    answered(pipeline, Controller::resume).await
}

/// How far the last replay is.
async fn replayed(State(daemon): Shared, Path(name): Path<String>) -> Result<Json<Progress>, Refusal> {
    Ok(Json(pipeline(&daemon, &name)?.replay.latest()))
}

async fn replay(
    State(daemon): Shared,
    Asked { pipeline, body }: Asked<ReplayRequest>,
) -> Result<Json<Progress>, Refusal> {
    blocking(move || daemon.replay(&pipeline, &body)).await.map(Json)
}

/// The content type is asked for so that no web page can send a command without the browser asking us first.
fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refusal> {
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json".into()));
    }
    serde_json::from_slice(body)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("the body is not what is expected: {error}")))
}

/// What came of a command. The thread that answers health checks does not wait for it.
async fn answered(
    pipeline: Arc<RunningPipeline>,
    ask: impl FnOnce(&Controller) -> Answer + Send + 'static,
) -> Result<Json<Answered>, Refusal> {
    let work = move || {
        let outcome = ask(&pipeline.controller)?;
        Ok(Answered { pipeline: pipeline.name().to_owned(), outcome })
    };
    blocking(work).await.map(Json)
}

fn pipeline(daemon: &Daemon, name: &str) -> Result<Arc<RunningPipeline>, Refusal> {
    daemon.pipeline(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = daemon.pipelines.iter().map(|pipeline| pipeline.name()).collect();
        Refusal(StatusCode::NOT_FOUND, format!("there is no pipeline {name:?}; this daemon runs {}", names.join(", ")))
    })
}

/// Staging compiles and opens: not on the thread that answers health checks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"))),
        Err(error) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
