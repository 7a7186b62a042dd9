//! An error as the caller sees it: `{"error": "…"}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::audit::CameOf;

pub struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    pub fn new(status: StatusCode, why: String) -> Self {
        Self { status, why }
    }

    pub fn why(&self) -> &str {
        &self.why
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let came_of = CameOf(format!("refused: {}", self.why));
        let mut response = (self.status, Json(serde_json::json!({ "error": self.why }))).into_response();
        response.extensions_mut().insert(came_of);
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"sandpiper\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
