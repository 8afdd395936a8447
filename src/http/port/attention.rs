//! Clients that keep a connection and neither ask nor take.
//!
//! In HTTP/1 hyper bounds the wait for a head, and [`Timed`](super::timed) that for a write. In HTTP/2 a client that answers pings could keep
//! its connection for ever, and by granting no window leave its answers where they are while no write waits. So each connection knows which
//! of its requests are under way, and since when a piece of an answer waits to be taken.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, sleep_until};

use super::watched::{Watch, watched};
use crate::http::access::peer::Peer;

/// How long a connection of HTTP/1 is kept between requests. HTTP/2 has no such header.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What goes on in one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Attention(Arc<Mutex<Requests>>);

struct Requests {
    next: u64,
    /// Whether any of them came over HTTP/2.
    http2: bool,
    /// Since when each answer waits for the client to take more of it; `None` while it is the server that is waited for.
    under_way: BTreeMap<u64, Option<Instant>>,
    /// When the last one ended; at first, when the connection began.
    quiet_since: Instant,
}

impl Attention {
    /// Of a connection that begins now.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Requests {
            next: 0,
            http2: false,
            under_way: BTreeMap::new(),
            quiet_since: Instant::now(),
        })))
    }

    /// The router as the service of a connection from `peer`, with an eye on its requests. Answers tell that the connection is kept for `idle` between
    /// them.
    pub(super) fn over(
        &self,
        router: Router,
        idle: Duration,
        peer: Peer,
    ) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + use<> {
        let (attention, service) = (self.clone(), TowerToHyperService::new(router));
        // Rounded down: who comes a moment before that finds the connection open.
        let kept = HeaderValue::from_str(&format!("timeout={}", idle.as_secs())).ok();
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let mut asked = attention.asked(request.version());
            let goes_on = request.version() == Version::HTTP_11 && !is_last(request.headers());
            let kept = kept.clone().filter(|_| goes_on);
            let answer = service.call(request);
            async move {
                let mut answer = answer.await?;
                asked.passed();
                if let Some(kept) = kept.filter(|_| !is_last(answer.headers())) {
                    // RFC 9110, 7.6.1: what is said of this connection alone is named as such, or a proxy may pass it on.
                    answer
                        .headers_mut()
                        .append(CONNECTION, HeaderValue::from_static("keep-alive"));
                    answer.headers_mut().insert(KEEP_ALIVE, kept);
                }
                Ok(answer.map(|body| watched(body, asked)))
            }
        })
    }

    /// Resolves once nothing has been under way for so long.
    pub(super) async fn idle(&self, long: Duration) {
        self.since(long, |requests| {
            requests.under_way.is_empty().then_some(requests.quiet_since)
        })
        .await;
    }

    /// The same of a connection on which nothing was ever asked, by whichever protocol.
    pub(super) async fn unasked(&self, long: Duration) {
        self.since(long, |requests| (requests.next == 0).then_some(requests.quiet_since))
            .await;
    }

    /// The same in HTTP/2, for a connection that is to be closed; in HTTP/1 what is left to write is bounded.
    pub(super) async fn lingering(&self, long: Duration) {
        self.since(long, |requests| {
            (requests.http2 && requests.under_way.is_empty()).then_some(requests.quiet_since)
        })
        .await;
    }

    /// Resolves once an answer has waited for so long to be taken.
    pub(super) async fn untaken(&self, long: Duration) {
        self.since(long, |requests| requests.under_way.values().flatten().min().copied())
            .await;
    }

    /// Resolves once `began` has been `long` ago.
    async fn since(&self, long: Duration, began: impl Fn(&Requests) -> Option<Instant>) {
        loop {
            // What has not begun by now cannot be over sooner.
            let end = began(&self.lock()).unwrap_or_else(Instant::now) + long;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn asked(&self, version: Version) -> Asked {
        let mut requests = self.lock();
        let (key, http2) = (requests.next, version == Version::HTTP_2);
        requests.next += 1;
        requests.http2 |= http2;
        requests.under_way.insert(key, None);
        Asked {
            attention: self.clone(),
            key,
            http2,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a head says that nothing follows on its connection.
fn is_last(head: &HeaderMap) -> bool {
    let lines = head.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let mut words = lines.flat_map(|line| line.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("close"))
}

/// A request under way, until its answer has been handed over or is given up.
struct Asked {
    attention: Attention,
    key: u64,
    http2: bool,
}

impl Asked {
    fn set(&self, waits: Option<Instant>) {
        self.attention.lock().under_way.insert(self.key, waits);
    }
}

impl Watch for Asked {
    fn wanted(&mut self) {
        self.set(None);
    }

    fn passed(&mut self) {
        // In HTTP/1 the next piece is not wanted before many have been written, however steadily the client reads.
        self.set(self.http2.then(Instant::now));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut requests = self.attention.lock();
        requests.under_way.remove(&self.key);
        if requests.under_way.is_empty() {
            requests.quiet_since = Instant::now();
        }
    }
}
