//! HTTP: axum routes, wire types, errors, keys, limits, the contract. See the crate root for the walls.
//!
//! ```text
//! accept loop (server) ─ track (id, one error shape, log) ─ panics ─ CORS ─ keys (auth) ─ route
//!                                                                                     │
//!      JSON, SSE, bytes (respond) ─ Reply ─ service::Assistant ─ Task ─ fields, image (input) ─ bounded body
//! ```
//!
//! [`app`] is the whole of it as a `Router`, for tests as for the server; [`port::server::Server`] puts it behind a port, and probes behind another.
//!
//! | folder or file | what belongs there |
//! | --- | --- |
//! | `port/` | from sockets to requests: accepting, time limits, closing |
//! | `access/` | who asks: keys, addresses, the id and the log line of each request |
//! | `intake/` | from what is sent to what a route makes a task of: bodies, fields, images, conversations |
//! | `routes/` | the handlers, one file for each endpoint, and the fields that several take (`options`) |
//! | `respond`, `envelope`, `error` | what is answered: whole or as events, what every answer says, what went wrong |
//! | `wire/` | the structs of requests and answers, from which the contract is made |
//! | `contract`, `reference`, `pages/` | the contract, the page made of it, and what pages are made from |
//! | `state` | what every route can reach |
//! | `health`, `metrics`, `process` | what operators ask: is it well, how much, how long |

mod access;
pub mod contract;
mod envelope;
pub mod error;
mod health;
pub mod intake;
mod metrics;
pub mod port;
mod process;
mod reference;
mod respond;
mod routes;
mod state;
pub mod wire;

use axum::Router;
use axum::http::{HeaderName, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, CorsLayer};

pub use error::{ApiError, ErrorCode, ErrorKind};
pub use metrics::{Meters, log_line_dropped};
pub use port::life::Life;
pub use respond::{finish_reason, image_notes};
pub use state::AppState;

use access::{auth, host, track};
use port::leftover;
use routes::{chat, generate_image, images, instruct, models, ops, report, vqa};

/// Headers of answers that web pages may read.
const EXPOSED: [&str; 7] = [
    "x-request-id",
    "retry-after",
    "x-should-retry",
    "x-seed",
    "x-synthetic",
    "x-disclaimer",
    "x-warning",
];

/// The whole API over a state.
pub fn app(state: AppState) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(state.cors.clone())
        .allow_methods([Method::GET, Method::POST])
        // Client libraries send headers of their own, which mean nothing here.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static));
    let routes = Router::new()
        .route("/v1/report", post(report::report))
        .route("/v1/vqa", post(vqa::vqa))
        .route("/v1/generate-image", post(generate_image::generate_image))
        .route("/v1/instruct", post(instruct::instruct))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/images/generations", post(images::generations))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
        .route("/v1/info", get(ops::info))
        .route("/livez", get(ops::livez))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.yaml", get(ops::openapi))
        .route("/docs", get(ops::docs))
        .route("/", get(ops::index))
        .fallback(unknown_path)
        // From the inside out: who may call, from which web page, what a panic becomes, what nobody has read, and the account of it all.
        .layer(from_fn_with_state(state.clone(), auth::ask_for_key));
    // Where no web page may call, none may ask whether it may: the layer would answer OPTIONS on every path.
    let routes = match state.cors.is_empty() {
        true => routes,
        false => routes.layer(cors),
    };
    accounted_for(routes, state)
}

/// Probes and meters alone, for the port that is theirs.
fn ops_app(state: AppState) -> Router {
    let routes = Router::new()
        .route("/livez", get(ops::livez))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route_layer(from_fn_with_state(state.clone(), auth::ask_for_key))
        .fallback(unknown_to_ops);
    accounted_for(routes, state)
}

/// Routes within what every request goes through.
fn accounted_for(routes: Router<AppState>, state: AppState) -> Router {
    routes
        .layer(from_fn(host::ask_for_host))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(leftover::read_leftover))
        .layer(from_fn_with_state(state.clone(), track::track))
        .layer(from_fn(no_sniffing))
        .with_state(state)
}

async fn unknown_path() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "There is nothing at this path; GET /docs shows what there is.",
    )
}

async fn unknown_to_ops() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "At this port there are /livez, /readyz and /metrics, and nothing else.",
    )
}

/// The payload of a panic may hold anything, so it is neither logged nor told.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    ApiError::new(
        ErrorCode::Internal,
        "Something went wrong in the server; send the request again.",
    )
    .into_response()
}

/// Browsers must not guess what an answer is, nor keep it: it may be patient data.
async fn no_sniffing(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
