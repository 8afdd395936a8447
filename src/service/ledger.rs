//! What is known of the work on a request while it goes on, for whoever logs it: of one that comes to no end, too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is known so far; nothing of what has not come to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Reading the image and laying out the prompt, the wait for an image worker included; also where it failed.
    pub preprocess: Option<Duration>,
    /// Waiting in the engine's queue, until the first work on any reply. Known once the engine has ended a reply by itself:
    /// not where a stop text did.
    pub queue: Option<Duration>,
    /// From the call to the first new token of any reply.
    pub first_token: Option<Duration>,
    /// Prompt tokens, image codes included, over all replies.
    pub prompt_tokens: Option<usize>,
    /// Tokens that were generated, over all replies.
    pub generated_tokens: Option<usize>,
}

/// Where these are entered. Cheap to clone; clones share the entries.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

impl Ledger {
    /// Changes the entries.
    pub fn enter(&self, change: impl FnOnce(&mut Entries)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The entries as they are now.
    pub fn entries(&self) -> Entries {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
