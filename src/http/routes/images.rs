//! `POST /v1/images/generations`, in the OpenAI way.

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine as _;

use super::models::check_model;
use super::options::{take_format, take_seed};
use super::start;
use crate::http::access::track::RequestContext;
use crate::http::envelope::{Notice, now};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::input::Input;
use crate::http::respond::format_name;
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, ImageDatum, ImagesRequest, ImagesResponse};
use crate::radiograph::ImageFormat;
use crate::service::{Options, Task};

/// Draw chest X-rays, OpenAI-compatible
///
/// Images come as `b64_json`. `quality`, `complexity`, `style`, `background`, `moderation`, `output_compression`, `partial_images`, `frame_count`,
/// `frame_duration_ms`, `svg`, `safety_identifier` and `user` change nothing here.
#[utoipa::path(
    post, path = "/v1/images/generations", tag = "openai", operation_id = "createImage",
    request_body = ImagesRequest,
    responses(
        (status = 200, description = "The images.", body = ImagesResponse),
        (status = "4XX", description = "What to change.", body = ErrorBody),
        (status = "5XX", description = "Not the client's doing.", body = ErrorBody),
    )
)]
pub async fn generations(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<Json<ImagesResponse>, ApiError> {
    let mut input = Input::fields_only(&state.bodies, request).await?;
    let fields = &mut input.fields;
    let text = fields.required_text("prompt")?;
    if let Some(name) = fields.text("model")? {
        check_model(&state, &name)?;
    }
    let n = fields.count("n")?.unwrap_or(1);
    let unsupported = |param: &str, message: String| ApiError::about(ErrorCode::UnsupportedParameter, param, message);
    let side = state.assistant.card().image_side;
    let own_size = format!("{side}x{side}");
    if fields
        .text("size")?
        .is_some_and(|size| size != "auto" && size != own_size)
    {
        return Err(unsupported(
            "size",
            format!("This model draws images of one size; ask for `{own_size}` or `auto`."),
        ));
    }
    if fields
        .text("response_format")?
        .is_some_and(|format| format != "b64_json")
    {
        let message = "Images are not stored, so there are no URLs; ask for `b64_json`.";
        return Err(unsupported("response_format", message.to_owned()));
    }
    let format = take_format(fields, "output_format")?.unwrap_or(ImageFormat::Png);
    let options = Options {
        seed: take_seed(fields)?,
        ..Options::default()
    };
    if fields.flag("stream")? {
        return Err(unsupported(
            "stream",
            "Streams of images are at /v1/generate-image; leave `stream` out.".to_owned(),
        ));
    }
    fields.ignore(&[
        "quality",
        "complexity",
        "style",
        "background",
        "moderation",
        "user",
        "output_compression",
        "partial_images",
        // Of formats that are refused where they are asked for.
        "frame_count",
        "frame_duration_ms",
        "svg",
        "safety_identifier",
    ]);
    let share = input.finish()?;
    let reply = start(&state, &context, Task::Draw { text, n, format }, options, share).await;
    // The service refuses a text by the name that it has in our own API.
    let outcome = reply.map_err(|error| error.renamed("text", "prompt"))?.finish().await?;
    let encode = |file: &[u8]| base64::engine::general_purpose::STANDARD.encode(file);
    let data = outcome.answers.into_iter().filter_map(|answer| {
        let drawing = answer.image?;
        Some(ImageDatum {
            b64_json: encode(&drawing.file),
            seed: answer.seed,
            synthetic: true,
        })
    });
    let notice = Notice::of(state.assistant.card());
    Ok(Json(ImagesResponse {
        created: now(),
        data: data.collect(),
        output_format: format_name(format).to_owned(),
        size: own_size,
        disclaimer: notice.disclaimer,
        warning: notice.warning,
    }))
}
