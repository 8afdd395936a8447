//! Work that is given up when its request is.

use std::future::Future;
use std::time::Instant;

use super::ServiceError;
use crate::engine::EngineError;

/// What `work` gives, or that the deadline passed before it did.
pub(super) async fn within<T, E: Into<ServiceError>>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, ServiceError> {
    match deadline {
        None => work.await.map_err(Into::into),
        Some(at) => match tokio::time::timeout_at(at.into(), work).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => Err(EngineError::DeadlineExceeded.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_never_ends_is_given_up_at_its_deadline_and_other_work_is_not() {
        let now = Instant::now();
        let never = pending::<Result<(), ServiceError>>();
        assert!(matches!(
            within(Some(now + Duration::from_millis(5)), never).await,
            Err(ServiceError::Engine(EngineError::DeadlineExceeded))
        ));
        for deadline in [None, Some(now + Duration::from_secs(60))] {
            let done = ready(Ok::<_, ServiceError>(7));
            assert!(matches!(within(deadline, done).await, Ok(7)));
        }
    }
}
