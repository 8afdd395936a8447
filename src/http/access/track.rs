//! The outermost layer: gives every request an id, counts it in, turns whatever went wrong into the one error shape, and writes the
//! one line of log. It sees routes, methods, statuses, times, codes and addresses; never texts, images or query strings.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::display;
use tracing::{Instrument as _, Level};

use super::peer::{self, Peer};
use super::trace;
use crate::engine::Caller;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::metrics;
use crate::http::port::life::UnderWay;
use crate::http::port::watched::{Watch, watched};
use crate::http::state::AppState;
use crate::service::Ledger;

/// What stands for the status where the client left before there was an answer: as nginx writes it.
const CLIENT_LEFT: u16 = 499;

/// The header that carries request ids.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, the key that let it in, how far the work on it has come, and the error it ended with if that came after its head
/// had been sent.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The id.
    pub id: Arc<str>,
    /// How far the work on it has come.
    pub ledger: Ledger,
    /// Our own id for it where the client has brought one, which others may use, too.
    server_id: Option<Arc<str>>,
    key: Arc<OnceLock<(String, Caller)>>,
    error: Arc<OnceLock<ErrorCode>>,
}

impl RequestContext {
    /// Takes the client's id if it is a plain short word, else makes one.
    fn new(headers: &HeaderMap) -> Self {
        let plain = |id: &&str| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let sent = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(plain);
        let made: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        let (id, server_id) = match sent {
            Some(sent) => (Arc::<str>::from(sent), Some(made)),
            None => (made, None),
        };
        Self {
            id,
            ledger: Ledger::default(),
            server_id,
            key: Arc::default(),
            error: Arc::default(),
        }
    }

    /// Notes the key that let the request in, by the name that the log has for it, and whose load the request is.
    pub fn admitted(&self, key: String, caller: Caller) {
        // Nobody asks twice.
        let _ = self.key.set((key, caller));
    }

    /// Whose load the request is.
    pub fn caller(&self) -> Caller {
        self.key.get().map_or(Caller::ONLY, |(_, caller)| *caller)
    }

    /// Notes an error for log and meters. The first one counts.
    pub fn note(&self, code: ErrorCode) {
        if self.error.set(code).is_ok() {
            metrics::error(code);
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(|| Self::new(&parts.headers)))
    }
}

/// The layer.
pub async fn track(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let context = RequestContext::new(request.headers());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    let method = known(request.method());
    // Probes must not keep a draining server alive.
    let counted = !matches!(route.as_str(), "/livez" | "/readyz" | "/metrics");
    // What is logged while the request is handled carries its id. A target of its own, which every filter lets in (see `config::log_filter`).
    let (request_id, server_id) = (&*context.id, context.server_id.as_deref());
    let span = tracing::error_span!(target: "llm_cxr::request", "request", request_id, server_id);
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let forwarded_for = peer.and_then(|peer| peer::forwarded_for(request.headers(), peer, &state.trusted_proxies));
    let trace_id = trace::trace_id(request.headers()).map(str::to_owned);
    let length = request.headers().get(CONTENT_LENGTH);
    let request_bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let under_way = counted.then(|| state.life.enter());
    metrics::under_way(state.life.under_way());
    request.extensions_mut().insert(context.clone());
    // Made before there is an answer: where the client leaves first, this future is dropped, and the account with it.
    let mut account = Account {
        state,
        context,
        route,
        method,
        peer,
        forwarded_for,
        trace_id,
        request_bytes,
        status: None,
        begun,
        ended: false,
        under_way,
    };
    let response = next.run(request).instrument(span).await;
    let left = response.extensions().get::<ApiError>().is_some_and(|e| e.client_left);
    let mut response = in_one_shape(response, &account.context);
    if let Ok(id) = HeaderValue::from_str(&account.context.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if account.state.life.is_draining() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // Who left in the middle of the body gets no answer.
    account.status = (!left).then(|| response.status());
    // Nobody asks for the body of an answer to HEAD.
    account.ended = account.method == "HEAD";
    response.map(|body| watched(body, account))
}

/// Milliseconds, to a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The method's name, if it is one that is common: clients may make up others, and labels must stay few.
fn known(method: &Method) -> &'static str {
    let common = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    common
        .into_iter()
        .find(|name| *name == method.as_str())
        .unwrap_or("other")
}

/// Gives errors their request id, and errors from outside our own code (routing, panics) our shape. Other headers stay.
fn in_one_shape(mut response: Response, context: &RequestContext) -> Response {
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        // Axum adds the header after this layer.
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            ErrorCode::MethodNotAllowed,
            "This path takes other methods; the header `Allow` names them.",
        ),
        None if response.status().is_client_error() || response.status().is_server_error() => ApiError::new(
            ErrorCode::Internal,
            "Something went wrong in the server; send the request again.",
        ),
        None => return response,
    };
    // What nobody reads was told to nobody.
    if !error.client_left {
        context.note(error.code);
    }
    let (told, body) = error.respond(&context.id).into_parts();
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().extend(told.headers);
    *response.status_mut() = told.status;
    *response.body_mut() = body;
    response
}

/// What is known of a request. It is logged and counted when its answer has been handed over, or its client has left.
struct Account {
    state: AppState,
    context: RequestContext,
    route: String,
    method: &'static str,
    /// Where its connection comes from; nowhere, where a test calls the router itself.
    peer: Option<IpAddr>,
    /// Whom a trusted proxy speaks for.
    forwarded_for: Option<IpAddr>,
    /// The trace that it says to be part of.
    trace_id: Option<String>,
    /// Length of its body, where its head tells.
    request_bytes: Option<u64>,
    /// `None` while there is no answer that the client could get.
    status: Option<StatusCode>,
    begun: Instant,
    /// Whether the client got all of it.
    ended: bool,
    /// Where it counts among those that are under way.
    under_way: Option<UnderWay>,
}

impl Drop for Account {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        metrics::request(&self.route, self.method, status, took);
        metrics::under_way(
            self.state
                .life
                .under_way()
                .saturating_sub(usize::from(self.under_way.is_some())),
        );
        let (id, route, method) = (&*self.context.id, self.route.as_str(), self.method);
        let server_id = self.context.server_id.as_deref();
        let (peer, forwarded_for) = (self.peer.map(display), self.forwarded_for.map(display));
        let key = self.context.key.get().map(|(name, _)| name.as_str());
        let error = self.context.error.get().map(|code| code.as_str());
        let client_left = self.status.is_none() || !self.ended;
        let (trace_id, request_bytes) = (self.trace_id.as_deref(), self.request_bytes);
        let work = self.context.ledger.entries();
        // The line, at a level that must be known when this is compiled.
        macro_rules! tell {
            ($level:expr) => {
                tracing::event!(
                    target: "llm_cxr::access",
                    $level,
                    request_id = id,
                    server_id,
                    peer,
                    forwarded_for,
                    route,
                    method,
                    status,
                    latency_ms = milliseconds(took),
                    preprocess_ms = work.preprocess.map(milliseconds),
                    queue_ms = work.queue.map(milliseconds),
                    first_token_ms = work.first_token.map(milliseconds),
                    prompt_tokens = work.prompt_tokens,
                    generated_tokens = work.generated_tokens,
                    request_bytes,
                    trace_id,
                    error,
                    client_left,
                    key,
                    "request"
                )
            };
        }
        // Probes and scrapes come every few seconds; those that go well would be most of the log.
        let goes_without_saying =
            self.under_way.is_none() && !client_left && self.status.is_some_and(|status| status.is_success());
        match goes_without_saying {
            true => tell!(Level::DEBUG),
            false => tell!(Level::INFO),
        }
    }
}

impl Watch for Account {
    fn ended(&mut self) {
        self.ended = true;
    }
}
