//! From a reply of the service to a response: whole, or as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use serde::Serialize;

use super::access::track::RequestContext;
use super::envelope::Envelope;
use super::error::ApiError;
use super::state::AppState;
use super::wire::{DeltaEvent, DrawnImage, ErrorBody, FindingAgreement, ProgressEvent, ReadingsUsed};
use crate::engine::FinishReason;
use crate::radiograph::ImageFormat;
use crate::service::{Drawing, FindingShare, Outcome, Reply, ServiceError, Update};

/// An event, or why its data is none.
pub type EventResult = Result<Event, axum::Error>;

/// A comment is sent so often when there is nothing else to say, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The whole answer as JSON, or its pieces as events and then the same JSON as the event `done`.
pub async fn deliver<T, F>(
    state: AppState,
    context: RequestContext,
    reply: Reply,
    streamed: bool,
    shape: F,
) -> Result<Response, ApiError>
where
    T: Serialize + Send + 'static,
    F: FnOnce(Envelope, Outcome) -> T + Send + 'static,
{
    let id = Arc::clone(&context.id);
    let shape = move |outcome: Outcome| shape(Envelope::of(&id, state.assistant.card(), &outcome), outcome);
    if !streamed {
        return Ok(Json(shape(reply.finish().await?)).into_response());
    }
    let mut shape = Some(shape);
    let events = events(context, reply, move |update| match update {
        Ok(Update::Text { index, text }) => Some(event("delta", &DeltaEvent { index, text })),
        Ok(Update::Codes { index, done, total }) => Some(event(
            "progress",
            &ProgressEvent {
                index,
                codes_done: done,
                codes_total: total,
            },
        )),
        Ok(Update::Done(outcome)) => shape.take().map(|shape| event("done", &shape(*outcome))),
        Err(error) => Some(event("error", &error)),
    });
    Ok(sse(events))
}

/// Events as a response.
pub fn sse(events: impl Stream<Item = EventResult> + Send + 'static) -> Response {
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    // Proxies that buffer would hold the stream back.
    response
        .headers_mut()
        .insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

/// A reply as a stream of events: those that `shape` makes of each update, and of the error that may end it.
pub fn events<I>(
    context: RequestContext,
    reply: Reply,
    mut shape: impl FnMut(Result<Update, ErrorBody>) -> I,
) -> impl Stream<Item = EventResult>
where
    I: IntoIterator<Item = EventResult>,
{
    let updates = stream::unfold(reply, |mut reply| async move { Some((reply.next().await?, reply)) });
    updates.flat_map(move |update| {
        let update = update.map_err(|error| noted(&context, error).body(&context.id));
        stream::iter(shape(update))
    })
}

/// The error as clients see it, noted for log and meters; what the engine said of it is logged.
fn noted(context: &RequestContext, error: ServiceError) -> ApiError {
    let error = ApiError::from(error);
    context.note(error.code);
    error
}

/// One event with JSON data.
fn event(name: &str, data: &impl Serialize) -> EventResult {
    Event::default().event(name).json_data(data)
}

/// Why a reply ended, as the API words it: `stop` or `length`.
pub fn finish_reason(reason: FinishReason) -> String {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
    .to_owned()
}

/// What is unusual about the image that was sent, in sentences; where nothing is, `None`.
pub fn image_notes(outcome: &Outcome) -> Option<Vec<String>> {
    let notes = outcome.image_notes.iter().map(ToString::to_string);
    Some(notes.collect()).filter(|notes: &Vec<String>| !notes.is_empty())
}

/// `png` or `jpeg`.
pub fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpeg",
    }
}

impl ReadingsUsed {
    /// What the readings of a report say together, where there were several.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let told = outcome.consensus.first()?;
        let agreement = |one: &FindingShare| FindingAgreement {
            finding: one.finding.to_owned(),
            share: one.share,
            reported: one.reported,
        };
        Some(Self {
            count: told.readings,
            chosen: told.chosen,
            findings: told.findings.iter().map(agreement).collect(),
        })
    }
}

/// A drawing as JSON.
pub fn drawn(index: usize, seed: u64, reason: FinishReason, drawing: &Drawing) -> DrawnImage {
    use base64::Engine as _;
    DrawnImage {
        index,
        seed,
        format: format_name(drawing.format).to_owned(),
        mime_type: drawing.format.media_type().to_owned(),
        data: base64::engine::general_purpose::STANDARD.encode(&drawing.file),
        width: drawing.width,
        height: drawing.height,
        synthetic: true,
        finish_reason: finish_reason(reason),
    }
}
