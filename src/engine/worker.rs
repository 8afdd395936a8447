//! The engine's thread: loads the model and runs it.

use std::sync::Arc;

use super::shared::{Phase, Shared};
use super::{Backend, BackendError, EngineError, Event, admission};

/// The body of the thread.
pub(super) fn run<F>(shared: Arc<Shared>, make: F)
where
    F: FnOnce() -> Result<Box<dyn Backend>, BackendError>,
{
    let mut backend = match make() {
        Ok(backend) => backend,
        Err(error) => return shared.end(Phase::Failed(error.0)),
    };
    let facts = Arc::new(backend.facts().clone());
    if let Err(why) = admission::agree(&facts, &shared.rules) {
        return shared.end(Phase::Failed(why));
    }
    shared.loaded(facts);
    loop {
        let mail = shared.take_mail(true, |_| true);
        for reply in mail.health {
            let result = shared
                .watched(|| backend.health())
                .map_err(|error| EngineError::Step(error.0));
            let _ = reply.send(result);
        }
        for ticket in mail.joining {
            // Interim: the scheduler is not wired yet; every job is answered, none is served.
            let _ = ticket.events.send(Event::Failed(EngineError::Step(
                "the scheduler is not wired yet".into(),
            )));
            shared.departed(1);
        }
        shared.departed(mail.removed.len());
        if mail.over {
            return shared.end(Phase::Stopped);
        }
    }
}
