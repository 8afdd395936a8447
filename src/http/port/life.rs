//! The life of the server: whether it drains, and how many requests are under way.

use std::sync::Arc;

use tokio::sync::watch;

/// Shared by the routes, which count themselves in, and the accept loop, which waits for them.
#[derive(Clone, Debug)]
pub struct Life {
    draining: Arc<watch::Sender<bool>>,
    under_way: Arc<watch::Sender<usize>>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            draining: Arc::new(watch::Sender::new(false)),
            under_way: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Life {
    /// From now on the server is not ready, and answers close their connections.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether [`Life::drain`] was called.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves once [`Life::drain`] is called.
    pub async fn drained(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Counts a request in until the guard is dropped, which is when the last byte of its answer has been handed over.
    pub fn enter(&self) -> UnderWay {
        self.under_way.send_modify(|n| *n += 1);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        *self.under_way.borrow()
    }

    /// Resolves when no request is under way.
    pub async fn idle(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.under_way.subscribe().wait_for(|n| *n == 0).await;
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay(Arc<watch::Sender<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}
