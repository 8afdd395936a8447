//! What is left of a request's body when the request is refused before its body is read (no key, no such path, too large).
//!
//! A connection that is closed while a client still sends makes many clients report a broken pipe, and never look at the answer. So what
//! they still send is read and dropped, for a moment, before the answer goes out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

use super::watched::{Watch, watched};

/// How long, and how much, is read of a body that nobody wants.
const MOMENT: Duration = Duration::from_secs(1);
const MOST: usize = 64 << 20;

/// The layer.
pub async fn read_leftover(request: Request, next: Next) -> Response {
    // Whoever waits for a go-ahead sends nothing without one.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let left = Arc::new(Mutex::new(None));
    let lent = Lent(Arc::clone(&left));
    let response = next.run(request.map(|body| watched(body, lent))).await;
    let body = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = body.filter(|body: &Body| !body.is_end_stream()) {
        let _ = tokio::time::timeout(MOMENT, drop_up_to(body, MOST)).await;
    }
    response
}

async fn drop_up_to(mut body: Body, most: usize) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > most {
            break;
        }
    }
}

/// Takes the body back when its reader drops it.
struct Lent(Arc<Mutex<Option<Body>>>);

impl Watch for Lent {
    fn dropped(&mut self, body: Body) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}
