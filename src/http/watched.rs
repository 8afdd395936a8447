//! A body that somebody watches while it goes by.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Who watches a body. It is dropped with it.
pub(super) trait Watch: Send + Unpin + 'static {
    /// The last of the body has gone by. May be said more than once.
    fn ended(&mut self) {}

    /// Whoever was to read the body has dropped it, whether it was at its end or not.
    fn dropped(&mut self, _body: Body) {}
}

/// A body and who watches it.
struct Watched<W: Watch> {
    body: Body,
    watch: W,
}

/// The same body, watched. One that is at its end already may never be asked for anything; then it has ended here.
pub(super) fn watched(body: Body, mut watch: impl Watch) -> Body {
    if body.is_end_stream() {
        watch.ended();
    }
    Body::new(Watched { body, watch })
}

impl<W: Watch> Drop for Watched<W> {
    fn drop(&mut self) {
        self.watch.dropped(std::mem::take(&mut self.body));
    }
}

impl<W: Watch> HttpBody for Watched<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.watch.ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http_body_util::BodyExt;

    use super::*;

    /// What a watch saw, in order.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<&'static str>>>);

    impl Watch for Notes {
        fn ended(&mut self) {
            let mut seen = self.0.lock().expect("not poisoned");
            if seen.last() != Some(&"ended") {
                seen.push("ended");
            }
        }

        fn dropped(&mut self, body: Body) {
            let left = if body.is_end_stream() {
                "dropped"
            } else {
                "dropped early"
            };
            self.0.lock().expect("not poisoned").push(left);
        }
    }

    impl Notes {
        fn seen(&self) -> Vec<&'static str> {
            self.0.lock().expect("not poisoned").clone()
        }
    }

    #[tokio::test]
    async fn a_body_that_is_read_to_its_end_says_so_before_it_is_dropped() {
        let notes = Notes::default();
        let body = watched(Body::from("all of it"), notes.clone());
        assert_eq!(body.size_hint().exact(), Some(9), "its length stays known");
        assert_eq!(body.collect().await.expect("read").to_bytes(), "all of it");
        assert_eq!(notes.seen(), ["ended", "dropped"]);
    }

    #[test]
    fn a_body_that_nobody_reads_is_given_back() {
        let notes = Notes::default();
        drop(watched(Body::from("all of it"), notes.clone()));
        assert_eq!(notes.seen(), ["dropped early"]);
    }

    #[test]
    fn an_empty_body_has_ended_at_once() {
        let notes = Notes::default();
        drop(watched(Body::empty(), notes.clone()));
        assert_eq!(notes.seen(), ["ended", "dropped"]);
    }
}
