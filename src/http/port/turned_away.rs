//! Connections that found no place. They get a short answer, but for those beyond as many as are answered at a time; all are counted, and the log is told of
//! them now and then: a line for each would fill it just when there is too much to do anyway.

use std::io;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::metrics;

/// From one line to the next.
const PAUSE: Duration = Duration::from_secs(10);
/// Time for a client that found no place to say what it wants.
const GREETING: Duration = Duration::from_millis(500);
/// How a liveness probe begins. It is answered all the same: whoever restarts a process that does not answer would restart the busiest.
const PROBE: &[u8] = b"GET /livez ";

/// Answers a client for whom there is no place: that it is so, or that the process lives where it asks for that. No more of its request is read.
pub(super) async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut asked = [0; PROBE.len()];
    let probe = matches!(timeout(GREETING, stream.read_exact(&mut asked)).await, Ok(Ok(_))) && asked == PROBE;
    let text = if probe { alive() } else { refusal() };
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    // Bytes left unread would make the system reset the connection, and the answer with it.
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

fn alive() -> String {
    metrics::request("/livez", "GET", StatusCode::OK.as_u16(), Duration::ZERO);
    response("200 OK", "", r#"{"status":"alive"}"#)
}

fn refusal() -> String {
    let error = ApiError::new(
        ErrorCode::TooManyConnections,
        "Too many connections are open; try again in a moment.",
    );
    metrics::error(error.code);
    count();
    let id = uuid::Uuid::now_v7().to_string();
    let body = serde_json::to_string(&error.body(&id)).unwrap_or_default();
    let more = format!("retry-after: 1\r\nx-request-id: {id}\r\n");
    response("429 Too Many Requests", &more, &body)
}

/// Counts a connection that found no place, whether or not it is told so. Nothing is known of the request that it might have been.
pub(super) fn count() {
    metrics::request(
        "unmatched",
        "other",
        StatusCode::TOO_MANY_REQUESTS.as_u16(),
        Duration::ZERO,
    );
}

/// A whole response, after which the connection is closed. `more` are header lines. As of any answer, nobody is to keep it or to guess what it is.
fn response(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n{more}connection: close\r\n\r\n{body}"
    )
}

/// How many were turned away since the log last told of any.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    untold: u64,
    told: Option<Instant>,
}

impl TurnedAway {
    /// Counts one more, at `now`; gives how many there are to tell of, if it is time to.
    pub(super) fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < PAUSE)
        {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_that_follow_are_told_together() {
        let (mut turned_away, begun) = (TurnedAway::default(), Instant::now());
        assert_eq!(turned_away.one_more(begun), Some(1));
        for seconds in [0, 3, 9] {
            assert_eq!(turned_away.one_more(begun + Duration::from_secs(seconds)), None);
        }
        assert_eq!(turned_away.one_more(begun + PAUSE), Some(4));
        assert_eq!(turned_away.one_more(begun + PAUSE), None);
        assert_eq!(turned_away.one_more(begun + 5 * PAUSE), Some(2));
    }
}
