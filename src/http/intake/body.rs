//! Reading request bodies within bounds of size, of time, and of memory over all requests together (`budget`).

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::budget::{Budget, Refused, Share};
use crate::engine::{Caller, EngineError};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::port::life::Life;

/// Bounds on bodies, shared by all requests.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    largest: u64,
    timeout: Duration,
    life: Life,
    budget: Arc<Budget>,
}

/// A body that has been read. Its share of the budget is given back when it is dropped.
#[derive(Debug)]
pub struct Collected {
    /// The bytes.
    pub bytes: Bytes,
    share: Share,
}

impl Collected {
    /// Takes the bytes out; the share stays taken until it is dropped.
    pub fn into_parts(self) -> (Bytes, Share) {
        (self.bytes, self.share)
    }
}

impl BodyLimits {
    /// Bodies of at most `largest` bytes each and `together` bytes at a time, each read within `timeout`, and none once `life` ends.
    pub fn new(largest: u64, together: u64, timeout: Duration, life: Life) -> Self {
        Self {
            largest,
            timeout,
            life,
            budget: Budget::new(together),
        }
    }

    /// Bytes of memory that bodies hold, and those that there are for all of them.
    pub fn memory(&self) -> (u64, u64) {
        self.budget.standing()
    }

    /// Reads a body that this caller sends.
    ///
    /// # Errors
    /// 413 as soon as it is known to be too large, 408 when it does not come in time, 429 when the bodies being read hold all
    /// the memory there is for them, or its caller's hold their share of it, 400 when it is empty or breaks off (and whether its client has left then); 503 when the server begins to drain before all of it has come.
    pub async fn collect(&self, caller: Caller, headers: &HeaderMap, body: Body) -> Result<Collected, ApiError> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<u64>().ok());
        if announced.is_some_and(|n| n > self.largest) {
            return Err(self.too_large());
        }
        let mut reading = Reading {
            limits: self,
            bytes: BytesMut::new(),
            share: Share::new(&self.budget, caller),
        };
        let slow = || {
            let seconds = self.timeout.as_secs_f64();
            ApiError::new(
                ErrorCode::BodyTimeout,
                format!("The body did not come within {seconds} s; send it faster."),
            )
        };
        tokio::select! {
            biased;
            read = tokio::time::timeout(self.timeout, reading.run(body)) => read.map_err(|_| slow())??,
            // Its request would be refused; whoever sends slowly must not hold the end back.
            () = self.life.drained() => return Err(EngineError::ShuttingDown.into()),
        }
        if reading.bytes.is_empty() {
            return Err(ApiError::new(
                ErrorCode::EmptyBody,
                "The body is empty; send JSON, multipart/form-data or an image.",
            ));
        }
        Ok(Collected {
            bytes: reading.bytes.freeze(),
            share: reading.share,
        })
    }

    fn too_large(&self) -> ApiError {
        let megabytes = match self.largest {
            0..100_000 => String::new(),
            largest => format!(" ({:.1} MB)", largest as f64 / 1e6),
        };
        let message = format!(
            "The body is larger than {} bytes{megabytes}; send a smaller or recompressed image, or the file itself as a form's part or as the \
             raw body, where it takes a quarter less than in base64.",
            self.largest
        );
        ApiError::new(ErrorCode::BodyTooLarge, message)
    }
}

struct Reading<'a> {
    limits: &'a BodyLimits,
    bytes: BytesMut,
    share: Share,
}

impl Reading<'_> {
    async fn run(&mut self, mut body: Body) -> Result<(), ApiError> {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else {
                continue;
            };
            let length = (self.bytes.len() + data.len()) as u64;
            if length > self.limits.largest {
                return Err(self.limits.too_large());
            }
            self.share.grow_to(length).map_err(no_memory)?;
            self.bytes.extend_from_slice(&data);
        }
        Ok(())
    }
}

/// The error for a request that there is no memory for.
pub(super) fn no_memory(refused: Refused) -> ApiError {
    let message = match refused {
        Refused::Full => "Too many large requests are being read; try again in a moment.",
        Refused::Share => {
            "This API key's requests that are being read hold its share of the memory for them, and what is left is kept for other \
             keys; try again when some of them have been read."
        }
    };
    ApiError::new(ErrorCode::TooManyBodies, message)
}

/// The error for a body that ended with `error`. Where it was not for the body's own format, the connection or the stream has ended.
fn broken(error: &axum::Error) -> ApiError {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&cause| cause.source());
    let mut kinds = causes.filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    // What hyper says of chunks that are none.
    let malformed = kinds.any(|kind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
    let message = match malformed {
        true => "The body's chunks break their format; send it again, or with a Content-Length.",
        false => "The body broke off before its end; send it again.",
    };
    ApiError {
        client_left: !malformed,
        ..ApiError::new(ErrorCode::BodyIncomplete, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BodyLimits {
        BodyLimits::new(4096, 8192, Duration::from_millis(50), Life::default())
    }

    fn chunks(parts: Vec<Vec<u8>>) -> Body {
        Body::from_stream(futures::stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>)))
    }

    async fn code(body: Body) -> ErrorCode {
        limits()
            .collect(Caller::ONLY, &HeaderMap::new(), body)
            .await
            .expect_err("refused")
            .code
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_cut_off_at_the_limit() {
        assert_eq!(code(chunks(vec![vec![0; 1000]; 5])).await, ErrorCode::BodyTooLarge);
        let read = limits()
            .collect(Caller::ONLY, &HeaderMap::new(), chunks(vec![vec![7; 1024]; 4]))
            .await
            .expect("at the limit");
        assert_eq!(read.bytes.len(), 4096);
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        assert_eq!(
            code(Body::from_stream(futures::stream::pending::<
                Result<Bytes, std::io::Error>,
            >()))
            .await,
            ErrorCode::BodyTimeout
        );
        assert_eq!(code(Body::empty()).await, ErrorCode::EmptyBody);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_tells_whether_its_client_is_still_there() {
        for (kind, left) in [
            (io::ErrorKind::UnexpectedEof, true),
            (io::ErrorKind::ConnectionReset, true),
            (io::ErrorKind::InvalidInput, false),
            (io::ErrorKind::InvalidData, false),
        ] {
            let pieces = [Ok(Bytes::from_static(b"some")), Err(io::Error::from(kind))];
            let body = Body::from_stream(futures::stream::iter(pieces));
            let error = limits()
                .collect(Caller::ONLY, &HeaderMap::new(), body)
                .await
                .expect_err("broken");
            assert_eq!(
                (error.code, error.client_left),
                (ErrorCode::BodyIncomplete, left),
                "{kind}"
            );
        }
    }

    #[tokio::test]
    async fn bodies_together_never_hold_more_than_their_budget() {
        let limits = limits();
        let read = async || {
            limits
                .collect(Caller::ONLY, &HeaderMap::new(), Body::from(vec![1; 4096]))
                .await
        };
        let (first, second) = (read().await.expect("room"), read().await.expect("room"));
        assert_eq!(read().await.expect_err("no room").code, ErrorCode::TooManyBodies);
        assert_eq!(limits.memory(), (8192, 8192));
        drop((first, second));
        assert_eq!(limits.memory(), (0, 8192));
        assert!(read().await.is_ok());
    }
}
