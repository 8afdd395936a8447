//! A connection that gives up on clients that do not speak and on clients that do not listen.
//!
//! hyper bounds the time of an HTTP/1 head itself, but only once it knows that this is HTTP/1; until then, and while it waits to
//! write, nothing does. [`Timed`] closes both gaps.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What an HTTP/2 client sends first (RFC 9113, 3.4). As long as only a beginning of it has come, the protocol is not known.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with time limits on its first bytes and on every write.
pub(super) struct Timed<S> {
    stream: S,
    /// Runs until the protocol is known.
    opening: Option<Pin<Box<Sleep>>>,
    /// Bytes of the preface that have come.
    matched: usize,
    write_timeout: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, opening: Duration, write_timeout: Duration) -> Self {
        Self {
            stream,
            opening: Some(Box::pin(sleep(opening))),
            matched: 0,
            write_timeout,
            waiting: None,
        }
    }

    fn note_opening(&mut self, bytes: &[u8]) {
        let expected = PREFACE.get(self.matched..).unwrap_or_default();
        let begins = bytes.len() < expected.len() && expected.starts_with(bytes);
        self.matched += bytes.len();
        if !begins {
            self.opening = None;
        }
    }

    /// Bounds the time of a write that is not done.
    fn bound<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let until = Instant::now() + self.write_timeout;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        waiting
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.opening.is_some() && read.is_ready() {
            let new = buffer.filled().get(before..).unwrap_or_default();
            self.note_opening(new);
        }
        match &mut self.opening {
            Some(opening) if read.is_pending() => opening
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            _ => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, data);
        self.bound(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bound(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(context, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn a_client_that_begins_a_preface_and_stops_is_cut_off() {
        let (mut client, server) = duplex(64);
        let mut server = Timed::new(server, SHORT, SHORT);
        client.write_all(b"PRI * HT").await.expect("written");
        let mut read = Vec::new();
        let error = server.read_to_end(&mut read).await.expect_err("cut off");
        assert_eq!(
            (error.kind(), read.as_slice()),
            (io::ErrorKind::TimedOut, &b"PRI * HT"[..])
        );
    }

    #[tokio::test]
    async fn once_the_protocol_is_known_reads_are_left_to_hyper() {
        for first in [&b"POST"[..], PREFACE] {
            let (mut client, server) = duplex(64);
            let mut server = Timed::new(server, SHORT, SHORT);
            client.write_all(first).await.expect("written");
            let mut buffer = [0; 64];
            assert_eq!(server.read(&mut buffer).await.expect("read"), first.len());
            assert!(
                tokio::time::timeout(SHORT * 3, server.read(&mut buffer)).await.is_err(),
                "it should wait"
            );
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (_client, server) = duplex(16);
        let mut server = Timed::new(server, SHORT, SHORT);
        let error = server.write_all(&[0; 64]).await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
