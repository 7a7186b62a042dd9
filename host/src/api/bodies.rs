//! What callers send: so much, in so much time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts as _, Path, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::refusal::Refusal;
use crate::daemon::Daemon;
use crate::daemon::running::RunningPipeline;

/// The largest body of a command, bytes; an artifact has a bound of its own.
pub const LARGEST: usize = 1 << 20;
/// For a command's body to come.
const BODY: Duration = Duration::from_secs(10);
/// For what nobody reads to be sent all the same: whoever is still sending does not hear the answer.
const DISCARD: Duration = Duration::from_secs(1);
/// Characters of a caller's text that go into a message.
const SHORT: usize = 200;

/// A request that is for one pipeline, with its JSON body.
pub struct Asked<B> {
    pub pipeline: Arc<RunningPipeline>,
    pub body: B,
}

impl<B: DeserializeOwned> FromRequest<Arc<Daemon>> for Asked<B> {
    type Rejection = Response;

    async fn from_request(request: Request, daemon: &Arc<Daemon>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Path(name) =
            Path::<String>::from_request_parts(&mut parts, daemon).await.map_err(|error| error.into_response())?;
        let bytes = whole(body).await.map_err(Refusal::into_response)?;
        let body = json(&parts.headers, &bytes).map_err(Refusal::into_response)?;
        Ok(Self { pipeline: pipeline(daemon, &name).map_err(Refusal::into_response)?, body })
    }
}

/// # Errors
/// When the daemon runs no pipeline of that name.
pub fn pipeline(daemon: &Daemon, name: &str) -> Result<Arc<RunningPipeline>, Refusal> {
    daemon.pipeline(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = daemon.pipelines.iter().map(|pipeline| pipeline.name()).collect();
        let why = format!("there is no pipeline {:?}; this daemon runs {}", short(name), names.join(", "));
        Refusal::new(StatusCode::NOT_FOUND, why)
    })
}

/// All of a body.
///
/// # Errors
/// When it is too large, does not come in time or does not come whole.
async fn whole(body: Body) -> Result<Bytes, Refusal> {
    let mut body = Limited::new(body, LARGEST);
    match timeout(BODY, (&mut body).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {LARGEST} bytes; a plugin or a model is sent by PUT /v1/artifacts"),
        )),
        Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body does not come whole: {error}"))),
        Err(_) => Err(late(BODY)),
    }
}

/// The answer to whoever sends too slowly.
pub fn late(time: Duration) -> Refusal {
    let why = format!("the body has not come within {} s", time.as_secs());
    Refusal::new(StatusCode::REQUEST_TIMEOUT, why)
}

/// Takes what is still sent of a request that is refused, unless its sender waits for our word before it sends.
pub async fn discard(request: Request) {
    if !request.headers().contains_key(header::EXPECT) {
        discard_body(request.into_body()).await;
    }
}

pub async fn discard_body(mut body: Body) {
    let until = Instant::now() + DISCARD;
    while let Ok(Some(Ok(_))) = timeout_at(until, body.frame()).await {}
}

/// A command's body. The content type is asked for so that no web page can send a command without the browser asking us
/// first.
///
/// # Errors
/// When it is not what is expected.
pub fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refusal> {
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        let why = "the content type must be application/json".to_owned();
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    serde_json::from_slice(body).map_err(|error| {
        let why = format!("the body is not what is expected: {}", short(&error.to_string()));
        Refusal::new(StatusCode::BAD_REQUEST, why)
    })
}

/// As much of a caller's text as is repeated to anybody.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
pub mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// Says how large it is, and never comes.
    pub struct Silent(pub u64);

    impl hyper::body::Body for Silent {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
            Poll::Pending
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    async fn status(body: Body) -> u16 {
        whole(body).await.map_or_else(|refusal| refusal.into_response().status().as_u16(), |_| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_bound_and_a_time() {
        assert_eq!(status(Body::from(vec![b' '; LARGEST])).await, 200);
        assert_eq!(status(Body::from(vec![b' '; LARGEST + 1])).await, 413);
        assert_eq!(status(Body::new(Silent(10))).await, 408);
    }

    #[test]
    fn a_text_from_outside_is_repeated_in_part() {
        assert_eq!(short("iris"), "iris");
        let repeated = short(&"ä".repeat(1 << 20));
        assert_eq!(repeated.chars().count(), SHORT + 1);
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        let body = format!("{{\"{}\": 1}}", "x".repeat(LARGEST / 2));
        let refusal = json::<crate::control::controller::Change>(&headers, body.as_bytes()).err().unwrap();
        assert!(refusal.why().len() < 1_024, "{} bytes", refusal.why().len());
    }
}
