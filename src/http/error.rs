//! Errors of the API: one shape, one table of codes, one mapping from what can go wrong below.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::wire::{ErrorBody, ErrorDetail};
use crate::engine::{EngineError, whole_seconds};
use crate::radiograph::{DicomError, RadiographError};
use crate::service::ServiceError;

/// Declares the codes once: name, spelling, status, type and meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $kind:ident;)*) => {
        /// What went wrong, as programs read it. `docs/errors.md` is this table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in `error.code`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The status it is answered with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The family it belongs to.
            pub fn kind(self) -> ErrorKind {
                match self { $(Self::$name => ErrorKind::$kind,)* }
            }
        }
    };
}

codes! {
    /// A request over HTTP/1.1 without the header `Host`, or one with several.
    InvalidHost = "invalid_host", BAD_REQUEST, InvalidRequest;
    /// The body has no bytes.
    EmptyBody = "empty_body", BAD_REQUEST, InvalidRequest;
    /// The body broke off before its end, or its chunks break their format.
    BodyIncomplete = "body_incomplete", BAD_REQUEST, InvalidRequest;
    /// The body is not JSON, or not a JSON object.
    InvalidJson = "invalid_json", BAD_REQUEST, InvalidRequest;
    /// A text is not UTF-8.
    InvalidUtf8 = "invalid_utf8", BAD_REQUEST, InvalidRequest;
    /// The multipart body breaks its format.
    InvalidMultipart = "invalid_multipart", BAD_REQUEST, InvalidRequest;
    /// A field that must be there is not.
    MissingField = "missing_field", BAD_REQUEST, InvalidRequest;
    /// There is no field of this name.
    UnknownField = "unknown_field", BAD_REQUEST, InvalidRequest;
    /// A field has the wrong type.
    InvalidField = "invalid_field", BAD_REQUEST, InvalidRequest;
    /// Two fields contradict each other.
    ConflictingFields = "conflicting_fields", BAD_REQUEST, InvalidRequest;
    /// A value is out of its range.
    InvalidParameter = "invalid_parameter", BAD_REQUEST, InvalidRequest;
    /// A field of the OpenAI API that this server cannot honour.
    UnsupportedParameter = "unsupported_parameter", BAD_REQUEST, InvalidRequest;
    /// A text is longer than any context could hold.
    TextTooLong = "text_too_long", BAD_REQUEST, InvalidRequest;
    /// Prompt and reply do not fit the model's context.
    ContextExceeded = "context_exceeded", BAD_REQUEST, InvalidRequest;
    /// The work can never run, whatever the load.
    Unacceptable = "unacceptable", BAD_REQUEST, InvalidRequest;
    /// The image is not valid base64.
    InvalidBase64 = "invalid_base64", BAD_REQUEST, InvalidRequest;
    /// The image is a URL; nothing is ever fetched.
    RemoteUrlRefused = "remote_url_refused", BAD_REQUEST, InvalidRequest;
    /// The image has no bytes.
    EmptyImage = "empty_image", BAD_REQUEST, InvalidRequest;
    /// The image is neither PNG nor JPEG nor DICOM.
    UnknownImageFormat = "unknown_image_format", BAD_REQUEST, InvalidRequest;
    /// The image file is damaged or ends too early.
    CorruptImage = "corrupt_image", BAD_REQUEST, InvalidRequest;
    /// The image file is of a kind that is not read.
    UnsupportedImage = "unsupported_image", BAD_REQUEST, InvalidRequest;
    /// No API key came with the request.
    MissingApiKey = "missing_api_key", UNAUTHORIZED, Authentication;
    /// The API key is not known.
    InvalidApiKey = "invalid_api_key", UNAUTHORIZED, Authentication;
    /// There is no such path.
    NotFound = "not_found", NOT_FOUND, InvalidRequest;
    /// There is no such model.
    ModelNotFound = "model_not_found", NOT_FOUND, InvalidRequest;
    /// The path does not take this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, InvalidRequest;
    /// The answer cannot have the form that `Accept` asks for.
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, InvalidRequest;
    /// The body did not come in time.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, InvalidRequest;
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, InvalidRequest;
    /// The image file or its pixels are more than the limit.
    ImageTooLarge = "image_too_large", PAYLOAD_TOO_LARGE, InvalidRequest;
    /// The body's content type is not taken here.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, InvalidRequest;
    /// The DICOM file's pixels are in a transfer syntax that is not read, or this server reads no DICOM files.
    DicomNotSupported = "dicom_not_supported", UNSUPPORTED_MEDIA_TYPE, InvalidRequest;
    /// Without constraint the model ended without a whole image.
    NoImage = "no_image", UNPROCESSABLE_ENTITY, InvalidRequest;
    /// The queue is full, or the API key's share of it.
    QueueFull = "queue_full", TOO_MANY_REQUESTS, RateLimit;
    /// Too many bodies are being read at the same time, or too many of the API key.
    TooManyBodies = "too_many_bodies", TOO_MANY_REQUESTS, RateLimit;
    /// Too many connections are open.
    TooManyConnections = "too_many_connections", TOO_MANY_REQUESTS, RateLimit;
    /// A fault of the server; warnings and errors in its log that belong to the request have its id.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, Server;
    /// The model failed on this batch; the request can be sent again.
    ModelFailed = "model_failed", INTERNAL_SERVER_ERROR, Server;
    /// The model is still being loaded.
    Loading = "loading", SERVICE_UNAVAILABLE, Server;
    /// The server is shutting down.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, Server;
    /// The device has not answered for too long.
    Stalled = "stalled", SERVICE_UNAVAILABLE, Server;
    /// The engine has ended; the process is about to exit.
    EngineStopped = "engine_stopped", SERVICE_UNAVAILABLE, Server;
    /// The answer was not complete in time.
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, Server;
}

/// The family of an error, in the words of the OpenAI API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request must be changed.
    InvalidRequest,
    /// A key is missing or wrong.
    Authentication,
    /// Try again later.
    RateLimit,
    /// Not the client's doing.
    Server,
}

impl ErrorKind {
    /// As it stands in `error.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::RateLimit => "rate_limit_error",
            Self::Server => "server_error",
        }
    }
}

/// An error as a client gets it. Its message is a sentence that says what to do, and holds nothing of what was sent
/// but the names of fields.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// What went wrong.
    pub code: ErrorCode,
    /// What to do.
    pub message: Cow<'static, str>,
    /// The field it is about.
    pub param: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Whether the client has hung up, so that nobody will read this.
    pub client_left: bool,
}

impl ApiError {
    /// An error about the request as a whole.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            client_left: false,
        }
    }

    /// An error about one field.
    pub fn about(code: ErrorCode, param: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(code, message)
        }
    }

    /// The same error for a route where the field `from` is called `to`. An error about another field stays as it is.
    #[must_use]
    pub fn renamed(self, from: &str, to: &str) -> Self {
        if self.param.as_deref() != Some(from) {
            return self;
        }
        let message = self.message.replace(&format!("`{from}`"), &format!("`{to}`"));
        Self {
            message: message.into(),
            param: Some(to.to_owned()),
            ..self
        }
    }

    /// The body that tells of it.
    pub fn body(&self, request_id: &str) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code.as_str().to_owned(),
                message: self.message.clone().into_owned(),
                param: self.param.clone(),
                kind: self.code.kind().as_str().to_owned(),
                request_id: request_id.to_owned(),
            },
        }
    }

    /// The whole response.
    pub fn respond(&self, request_id: &str) -> Response {
        let mut response = (self.code.status(), Json(self.body(request_id))).into_response();
        let headers = response.headers_mut();
        let wait = match self.code.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some(self.retry_after.unwrap_or(Duration::from_secs(1)))
            }
            _ => self.retry_after,
        };
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Official clients of the OpenAI API would ask three times, and each time wait as long.
        if self.code == ErrorCode::DeadlineExceeded {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// The response without a request id; the outermost layer finds the error in the extensions and adds it.
    fn into_response(self) -> Response {
        let mut response = self.respond("");
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = sentence(&error.to_string());
        match error {
            ServiceError::Parameter { param, .. } => Self::about(ErrorCode::InvalidParameter, param, message),
            ServiceError::TextTooLong { param, .. } => Self::about(ErrorCode::TextTooLong, param, message),
            ServiceError::Image(error) => error.into(),
            ServiceError::Dicom(error) => error.into(),
            ServiceError::DicomOff => Self::about(ErrorCode::DicomNotSupported, "image", message),
            ServiceError::Engine(error) => error.into(),
            ServiceError::NoRoomToDraw { .. } => Self::about(ErrorCode::ContextExceeded, "text", message),
            ServiceError::NoRoomToReply { param, .. } => Self::about(ErrorCode::ContextExceeded, param, message),
            ServiceError::NoImage => Self::new(ErrorCode::NoImage, message),
            ServiceError::Worker => Self::new(
                ErrorCode::Internal,
                "The request could not be worked on; send it again.",
            ),
        }
    }
}

impl From<RadiographError> for ApiError {
    fn from(error: RadiographError) -> Self {
        let code = match error {
            RadiographError::Empty => ErrorCode::EmptyImage,
            RadiographError::UnknownFormat | RadiographError::NoDicomHeader => ErrorCode::UnknownImageFormat,
            RadiographError::TooLarge { .. } | RadiographError::TooManyPixels { .. } => ErrorCode::ImageTooLarge,
            RadiographError::Corrupt { .. } => ErrorCode::CorruptImage,
            RadiographError::Unsupported { .. } | RadiographError::OneLevel => ErrorCode::UnsupportedImage,
            RadiographError::Unwritable { .. } => ErrorCode::Internal,
        };
        Self::about(code, "image", error.to_string())
    }
}

impl From<DicomError> for ApiError {
    fn from(error: DicomError) -> Self {
        let code = match error {
            DicomError::Limits(error) => return error.into(),
            DicomError::Attributes | DicomError::Lacks(_) | DicomError::Pixels => ErrorCode::CorruptImage,
            DicomError::NoPixels | DicomError::Exhausted => ErrorCode::UnsupportedImage,
            DicomError::Syntax(_) | DicomError::Form(_) | DicomError::Depth(_) => ErrorCode::DicomNotSupported,
        };
        Self::about(code, "image", sentence(&error.to_string()))
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = sentence(&error.to_string());
        match error {
            EngineError::QueueFull { retry_after } => Self {
                retry_after: Some(retry_after),
                ..Self::new(ErrorCode::QueueFull, message)
            },
            EngineError::ShareHeld { jobs, retry_after } => {
                let seconds = whole_seconds(retry_after);
                let message = format!(
                    "This API key holds its share of the queue (waiting: {jobs}), and what is left is kept for other keys; wait for \
                     some of them, or try again in {seconds} s."
                );
                Self {
                    retry_after: Some(retry_after),
                    ..Self::new(ErrorCode::QueueFull, message)
                }
            }
            EngineError::Loading => Self::new(ErrorCode::Loading, "The model is still loading; try again in a moment."),
            EngineError::ShuttingDown => Self::new(
                ErrorCode::ShuttingDown,
                "The server is shutting down; send the request to another one.",
            ),
            EngineError::ContextExceeded { prompt, context, .. } if prompt >= context => {
                Self::new(ErrorCode::ContextExceeded, format!("{message} Send a shorter text."))
            }
            EngineError::ContextExceeded { .. } => {
                let hint = "Send a shorter text or a smaller `max_tokens`.";
                Self::about(ErrorCode::ContextExceeded, "max_tokens", format!("{message} {hint}"))
            }
            EngineError::Unacceptable(_) => Self::new(ErrorCode::Unacceptable, message),
            EngineError::DeadlineExceeded => Self::new(
                ErrorCode::DeadlineExceeded,
                "The answer was not complete in time; ask for less, or send the request again when there is less load.",
            ),
            // What the device said is for the log, not for clients.
            EngineError::Step(_) => Self::new(
                ErrorCode::ModelFailed,
                "The model failed on this batch; send the request again.",
            ),
            EngineError::Load(_) | EngineError::Stopped => Self::new(
                ErrorCode::EngineStopped,
                "The model is not running; the server is about to restart.",
            ),
            EngineError::Stalled => Self::new(ErrorCode::Stalled, message),
        }
    }
}

/// The words with a capital first letter and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.trim_end_matches('.').chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).chain(['.']).collect()
}
