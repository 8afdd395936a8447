//! `POST /v1/instruct`

use axum::extract::{Request, State};
use axum::response::Response;

use super::options::{Include, take_format, take_options};
use super::start;
use crate::engine::FinishReason;
use crate::http::access::track::RequestContext;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::input::Input;
use crate::http::respond::{deliver, drawn, finish_reason};
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, InstructRequest, InstructResponse};
use crate::radiograph::ImageFormat;
use crate::service::{Material, Task};

/// Give an instruction
///
/// With a text (`input`), with an image (sent as in `/v1/report`), or with neither. The model decides what comes back: text, an image,
/// or both. An image is drawn where the reply has exactly its codes, as in the original; where it has fewer or more, `drawing_note` says so.
/// Samples by default, as the original does, with the bundle's own temperature, top_p and length (`/v1/info` tells them). With `stream` the
/// answer comes as server-sent events: `delta` (`DeltaEvent`) for text and `progress` (`ProgressEvent`) for an image, each with `index` 0, then
/// `done` with this same JSON, or `error` (`ErrorBody`).
#[utoipa::path(
    post, path = "/v1/instruct", tag = "product", operation_id = "instruct",
    request_body(content(
        (InstructRequest = "application/json"),
        (InstructRequest = "multipart/form-data"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "application/dicom"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "What came of it.", body = InstructResponse),
        (status = "4XX", description = "What to change.", body = ErrorBody),
        (status = "5XX", description = "Not the client's doing.", body = ErrorBody),
    )
)]
pub async fn instruct(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<Response, ApiError> {
    let mut input = Input::with_image(&state.bodies, request).await?;
    let image = input.image().await?;
    let fields = &mut input.fields;
    let instruction = fields.required_text("instruction")?;
    let material = match (fields.text("input")?, image) {
        (None, None) => Material::None,
        (Some(text), None) => Material::Text(text),
        (None, Some(file)) => Material::Image(file),
        (Some(_), Some(_)) => {
            let message = "Send either `input` or `image`; the model takes one of them.";
            return Err(ApiError::about(ErrorCode::ConflictingFields, "input", message));
        }
    };
    let format = take_format(fields, "format")?.unwrap_or(ImageFormat::Png);
    let options = take_options(fields)?;
    let streamed = fields.flag("stream")?;
    let include = Include::take(fields)?;
    let share = input.finish()?;
    let reply = start(
        &state,
        &context,
        Task::Instruct {
            instruction,
            material,
            format,
        },
        options,
        share,
    )
    .await?;
    deliver(state, context, reply, streamed, move |envelope, outcome| {
        let (mut text, mut image, mut token_ids, mut drawn_codes) = (String::new(), None, Vec::new(), None);
        let mut drawing_note = None;
        let mut finish = FinishReason::Stop;
        if let Some(answer) = outcome.answers.into_iter().next() {
            image = answer
                .image
                .as_ref()
                .map(|drawing| drawn(0, answer.seed, answer.finish, drawing));
            drawing_note = answer.undrawn.map(|undrawn| undrawn.to_string());
            drawn_codes = answer.image.map(|drawing| drawing.codes);
            (text, token_ids, finish) = (answer.text, answer.token_ids, answer.finish);
        }
        let codes = outcome.input_codes.map(|codes| codes.to_vec()).or(drawn_codes);
        InstructResponse {
            id: envelope.id,
            object: "instruct".to_owned(),
            created: envelope.created,
            model: envelope.model,
            text,
            image,
            drawing_note,
            finish_reason: finish_reason(finish),
            sampling: envelope.sampling,
            usage: envelope.usage,
            timing_ms: envelope.timing_ms,
            disclaimer: envelope.notice.disclaimer,
            warning: envelope.notice.warning,
            image_notes: envelope.image_notes,
            token_ids: include.token_ids.then_some(token_ids),
            codes: codes.filter(|_| include.codes),
        }
    })
    .await
}
