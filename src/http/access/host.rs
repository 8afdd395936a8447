//! The header `Host`. By RFC 9112, 3.2, a request with several is refused, and one over HTTP/1.1 with none: a proxy in front could read another host
//! than the server does.

use axum::extract::Request;
use axum::http::Version;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::peer::Peer;
use crate::http::error::{ApiError, ErrorCode};

/// The layer. What came by no connection, as from a test that calls the router itself, need not say for which host it is.
pub async fn ask_for_host(request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(HOST).iter().count();
    let sound = match request.version() {
        Version::HTTP_11 => hosts == 1,
        // HTTP/1.0 asks for none, and HTTP/2 has a field of its own for it.
        _ => hosts <= 1,
    };
    if sound || request.extensions().get::<Peer>().is_none() {
        return next.run(request).await;
    }
    let message = "A request over HTTP/1.1 has one header `Host`, no more and no fewer; send it so.";
    ApiError::new(ErrorCode::InvalidHost, message).into_response()
}
