//! `POST /v1/report`

use axum::extract::{Request, State};
use axum::response::Response;

use super::options::{Include, take_constraint, take_options};
use super::start;
use crate::http::access::track::RequestContext;
use crate::http::error::ApiError;
use crate::http::intake::input::Input;
use crate::http::respond::{deliver, finish_reason};
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, ReadingsUsed, ReportRequest, ReportResponse};
use crate::service::Task;

/// Report on a chest X-ray
///
/// The image comes as multipart part `image`, as the raw body (options then in the query string), or in JSON as base64 or data: URL.
/// Greedy by default. The image is read as often as the bundle or `readings` says; of several readings the report is the one that the others agree with most.
/// With `stream` the answer comes as server-sent events: `delta` (`DeltaEvent`), then `done` with this same JSON, or `error` (`ErrorBody`).
#[utoipa::path(
    post, path = "/v1/report", tag = "product", operation_id = "report",
    request_body(content(
        (ReportRequest = "application/json"),
        (ReportRequest = "multipart/form-data"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "application/dicom"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "The report.", body = ReportResponse),
        (status = "4XX", description = "What to change.", body = ErrorBody),
        (status = "5XX", description = "Not the client's doing.", body = ErrorBody),
    )
)]
pub async fn report(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<Response, ApiError> {
    let mut input = Input::with_image(&state.bodies, request).await?;
    let image = input.required_image().await?;
    let fields = &mut input.fields;
    let instruction = fields.text("instruction")?;
    let mut options = take_options(fields)?;
    options.constraint = take_constraint(fields)?;
    options.readings = fields.count("readings")?;
    let streamed = fields.flag("stream")?;
    let include = Include::take(fields)?;
    let share = input.finish()?;
    let reply = start(&state, &context, Task::Report { image, instruction }, options, share).await?;
    deliver(state, context, reply, streamed, move |envelope, outcome| {
        let readings = ReadingsUsed::of(&outcome);
        let answer = outcome.answers.into_iter().next();
        let (text, finish, token_ids) = answer
            .map(|a| (a.text, Some(a.finish), a.token_ids))
            .unwrap_or_default();
        ReportResponse {
            id: envelope.id,
            object: "report".to_owned(),
            created: envelope.created,
            model: envelope.model,
            report: text,
            finish_reason: finish.map(finish_reason).unwrap_or_default(),
            sampling: envelope.sampling,
            readings,
            usage: envelope.usage,
            timing_ms: envelope.timing_ms,
            disclaimer: envelope.notice.disclaimer,
            warning: envelope.notice.warning,
            image_notes: envelope.image_notes,
            token_ids: include.token_ids.then_some(token_ids),
            codes: outcome
                .input_codes
                .filter(|_| include.codes)
                .map(|codes| codes.to_vec()),
        }
    })
    .await
}
