//! Work that is given up when its request is.

use std::future::{Future, pending};
use std::time::Instant;

use super::ServiceError;
use crate::engine::EngineError;

/// What `work` gives, or why it was given up before it did: its deadline passed, or its job was `cut` off.
pub(super) async fn within<T, E: Into<ServiceError>>(
    deadline: Option<Instant>,
    cut: impl Future<Output = EngineError>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, ServiceError> {
    let late = async {
        match deadline {
            None => pending::<()>().await,
            Some(at) => tokio::time::sleep_until(at.into()).await,
        }
    };
    tokio::select! {
        biased;
        done = work => done.map_err(Into::into),
        why = cut => Err(why.into()),
        () = late => Err(EngineError::DeadlineExceeded.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_never_ends_is_given_up_at_its_deadline_and_other_work_is_not() {
        let now = Instant::now();
        let never = pending::<Result<(), ServiceError>>();
        assert!(matches!(
            within(Some(now + Duration::from_millis(5)), pending(), never).await,
            Err(ServiceError::Engine(EngineError::DeadlineExceeded))
        ));
        for deadline in [None, Some(now + Duration::from_secs(60))] {
            let done = ready(Ok::<_, ServiceError>(7));
            assert!(matches!(within(deadline, pending(), done).await, Ok(7)));
        }
    }

    #[tokio::test]
    async fn work_that_never_ends_is_given_up_when_its_job_is_cut_off() {
        let later = Instant::now() + Duration::from_secs(60);
        for deadline in [None, Some(later)] {
            let never = pending::<Result<(), ServiceError>>();
            let given_up = within(deadline, ready(EngineError::ShuttingDown), never).await;
            assert!(matches!(given_up, Err(ServiceError::Engine(EngineError::ShuttingDown))));
        }
    }
}
