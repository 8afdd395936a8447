//! Probes, meters, facts, the contract and the pages.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::engine::EngineState;
use crate::http::contract;
use crate::http::envelope::{Notice, plain};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::conversation::MAX_MESSAGES;
use crate::http::metrics::Standing;
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, Info, InfoDefaults, InfoLimits, InfoModel, Status};

/// Whether the process lives
#[utoipa::path(get, path = "/livez", tag = "operation", operation_id = "getLiveness", responses((status = 200, description = "It does.", body = Status)))]
pub async fn livez() -> Json<Status> {
    Json(Status {
        status: "alive".to_owned(),
    })
}

/// Whether requests can be served
///
/// Asks the engine's thread and the device (at most once a second).
#[utoipa::path(
    get, path = "/readyz", tag = "operation", operation_id = "getReadiness",
    responses(
        (status = 200, description = "They can.", body = Status),
        (status = 503, description = "Not now: `loading`, `shutting_down`, `stalled` or `engine_stopped`.", body = ErrorBody),
    )
)]
pub async fn readyz(State(state): State<AppState>) -> Result<Json<Status>, ApiError> {
    if state.life.is_draining() {
        return Err(ApiError::new(ErrorCode::ShuttingDown, "The server is shutting down."));
    }
    state.health.check().await?;
    Ok(Json(Status {
        status: "ready".to_owned(),
    }))
}

/// Metrics in Prometheus' text format
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "getMetrics",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        (status = 401, description = "No key, where `--metrics-need-key` asks for one.", body = ErrorBody),
    )
)]
pub async fn metrics(State(state): State<AppState>) -> Response {
    let now = Standing {
        ready: !state.life.is_draining() && state.health.glance().await,
        images_waiting: state.assistant.desk().waiting(),
        body_bytes: state.bodies.memory(),
    };
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        state.meters.render(&now),
    )
        .into_response()
}

/// Facts of server and model
#[utoipa::path(
    get, path = "/v1/info", tag = "operation", operation_id = "getInfo",
    responses((status = 200, description = "The facts.", body = Info), (status = "4XX", description = "What to change.", body = ErrorBody))
)]
pub async fn info(State(state): State<AppState>) -> Json<Info> {
    let (assistant, engine) = (&state.assistant, state.assistant.engine());
    let (card, limits, vocabulary) = (assistant.card(), assistant.limits(), assistant.vocabulary());
    let decode = assistant.desk().limits();
    let standing = match engine.state() {
        _ if state.life.is_draining() => "draining",
        EngineState::Loading => "loading",
        EngineState::Ready => "ready",
        EngineState::Stalled => "stalled",
        EngineState::Draining => "draining",
        EngineState::Failed(_) => "failed",
        EngineState::Stopped => "stopped",
    };
    let facts = engine.facts();
    let notice = Notice::of(card);
    Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: crate::COMMIT.map(str::to_owned),
        state: standing.to_owned(),
        model: InfoModel {
            name: card.name.clone(),
            revision: card.revision.clone(),
            manifest_sha256: card.manifest_sha256.clone(),
            trained: card.trained,
            licence: card.licence.clone(),
            intended_use: card.intended_use.clone(),
            report_instruction: card.report_instruction.clone(),
            report_readings: card.readings,
            defaults: InfoDefaults {
                temperature: plain(card.temperature),
                top_p: plain(card.top_p),
                guidance: plain(card.guidance),
                report_max_tokens: card.report_max_tokens,
                vqa_max_tokens: card.vqa_max_tokens,
                instruct_max_tokens: card.instruct_max_tokens,
            },
            draw_instruction: card.draw_instruction.clone(),
            image_side: card.image_side,
            codes_per_image: vocabulary.codes_per_image(),
            vocabulary: vocabulary.len(),
            context: facts.as_ref().map(|f| f.context),
            device: facts.as_ref().map(|f| f.device.clone()),
            dtype: facts.as_ref().map(|f| f.dtype.clone()),
            weights: facts.as_ref().map(|f| f.weights.clone()),
        },
        limits: InfoLimits {
            body_bytes: state.body_bytes,
            image_pixels: decode.max_pixels,
            image_side: decode.max_side,
            text_bytes: limits.text_bytes,
            questions: limits.questions,
            readings: limits.readings(),
            images: limits.images,
            messages: MAX_MESSAGES,
            stops: limits.stops,
            stop_bytes: limits.stop_bytes,
            request_seconds: state.request_timeout.as_secs_f64(),
        },
        disclaimer: notice.disclaimer,
        warning: notice.warning,
    })
}

/// This contract
#[utoipa::path(
    get, path = "/openapi.yaml", tag = "operation", operation_id = "getContract",
    responses((status = 200, description = "OpenAPI 3.1.", body = String, content_type = "application/yaml"))
)]
pub async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/yaml; charset=utf-8")], contract::yaml()).into_response()
}

/// The reference, for people
#[utoipa::path(
    get, path = "/docs", tag = "operation", operation_id = "getReference",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"))
)]
pub async fn docs() -> Response {
    page(contract::page())
}

/// A form to try the model with
#[utoipa::path(
    get, path = "/", tag = "operation", operation_id = "getTryPage",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"))
)]
pub async fn index() -> Response {
    page(include_str!("../pages/index.html"))
}

/// A page that loads nothing from anywhere else.
fn page(html: &'static str) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; \
                          connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
    (
        [(CONTENT_TYPE, "text/html; charset=utf-8")],
        [(CONTENT_SECURITY_POLICY, POLICY)],
        html,
    )
        .into_response()
}
