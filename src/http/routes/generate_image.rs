//! `POST /v1/generate-image`

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::options::{Include, take_constraint, take_format, take_options};
use super::start;
use crate::http::access::track::RequestContext;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::input::Input;
use crate::http::respond::{deliver, drawn};
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, GenerateImageRequest, GenerateImageResponse};
use crate::radiograph::ImageFormat;
use crate::service::{Outcome, Task};

/// Draw chest X-rays from a text
///
/// Samples by default, with the bundle's temperature, top_p and guidance; the seed and what was used are returned. With
/// `Accept: image/png` or `image/jpeg` the answer is the image itself, with the headers `x-synthetic`, `x-seed` and `x-disclaimer`; where
/// `Accept` takes both (`image/*`), `format` decides. With `stream` the answer comes as server-sent events: `progress` (`ProgressEvent`, whose
/// `index` is the image's place, from 0), then `done` with this same JSON, or `error` (`ErrorBody`). The images show no patient, and say so in
/// their metadata.
#[utoipa::path(
    post, path = "/v1/generate-image", tag = "product", operation_id = "generateImage",
    request_body = GenerateImageRequest,
    responses(
        (status = 200, description = "The images.", content(
            (GenerateImageResponse = "application/json"),
            (Vec<u8> = "image/png"),
            (Vec<u8> = "image/jpeg"),
        )),
        (status = "4XX", description = "What to change.", body = ErrorBody),
        (status = "5XX", description = "Not the client's doing.", body = ErrorBody),
    )
)]
pub async fn generate_image(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<Response, ApiError> {
    let wanted = Wanted::of(request.headers())?;
    let mut input = Input::fields_only(&state.bodies, request).await?;
    let fields = &mut input.fields;
    let text = fields.required_text("text")?;
    let n = fields.count("n")?.unwrap_or(1);
    let format = take_format(fields, "format")?;
    let bytes_as = wanted.with(format);
    let mut options = take_options(fields)?;
    options.constraint = take_constraint(fields)?;
    options.guidance = fields.number("guidance")?;
    let streamed = fields.flag("stream")?;
    let include = Include::take(fields)?;
    let share = input.finish()?;
    if let Some(kind) = bytes_as {
        let conflict = |param: &str, message| Err(ApiError::about(ErrorCode::ConflictingFields, param, message));
        if n != 1 {
            return conflict(
                "n",
                "One image at a time is sent as bytes; leave `n` out, or ask for JSON.",
            );
        }
        if streamed {
            return conflict(
                "stream",
                "An image that is sent as bytes is not streamed; leave `stream` out, or ask for JSON.",
            );
        }
        if include.any() {
            return conflict(
                "include",
                "An image that is sent as bytes holds nothing else; leave `include` out, or ask for JSON.",
            );
        }
        if format.is_some_and(|format| format != kind) {
            return conflict("format", "`format` and the header Accept ask for different things.");
        }
    }
    let format = bytes_as.or(format).unwrap_or(ImageFormat::Png);
    let reply = start(&state, &context, Task::Draw { text, n, format }, options, share).await?;
    if bytes_as.is_some() {
        return Ok(as_bytes(reply.finish().await?, state.assistant.card().warning()));
    }
    deliver(state, context, reply, streamed, move |envelope, outcome| {
        let mut response = GenerateImageResponse {
            id: envelope.id,
            object: "image_generation".to_owned(),
            created: envelope.created,
            model: envelope.model,
            images: Vec::new(),
            sampling: envelope.sampling,
            usage: envelope.usage,
            timing_ms: envelope.timing_ms,
            disclaimer: envelope.notice.disclaimer,
            warning: envelope.notice.warning,
            token_ids: include.token_ids.then(Vec::new),
            codes: include.codes.then(Vec::new),
        };
        for (index, answer) in outcome.answers.into_iter().enumerate() {
            if let Some(list) = &mut response.token_ids {
                list.push(answer.token_ids);
            }
            if let Some(drawing) = answer.image {
                response.images.push(drawn(index, answer.seed, answer.finish, &drawing));
                if let Some(list) = &mut response.codes {
                    list.push(drawing.codes);
                }
            }
        }
        response
    })
    .await
}

/// What the header `Accept` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// The image itself in this format, if no other is named; `None` for JSON.
    bytes_as: Option<ImageFormat>,
    /// Whether it takes PNG, and JPEG.
    takes: [bool; 2],
}

impl Wanted {
    /// Of several types the one with the highest `q` counts, the first of equals; a narrower type outweighs a wider one.
    ///
    /// # Errors
    /// 406 where nothing that this route gives is asked for.
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let lines = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let asked: Vec<(String, f32)> = lines.flat_map(|line| line.split(',')).map(media_type).collect();
        if asked.is_empty() {
            return Ok(Self::default());
        }
        let takes = [ImageFormat::Png, ImageFormat::Jpeg].map(|format| takes(&asked, format));
        let of_any = match takes {
            [false, true] => ImageFormat::Jpeg,
            _ => ImageFormat::Png,
        };
        let mut best: Option<(f32, Option<ImageFormat>)> = None;
        for (name, quality) in &asked {
            let format = match name.as_str() {
                "image/*" => Some(of_any),
                "image/png" => Some(ImageFormat::Png),
                "image/jpeg" | "image/jpg" => Some(ImageFormat::Jpeg),
                "*/*" | "application/*" | "application/json" | "text/event-stream" | "" => None,
                _ => continue,
            };
            if *quality > 0.0 && best.is_none_or(|(highest, _)| *quality > highest) {
                best = Some((*quality, format));
            }
        }
        let Some((_, bytes_as)) = best else {
            let message = "The answer is application/json, image/png or image/jpeg; ask for one of these with Accept.";
            return Err(ApiError::new(ErrorCode::NotAcceptable, message));
        };
        Ok(Self { bytes_as, takes })
    }

    /// The format of the image itself where the field `format` says `format`; `None` for JSON.
    fn with(self, format: Option<ImageFormat>) -> Option<ImageFormat> {
        let [png, jpeg] = self.takes;
        let own = format.filter(|format| match format {
            ImageFormat::Png => png,
            ImageFormat::Jpeg => jpeg,
        });
        self.bytes_as.map(|usual| own.unwrap_or(usual))
    }
}

/// One entry of `Accept`: the type in small letters, and its `q`.
fn media_type(entry: &str) -> (String, f32) {
    let mut parts = entry.split(';').map(|part| part.trim().to_ascii_lowercase());
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
    (name, quality.unwrap_or(1.0))
}

/// Whether an image of this format is among what is asked for.
fn takes(asked: &[(String, f32)], format: ImageFormat) -> bool {
    let names: &[&str] = match format {
        ImageFormat::Png => &["image/png"],
        ImageFormat::Jpeg => &["image/jpeg", "image/jpg"],
    };
    let of = |names: &[&str]| asked.iter().find(|(name, _)| names.contains(&name.as_str()));
    let entry = of(names).or_else(|| of(&["image/*"])).or_else(|| of(&["*/*"]));
    entry.is_some_and(|(_, quality)| *quality > 0.0)
}

/// The image itself, with what must be said of it in headers.
fn as_bytes(outcome: Outcome, warning: Option<&str>) -> Response {
    let Some((seed, drawing)) = outcome
        .answers
        .into_iter()
        .find_map(|a| a.image.map(|drawing| (a.seed, drawing)))
    else {
        return ApiError::from(crate::service::ServiceError::NoImage).into_response();
    };
    let mut response = drawing.file.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(drawing.format.media_type()));
    headers.insert("x-synthetic", HeaderValue::from_static("true"));
    headers.insert("x-seed", HeaderValue::from(seed));
    headers.insert("x-disclaimer", HeaderValue::from_static(crate::RESEARCH_NOTICE));
    if let Some(warning) = warning.and_then(in_a_header) {
        headers.insert("x-warning", warning);
    }
    response
}

/// A bundle's own words on one line: breaks and the like cannot be sent, and the words must be.
fn in_a_header(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.replace(char::is_control, " ").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_of_several_lines_goes_into_a_header_as_one() {
        let value = in_a_header("It misses\nsmall\u{7f}findings; für Forschung.").expect("a header");
        assert_eq!(value.as_bytes(), "It misses small findings; für Forschung.".as_bytes());
    }
}
