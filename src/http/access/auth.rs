//! API keys: `Authorization: Bearer KEY`.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::track::RequestContext;
use crate::engine::Caller;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::AppState;

/// Whether everybody may have this path, keys or not: probes, and pages that hold no data.
pub fn is_open(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/" | "/docs" | "/openapi.yaml")
}

/// Asks for a key, unless none is configured or the path is open.
pub async fn ask_for_key(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = is_open(path) || (path == "/metrics" && !state.metrics_need_key);
    let keys = state.keys.now();
    if open || keys.is_empty() {
        return next.run(request).await;
    }
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let key = header.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    match key.map(|key| keys.find(key)) {
        Some(Some(known)) => {
            if let Some(context) = request.extensions().get::<RequestContext>() {
                // Where there is one key alone, nothing is kept for others.
                let caller = match keys.are_several() {
                    true => Caller::numbered(known.number),
                    false => Caller::ONLY,
                };
                context.admitted(known.name, caller);
            }
            next.run(request).await
        }
        Some(None) => ApiError::new(
            ErrorCode::InvalidApiKey,
            "This API key is not known; ask the operator for one.",
        )
        .into_response(),
        None => {
            let message = "An API key is needed; send it as `Authorization: Bearer KEY`.";
            ApiError::new(ErrorCode::MissingApiKey, message).into_response()
        }
    }
}
