//! What is left of a request's body when the request is refused before its body is read (no key, no such path, too large, too slow).
//!
//! A connection that is closed while a client still sends makes many clients report a broken pipe, and never look at the answer. So what
//! they still send is read and dropped, for a moment, before the answer goes out. Where that does not reach the end of the body, the answer
//! says that it is the connection's last: hyper closes it then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

use super::watched::{Watch, watched};

/// How long, and how much, is read of a body that nobody wants.
const MOMENT: Duration = Duration::from_secs(1);
const MOST: usize = 64 << 20;

/// The layer.
pub async fn read_leftover(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (version, waits) = (request.version(), request.headers().contains_key(EXPECT));
    let left = Arc::new(Mutex::new(Left::default()));
    let lent = Lent(Arc::clone(&left));
    let mut response = next.run(request.map(|body| watched(body, lent))).await;
    let Left { body, ended, broke } = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
    let unread = match body.filter(|body: &Body| !ended && !body.is_end_stream()) {
        // What comes after it on the connection is no request.
        _ if broke => true,
        None => false,
        // Whoever waits for a go-ahead sends nothing without one.
        Some(_) if waits => true,
        Some(body) => !tokio::time::timeout(MOMENT, drop_up_to(body, MOST))
            .await
            .unwrap_or(false),
    };
    // In HTTP/2 it is the stream alone that ends.
    if unread && version < Version::HTTP_2 {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether that was all of it.
async fn drop_up_to(mut body: Body, most: usize) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > most {
            return false;
        }
    }
    true
}

/// What there is to know of a body once its reader has dropped it.
#[derive(Default)]
struct Left {
    body: Option<Body>,
    /// Whether it was read to its end, which a body in chunks cannot say by itself.
    ended: bool,
    /// Whether it broke off.
    broke: bool,
}

/// Takes the body back when its reader drops it.
struct Lent(Arc<Mutex<Left>>);

impl Lent {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Lent {
    fn ended(&mut self) {
        self.left().ended = true;
    }

    fn broke(&mut self) {
        self.left().broke = true;
    }

    fn dropped(&mut self, body: Body) {
        self.left().body = Some(body);
    }
}
