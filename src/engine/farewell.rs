//! Why nobody listens to a job any more, told to the worker beside the closed channel of its events.

use std::sync::atomic::{AtomicU8, Ordering};

/// Why a job's events are no longer taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Departure {
    /// Its caller has left.
    #[default]
    Left,
    /// Its caller has what it wanted.
    Enough,
    /// Its caller was told an error before the worker could tell one: the deadline passed, all jobs were cut off, or what comes
    /// after the engine failed.
    GivenUp,
}

/// Said once, before the channel is closed.
#[derive(Debug, Default)]
pub(super) struct Farewell(AtomicU8);

impl Farewell {
    pub(super) fn say(&self, why: Departure) {
        self.0.store(why as u8, Ordering::Release);
    }

    /// What was said; nothing is said by who just leaves.
    pub(super) fn said(&self) -> Departure {
        let said = self.0.load(Ordering::Acquire);
        let all = [Departure::Enough, Departure::GivenUp];
        all.into_iter().find(|&why| why as u8 == said).unwrap_or_default()
    }
}
