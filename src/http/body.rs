//! Reading request bodies within bounds of size, of time, and of memory over all requests together.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ErrorCode};
use super::life::Life;
use crate::engine::EngineError;

/// One permit of the budget stands for so many bytes.
const UNIT: u64 = 1024;

/// Bounds on bodies, shared by all requests.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    largest: u64,
    timeout: Duration,
    life: Life,
    budget: Arc<Semaphore>,
}

/// A body that has been read. Its share of the budget is given back when it is dropped.
#[derive(Debug)]
pub struct Collected {
    /// The bytes.
    pub bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

impl Collected {
    /// Takes the bytes out; the share stays taken until the returned permit is dropped.
    pub fn into_parts(self) -> (Bytes, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.share)
    }
}

impl BodyLimits {
    /// Bodies of at most `largest` bytes each and `together` bytes at a time, each read within `timeout`, and none once `life` ends.
    pub fn new(largest: u64, together: u64, timeout: Duration, life: Life) -> Self {
        let units = usize::try_from(together.div_ceil(UNIT)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            largest,
            timeout,
            life,
            budget: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// 413 as soon as it is known to be too large, 408 when it does not come in time, 429 when the bodies being read hold all
    /// the memory there is for them, 400 when it is empty or breaks off (and whether its client has left then); 503 when the server begins to drain before all of it has come.
    pub async fn collect(&self, headers: &HeaderMap, body: Body) -> Result<Collected, ApiError> {
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
            share: None,
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
        let message = format!(
            "The body is larger than {} bytes; send a smaller image, or the file itself as a form's part or as the raw body, where it \
             takes a quarter less than in base64.",
            self.largest
        );
        ApiError::new(ErrorCode::BodyTooLarge, message)
    }
}

struct Reading<'a> {
    limits: &'a BodyLimits,
    bytes: BytesMut,
    share: Option<OwnedSemaphorePermit>,
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
            self.reserve(length)?;
            self.bytes.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Takes the share of the budget for a body of `length` bytes.
    fn reserve(&mut self, length: u64) -> Result<(), ApiError> {
        let held = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let missing = length.div_ceil(UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let busy = || {
            let message = "Too many large requests are being read; try again in a moment.";
            ApiError::new(ErrorCode::TooManyBodies, message)
        };
        let missing = u32::try_from(missing).map_err(|_| self.limits.too_large())?;
        let more = Arc::clone(&self.limits.budget)
            .try_acquire_many_owned(missing)
            .map_err(|_| busy())?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }
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
            .collect(&HeaderMap::new(), body)
            .await
            .expect_err("refused")
            .code
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_cut_off_at_the_limit() {
        assert_eq!(code(chunks(vec![vec![0; 1000]; 5])).await, ErrorCode::BodyTooLarge);
        let read = limits()
            .collect(&HeaderMap::new(), chunks(vec![vec![7; 1024]; 4]))
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
            let error = limits().collect(&HeaderMap::new(), body).await.expect_err("broken");
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
        let read = async || limits.collect(&HeaderMap::new(), Body::from(vec![1; 4096])).await;
        let (first, second) = (read().await.expect("room"), read().await.expect("room"));
        assert_eq!(read().await.expect_err("no room").code, ErrorCode::TooManyBodies);
        drop((first, second));
        assert!(read().await.is_ok());
    }
}
