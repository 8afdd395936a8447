//! Work that would hold up other requests.

use tokio::task::JoinHandle;

/// Runs on a blocking thread. What is logged there belongs to the request, too.
pub(crate) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
}
