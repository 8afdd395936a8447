//! From a reply of the service to a response: whole, or as server-sent events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Serialize;

use super::error::{ApiError, ErrorCode};
use super::track::RequestContext;
use super::wire::{
    DeltaEvent, DrawnImage, FindingAgreement, ModelRef, ProgressEvent, ReadingsUsed, SamplingUsed, TimingMs, TokenUsage,
};
use crate::engine::FinishReason;
use crate::radiograph::ImageFormat;
use crate::service::{Drawing, FindingShare, ModelCard, Outcome, Phases, Reply, ServiceError, Update, Usage};

/// A comment is sent so often when there is nothing else to say, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The whole answer as JSON, or its pieces as events and then the same JSON as the event `done`.
pub async fn deliver<T, F>(
    context: RequestContext,
    reply: Reply,
    streamed: bool,
    shape: F,
) -> Result<Response, ApiError>
where
    T: Serialize + Send + 'static,
    F: FnOnce(Outcome) -> T + Send + 'static,
{
    if !streamed {
        return Ok(Json(shape(reply.finish().await?)).into_response());
    }
    let mut shape = Some(shape);
    let events = events(context, reply, move |update| match update {
        Update::Text { index, text } => Some(event("delta", &DeltaEvent { index, text })),
        Update::Codes { index, done, total } => Some(event(
            "progress",
            &ProgressEvent {
                index,
                codes_done: done,
                codes_total: total,
            },
        )),
        Update::Image { .. } => None,
        Update::Done(outcome) => shape.take().map(|shape| event("done", &shape(*outcome))),
    });
    Ok(sse(events))
}

/// Events as a response.
pub fn sse(events: impl Stream<Item = Result<Event, axum::Error>> + Send + 'static) -> Response {
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    // Proxies that buffer would hold the stream back.
    response
        .headers_mut()
        .insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

/// A reply as a stream of events; an error becomes the event `error` and ends it.
fn events<F>(context: RequestContext, reply: Reply, shape: F) -> impl Stream<Item = Result<Event, axum::Error>>
where
    F: FnMut(Update) -> Option<Result<Event, axum::Error>>,
{
    stream::unfold((reply, shape, context), |(mut reply, mut shape, context)| async move {
        loop {
            let event = match reply.next().await? {
                Ok(update) => shape(update),
                Err(error) => Some(event("error", &noted(&context, error).body(&context.id))),
            };
            if let Some(event) = event {
                return Some((event, (reply, shape, context)));
            }
        }
    })
}

/// The error as clients see it, noted for log and meters; what the engine said of it is logged.
pub fn noted(context: &RequestContext, error: ServiceError) -> ApiError {
    let error = ApiError::from(error);
    context.note(error.code);
    error
}

/// One event with JSON data.
pub fn event(name: &str, data: &impl Serialize) -> Result<Event, axum::Error> {
    Event::default().event(name).json_data(data)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// Why a reply ended, as the API words it: `stop` or `length`.
pub fn finish_reason(reason: FinishReason) -> String {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
    .to_owned()
}

/// `png` or `jpeg`.
pub fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "png",
        ImageFormat::Jpeg => "jpeg",
    }
}

/// A decimal number as a person would write it: 0.92, not the 0.9200000166893005 that a widened f32 prints.
pub fn plain(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

impl From<&crate::engine::Sampling> for SamplingUsed {
    fn from(used: &crate::engine::Sampling) -> Self {
        Self {
            temperature: plain(used.temperature),
            top_p: plain(used.top_p),
            top_k: used.top_k,
            seed: used.seed,
            guidance: (used.guidance != 1.0).then(|| plain(used.guidance)),
        }
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

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let Usage {
            prompt_tokens,
            image_tokens,
            completion_tokens,
        } = usage;
        Self {
            prompt_tokens,
            image_tokens,
            completion_tokens,
        }
    }
}

impl From<Phases> for TimingMs {
    fn from(phases: Phases) -> Self {
        // Microseconds are enough.
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        Self {
            preprocess: ms(phases.preprocess),
            queue: ms(phases.queue),
            encode: ms(phases.encode),
            prefill: ms(phases.prefill),
            decode: ms(phases.decode),
            draw: ms(phases.draw),
            total: ms(phases.total),
        }
    }
}

impl From<&ModelCard> for ModelRef {
    fn from(card: &ModelCard) -> Self {
        Self {
            name: card.name.clone(),
            revision: card.revision.clone(),
            trained: card.trained,
        }
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

/// Parts that `include` may add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Include {
    /// `token_ids`.
    pub token_ids: bool,
    /// `codes`.
    pub codes: bool,
    /// `probabilities`.
    pub probabilities: bool,
}

impl Include {
    /// Reads the field `include` of a route that knows `token_ids` and `codes`.
    pub fn take(fields: &mut super::fields::Fields) -> Result<Self, ApiError> {
        Self::take_of(fields, &["token_ids", "codes"])
    }

    /// Reads the field `include` of a route that knows `probabilities` too.
    pub fn take_with_probabilities(fields: &mut super::fields::Fields) -> Result<Self, ApiError> {
        Self::take_of(fields, &["token_ids", "codes", "probabilities"])
    }

    fn take_of(fields: &mut super::fields::Fields, known: &[&str]) -> Result<Self, ApiError> {
        let mut include = Self::default();
        for word in fields.texts("include", true)?.unwrap_or_default() {
            match word.as_str() {
                "token_ids" => include.token_ids = true,
                "codes" => include.codes = true,
                "probabilities" if known.contains(&"probabilities") => include.probabilities = true,
                _ => {
                    let message = format!("`include` takes {} here.", known.join(", "));
                    return Err(ApiError::about(ErrorCode::InvalidParameter, "include", message));
                }
            }
        }
        Ok(include)
    }

    /// Whether anything is to be added.
    pub fn any(self) -> bool {
        self.token_ids || self.codes || self.probabilities
    }
}
