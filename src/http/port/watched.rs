//! A body that somebody watches while it goes by.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Most bytes of one piece of a body. HTTP/2 takes a piece for a single byte of window and keeps the rest of it in memory.
const PIECE: usize = 16 << 10;

/// Who watches a body. It is dropped with it.
pub(in crate::http) trait Watch: Send + Unpin + 'static {
    /// The next piece is wanted.
    fn wanted(&mut self) {}

    /// A piece has gone by.
    fn passed(&mut self) {}

    /// The body has broken off.
    fn broke(&mut self) {}

    /// The last of the body has gone by. May be said more than once.
    fn ended(&mut self) {}

    /// Whoever was to read the body has dropped it, whether it was at its end or not.
    fn dropped(&mut self, _body: Body) {}
}

/// A body and who watches it.
struct Watched<W: Watch> {
    body: Body,
    /// What has come of it and not gone by.
    rest: Bytes,
    watch: W,
}

/// The same body, watched. One that is at its end already may never be asked for anything; then it has ended here.
pub(in crate::http) fn watched(body: Body, mut watch: impl Watch) -> Body {
    if body.is_end_stream() {
        watch.ended();
    }
    Body::new(Watched {
        body,
        rest: Bytes::new(),
        watch,
    })
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
        self.watch.wanted();
        let frame = match self.rest.is_empty() {
            true => ready!(Pin::new(&mut self.body).poll_frame(context)),
            false => Some(Ok(Frame::data(std::mem::take(&mut self.rest)))),
        };
        let frame = frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(mut data) => {
                    self.rest = data.split_off(data.len().min(PIECE));
                    Frame::data(data)
                }
                Err(other) => other,
            })
        });
        self.watch.passed();
        if matches!(frame, Some(Err(_))) {
            self.watch.broke();
        }
        if frame.is_none() || self.is_end_stream() {
            self.watch.ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
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

    #[tokio::test]
    async fn a_large_piece_goes_by_in_small_ones_and_its_length_stays_known() {
        let whole: Vec<u8> = (0..PIECE * 2 + 1).map(|i| i as u8).collect();
        let mut body = watched(Body::from(whole.clone()), Notes::default());
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("a frame").into_data().expect("data");
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
            assert_eq!(body.size_hint().exact(), Some((whole.len() - read.len()) as u64));
        }
        assert_eq!(read, whole);
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
