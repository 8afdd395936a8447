//! Whether the server can do its work: asked of the engine's thread and the device, not guessed.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::error::{ApiError, ErrorCode};
use crate::engine::{Engine, EngineError, EngineState};

/// An answer is kept for so long, so that probes cost next to nothing.
const KEPT: Duration = Duration::from_secs(1);
/// An engine that has not answered by then is in a long step: a long prompt on a CPU takes seconds. Its watchdog then says whether
/// it is taken for stalled, so that a busy server stays in service. Shorter than the time-outs of probes.
const PATIENCE: Duration = Duration::from_secs(2);
/// As [`PATIENCE`], for a scrape of the meters, which comes often and asks for much else.
const GLANCE: Duration = Duration::from_millis(100);

/// Looks at the engine's health, at most once a second.
pub struct Health {
    engine: Engine,
    last: Mutex<Option<(Instant, Result<(), EngineError>)>>,
}

impl Health {
    /// Of this engine.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            last: Mutex::new(None),
        }
    }

    /// Asks the engine, or gives its answer of less than a second ago. Those who ask at the same time share one answer.
    ///
    /// # Errors
    /// While the model loads, when the device fails or does not answer, and when the engine has ended.
    pub async fn check(&self) -> Result<(), ApiError> {
        let mut last = self.last.lock().await;
        let fresh = last
            .as_ref()
            .filter(|(at, _)| at.elapsed() < KEPT)
            .map(|(_, answer)| answer.clone());
        let answer = match fresh {
            // Failures are not kept: recovery and the end of loading show at once.
            Some(Ok(())) => Ok(()),
            _ => {
                let asked = tokio::time::timeout(PATIENCE, self.engine.health()).await;
                let answer = asked.unwrap_or_else(|_| self.by_the_watchdog());
                *last = Some((Instant::now(), answer.clone()));
                answer
            }
        };
        answer.map_err(|error| match error {
            // A device that fails its health check is not ready, whatever the failure.
            EngineError::Step(_) => ApiError::new(ErrorCode::Stalled, "The device failed a health check."),
            other => other.into(),
        })
    }

    /// What [`Health::check`] would say, without waiting for a long step.
    pub async fn glance(&self) -> bool {
        let asked = tokio::time::timeout(GLANCE, self.check()).await;
        asked.map_or_else(|_| self.by_the_watchdog().is_ok(), |answer| answer.is_ok())
    }

    /// Of an engine that did not answer.
    fn by_the_watchdog(&self) -> Result<(), EngineError> {
        match self.engine.state() {
            EngineState::Ready => Ok(()),
            _ => Err(EngineError::Stalled),
        }
    }
}
